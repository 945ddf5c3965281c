"""A new user finds what is wrong by `rayfeed doctor`, `rayfeed status` or the dashboard alone: a dead exchange, a full
disk, a wrong ClickHouse URL and a stale symbol on one instance. The fifth, a taken port, is known before anything runs:
see tests/cluster_parts/test_doctor.py.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import doctor
from cluster.instance import free_ports
from tests.cluster.running import Instance, command, rayfeed_up
from tests.polling import wait_until

#: With more than what counts as full to begin with; the rest is filled by the test.
DISK = "size=400m"
STALE_S = 3


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The data folder, on a disk of its own; the simulated exchanges keep their trades on another, as they are to go on
    when this one is full."""
    place = tmp_path / "disk"
    mounted: list[Path] = []
    try:
        for one in (place, place / "data" / "simulator"):
            one.mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(one)], check=True, capture_output=True)
            mounted.append(one)
        yield place / "data"
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("file systems cannot be mounted here")
    finally:
        for one in reversed(mounted):
            subprocess.run(["umount", "-l", str(one)], check=True)


def examined(instance: Instance) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and what is said of each check."""
    began = time.monotonic()
    done = command("doctor", "--json", "--data", str(instance.data))
    # Python, Ray and two busy processors; what is looked at itself has no longer than this.
    assert time.monotonic() - began < 2 * doctor.LIMIT_S
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["findings"]}


def bad(checks: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in checks.items() if one["state"] == "wrong"}


def test_each_of_the_seeded_faults_is_found_and_told_with_its_remedy(small_disk: Path) -> None:
    data, film = small_disk, small_disk.parent / "film"
    [nobody] = free_ports(1)
    wrong_url = {
        "CLICKHOUSE_URL": f"clickhouse://user:hidden-word@127.0.0.1:{nobody}/rayfeed",
        "RAYFEED_COLLECTOR__STALE_S": str(STALE_S),
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": '["BTCUSDT", "ETHUSDT"]',
        # Files of columns have room for 512 rows in the last page they got: a full disk is met when that is used up.
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "200",
    }
    with rayfeed_up(data, "--exchanges", "binance,kraken", environment=wrong_url) as instance:
        wait_until(lambda: {row["state"] for row in instance.json("/api/v1/integrity")} == {"synced"})
        looks: list[tuple[int, dict[str, dict[str, Any]]]] = []

        # Whoever does not answer in time, right after the start, is said to be wrong too.
        def nothing_else() -> bool:
            looks.append(examined(instance))
            return looks[-1][0] == 1 and bad(looks[-1][1]) == {"ClickHouse (server)"}

        wait_until(nothing_else, 60)
        _, checks = looks[-1]
        assert "cannot be reached" in checks["ClickHouse (server)"]["found"]
        assert "CLICKHOUSE_URL" in checks["ClickHouse (server)"]["remedy"]
        assert checks["data"]["state"] == checks["HTTPS"]["state"] == checks["kraken"]["state"] == "ok"

        def dashboard() -> str:
            return json.dumps([json.loads(instance.get(path)[2]) for path in ("/api/v1/health", "/api/v1/integrity")])

        def told() -> str:
            return command("status", "--data", str(data), "--json").stdout

        # On a full disk it says instead that its rows cannot be kept.
        assert "cannot be reached" in dashboard()
        for fault in (("kraken", "restart"), ("binance", "stall", "--symbol", "ETHUSDT")):
            assert command("sim", "fault", *fault, "--for", "300", "--data", str(data)).returncode == 0
        away = ("status 101", "no message for too long")
        wait_until(lambda: all(words in dashboard() for words in away))
        code, checks = examined(instance)
        assert code == 1
        assert bad(checks) >= {"kraken", "kraken, 4 symbols", "binance ETHUSDT", "ClickHouse (server)"}
        assert "the exchange is away" in checks["kraken"]["found"]
        assert "503" in checks["kraken"]["found"]
        assert "rayfeed sim faults" in checks["kraken"]["remedy"]
        assert "ETHUSDT stale since" in checks["binance ETHUSDT"]["found"]
        assert "no message for too long" in checks["binance ETHUSDT"]["found"]
        assert checks["binance"]["state"] == "ok", "only one of its symbols is stale"
        shown = told()
        assert all(words in shown for words in away)

        # Last, as collectors stop reading when shards cannot write, and then every symbol is stale.
        with film.open("wb", buffering=0) as filling, pytest.raises(OSError, match="No space left"):
            while True:
                filling.write(bytes(1 << 20))
        wait_until(lambda: "cannot write column files: No space left" in dashboard())
        code, checks = examined(instance)
        assert code == 1
        assert bad(checks) >= {"space", "kraken", "ClickHouse (server)"}
        assert checks["space"]["found"].startswith("the disk is full: ")
        assert "make room" in checks["space"]["remedy"]
        assert "column files: No space left" in "".join(one["found"] for one in checks.values())
        full = told()
        assert "cannot write column files" in full
        assert "hidden-word" not in json.dumps(checks) + dashboard() + shown + full

        film.unlink()
        wait_until(lambda: "cannot write column files" not in dashboard())
