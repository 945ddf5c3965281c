"""What `rayfeed doctor` says without an instance, and what its judges make of what others said."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster import doctor, doctor_instance, doctor_reach
from cluster.doctor_findings import Finding, as_dict, limited, ok, shown, verdict, warning, without_doubles, wrong
from cluster.doctor_installed import certificate, expiry, packages, python_version, secrets
from cluster.doctor_machine import (
    GIB,
    MIB,
    clock,
    disk,
    inodes_left,
    kernel_clock,
    known_ports,
    memory,
    open_files,
    processes,
    shared_memory,
    space,
    speed,
)
from cluster.doctor_reach import Door
from cluster.instance import Details
from config import load
from tests.servers import RedisServer, free_port

NOW_NS = 1_769_860_800_000_000_000
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def run(data: Path, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "cluster.cli", "doctor", "--json", "--data", str(data), *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def found(said: dict[str, Any], check: str) -> dict[str, Any]:
    [finding] = [one for one in said["findings"] if one["check"] == check]
    return dict(finding)


# ---- the whole command, nothing runs


def test_a_taken_port_is_named_with_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run(tmp_path, "--port", str(port), "--tls-port", str(free_port()))
    assert (code, said["running"], said["state"]) == (1, False, "wrong")
    one = found(said, f"HTTP {port}")
    assert (one["state"], one["area"]) == ("wrong", "ports")
    assert f"(pid {os.getpid()})" in one["found"]
    assert "choose another with --port" in one["remedy"]
    assert said["verdict"].startswith("1 thing is wrong")
    assert f"First, HTTP {port}: choose another with --port" in said["verdict"]


def test_with_nothing_wrong_it_ends_well_quickly_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = list(tmp_path.iterdir())
    began = time.monotonic()
    code, said = run(tmp_path, "--port", str(free_port()), "--tls-port", str(free_port()))
    assert code == 0, said["verdict"]
    assert time.monotonic() - began < doctor.LIMIT_S
    assert {one["area"] for one in said["findings"]} == {"ports", "disk", "clock", "limits", "versions", "secrets"}
    assert "a synced write takes" in found(said, "write speed")["found"]
    assert list(tmp_path.iterdir()) == before


def test_a_data_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    _, said = run(tmp_path / "new")
    assert "will be made" in found(said, "data folder")["found"]
    assert not (tmp_path / "new").exists()


def test_settings_nobody_knows_are_the_finding(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("shardz: 3\n")
    code, said = run(tmp_path)
    assert code == 1
    assert "shardz" in found(said, "settings")["found"]


def test_servers_that_are_not_there_are_named_and_no_password_is_told(tmp_path: Path) -> None:
    places = {
        "CLICKHOUSE_URL": f"clickhouse://someone:hidden-word@127.0.0.1:{free_port()}/rayfeed",
        "REDIS_URL": f"redis://:hidden-word@127.0.0.1:{free_port()}/0",
        "RAY_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    code, said = run(tmp_path, "--port", str(free_port()), "--tls-port", str(free_port()), **places)
    assert code == 1
    for name, setting in (("ClickHouse", "CLICKHOUSE_URL"), ("Redis", "REDIS_URL"), ("Ray", "RAY_ADDRESS")):
        one = found(said, name)
        assert one["state"] == "wrong"
        assert "refused" in one["found"] or "Connect call failed" in one["found"]
        assert setting in one["remedy"]
    assert "hidden-word" not in json.dumps(said)


def test_exchanges_that_cannot_be_reached_are_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        threading.Thread(target=_answer, args=(there,), daemon=True).start()
        nobody, port = free_port(), there.getsockname()[1]
        code, said = run(
            tmp_path,
            *("--source", "live", "--port", str(free_port()), "--tls-port", str(free_port())),
            RAYFEED_EXCHANGES=json.dumps(
                {
                    name: {"websocket": f"ws://127.0.0.1:{where}", "rest": f"http://127.0.0.1:{where}", "enabled": on}
                    for name, where, on in (
                        ("binance", nobody, True),
                        ("kraken", port, True),
                        *((other, nobody, False) for other in ("bitfinex", "bybit", "coinbase", "deribit", "okx")),
                    )
                }
            ),
        )
    assert code == 1
    assert "refused" in found(said, "binance")["found"].lower()
    assert found(said, "kraken")["state"] == "ok"
    assert found(said, "against exchanges")["state"] == "wrong", "that server's clock stands still"


def _answer(server: socket.socket) -> None:
    head = b"HTTP/1.1 426 Upgrade Required\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
    for _ in range(2):
        connection, _ = server.accept()
        connection.recv(65536)
        connection.sendall(head)
        connection.close()


async def test_a_redis_that_answers_tells_its_version(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        settings = load(tmp_path, {"redis_url": server.url})
        [one] = await doctor_reach.reach(settings, None)
    assert (one.check, one.state) == ("Redis", "ok")
    assert one.found.split()[0].count(".") == 2


def test_what_hangs_is_left_behind_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIMIT_S", 0.2)
    stop = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield ok("disk", "space", "much")
        stop.wait(30)

    def fails() -> list[Finding]:
        raise RuntimeError("no")

    told = doctor._all({"machine": hangs, "reachability": fails})
    stop.set()
    assert [(one.check, one.state) for one in told] == [("space", "ok"), ("time", "wrong"), ("check", "warning")]
    assert "dmesg" in told[1].remedy


# ---- judges


@pytest.mark.parametrize(
    ("finding", "state", "says"),
    [
        (space("/d", 100 * MIB, 50 * GIB), "wrong", "full"),
        (space("/d", GIB, 50 * GIB), "warning", "little room"),
        (space("/d", 40 * GIB, 50 * GIB), "ok", "40.0 GiB of 50.0 GiB"),
        (inodes_left(50, 1_000_000), "wrong", "50 of 1,000,000"),
        (inodes_left(5_000, 1_000_000), "warning", "5,000"),
        (speed(200, 2.0), "ok", "2.0 ms"),
        (speed(3, 120.0), "warning", "120.0 ms"),
        (kernel_clock(0, 0, 12.0), "ok", "12 ms"),
        (kernel_clock(5, 0x40, 16e3), "warning", "nobody keeps"),
        (kernel_clock(0, 0, 2e3), "warning", "2,000 ms"),
        (kernel_clock(-1, 0, 0.0), "warning", "does not say"),
        (open_files(256, 1 << 20), "wrong", "256"),
        (open_files(1024, 2048), "warning", "924 connections"),
        (open_files(1024, None), "ok", "no limit"),
        (processes(None, 200), "wrong", "at most 200"),
        (processes(None, None), "ok", "no limit"),
        (memory(8 * GIB, GIB, GIB // 2, running=False), "warning", "512.0 MiB free (limit 1.0 GiB)"),
        (memory(8 * GIB, None, 0, running=False), "ok", "8.0 GiB"),
        (shared_memory(64 * MIB, 256 * MIB), "warning", "64.0 MiB"),
        (known_ports({6379: "redis-server (pid 7)"}, joined=False), "ok", "redis-server (pid 7)"),
        (known_ports({6379: "redis-server (pid 7)"}, joined=True), "warning", "6379"),
        (python_version((3, 13, 0)), "wrong", "3.13.0"),
        (packages({"ray": "2.60.0"}, {"ray", "typer"}, {"ray": "2.60.0"}), "wrong", "typer"),
        (packages({"ray": "2.60.0"}, {"ray"}, {"ray": "2.59.0"}), "warning", "ray 2.59.0 instead of 2.60.0"),
        (expiry(NOW - timedelta(days=1), NOW, yours=True), "wrong", "expired on 2026-01-30"),
        (expiry(NOW + timedelta(days=9), NOW, yours=True), "warning", "9 days"),
        (expiry(NOW + timedelta(days=9), NOW, yours=False), "ok", "2026-02-09"),
        (doctor_reach.server_version("18.15.1", "db"), "wrong", "too old"),
        (doctor_reach.server_version("18.16.1", "db"), "warning", "cannot forget"),
        (doctor_reach.server_version("26.9.1.1", "db"), "ok", "26.9.1.1 at db"),
        (doctor_reach.exchange("x", Door("wss://a", 101), Door("https://b", 451)), "warning", "451"),
        (doctor_reach.exchange("x", Door("wss://a", 400), Door("https://b", failure="no route")), "wrong", "no route"),
        (doctor_reach.against_exchanges([-0.3, 0.2, 90.0]), "ok", "3 answers"),
        (doctor_reach.against_exchanges([31.0, 30.0, 0.1]), "wrong", "30.0 s behind"),
        (doctor_reach.readiness("http://x", 503, {"status": "starting"}), "wrong", "503 starting"),
    ],
)
def test_what_was_read_is_judged_and_what_is_not_well_has_a_remedy(finding: Finding, state: str, says: str) -> None:
    assert finding.state == state
    assert says in finding.found
    assert bool(finding.remedy) == (state != "ok")


def test_the_kernel_of_this_machine_is_asked_for_its_clock() -> None:
    assert clock().found != "the kernel does not say"


def test_files_others_can_read_are_named_with_how_to_close_them(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(0o700)
    (tmp_path / "secrets" / "api_token").write_text("x")
    assert secrets(tmp_path).state == "ok", "nobody else gets into the folder"
    (tmp_path / "secrets").chmod(0o755)
    one = secrets(tmp_path)
    assert one.state == "wrong"
    assert one.remedy.startswith(f"chmod -R go= {tmp_path}/secrets")


def test_a_certificate_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    assert certificate(load(tmp_path), NOW).state == "ok"
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "edge.pem").write_text("no certificate")
    assert certificate(load(tmp_path), NOW).state == "wrong"


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.doctor_machine.LEAST_DISK", 1 << 60)
    assert [one.check for one in disk(tmp_path) if one.state == "wrong"] == ["space"]


# ---- of an instance


def row(exchange: str, symbol: str, state: str, **more: Any) -> dict[str, Any]:
    return {"exchange": exchange, "symbol": symbol, "state": state, "since": NOW_NS, "why": "why", **more}


def collector(**more: Any) -> dict[str, Any]:
    known = {"exchange": "kraken", "answers": True, "state": "streaming", "symbols": 4, "connects": 3, "connections": 1}
    return {**known, "lag_ms": 3.0, "last_error": "", "failure": "", **more}


def states(findings: Iterator[Finding]) -> dict[str, str]:
    return {one.check: one.state for one in findings}


def test_a_feed_that_is_away_tells_its_last_error_and_its_reconnects(tmp_path: Path) -> None:
    settings = load(tmp_path)
    away = collector(state="waiting", last_error="refused", data_s=12.0)
    [one] = doctor_instance.feeds({"collector:kraken": away}, settings, "sim")
    assert (one.check, one.state) == ("kraken", "wrong")
    for part in ("waiting", "2 reconnects", "no data for 12 s", "refused"):
        assert part in one.found
    assert "rayfeed sim faults" in one.remedy
    [one] = doctor_instance.feeds({"collector:kraken": collector()}, settings, "live")
    assert one.state == "ok"
    [one] = doctor_instance.feeds({"collector:kraken": collector(lag_ms=-9000.0)}, settings, "live")
    assert (one.state, "clock" in one.remedy) == ("warning", True)
    full = collector(batches_in_flight=settings.collector.max_batches_in_flight)
    assert states(doctor_instance.feeds({"c": full}, settings, "sim")) == {"kraken": "ok", "kraken window": "wrong"}


def test_symbols_in_one_state_for_one_reason_are_one_finding_and_the_worst_come_first() -> None:
    minute = 61 * 1_000_000_000
    rows = [
        row("okx", "A", "syncing"),
        row("binance", "OLD", "gapped", since=NOW_NS - minute, missing=7),
        row("binance", "NEW", "gapped", why="lately"),
        *(row("kraken", f"S{number}", "stale") for number in range(6)),
        row("kraken", "OTHER", "stale", why="not traded", since=None),
        row("okx", "B", "synced"),
    ]
    told = list(doctor_instance.integrity(rows, NOW_NS))
    assert [(one.check, one.state) for one in told] == [
        ("symbols", "ok"),
        ("kraken, 6 symbols", "wrong"),
        ("kraken OTHER", "wrong"),
        ("binance OLD", "wrong"),
        ("binance NEW", "warning"),
        ("okx A", "warning"),
    ]
    assert told[1].found == "S0 S1 S2 S3 and 2 more stale since 2026-01-31 12:00:00 UTC: why"
    assert told[2].found == "OTHER stale: not traded"
    assert "7 trades are missing" in told[3].found
    assert "rayfeed symbols remove kraken OTHER" in told[2].remedy


def test_sinks_that_are_away_or_nearly_full_say_so(tmp_path: Path) -> None:
    settings = load(tmp_path)
    spooled = int(0.9 * settings.sinks.spool_bytes)
    away = {"answers": True, "kind": "server", "available": False, "last_error": "refused", "spooled_bytes": spooled}
    redis = {"answers": True, "available": False, "last_error": "gone", "batches_dropped": 7}
    told = list(doctor_instance.sinks({"database": away, "publisher": redis}, settings))
    assert [(one.check, one.state) for one in told] == [
        ("ClickHouse (server)", "wrong"),
        ("spool", "wrong"),
        ("Redis", "wrong"),
        ("lost to Redis", "warning"),
    ]
    assert "CLICKHOUSE_URL" in told[0].remedy
    full = {**away, "last_error": "rows cannot be kept on the disk: No space left on device"}
    assert "make room" in next(iter(doctor_instance.sinks({"database": full}, settings))).remedy


@pytest.mark.parametrize(("available", "state"), [(True, "ok"), (False, "warning"), (None, "warning")])
def test_rows_that_wait_for_a_moment_are_well_while_clickhouse_answers(
    tmp_path: Path, available: bool | None, state: str
) -> None:
    one = {"answers": True, "kind": "embedded", "available": available, "spooled_bytes": 600_000}
    told = {found.check: found.state for found in doctor_instance.sinks({"database": one}, load(tmp_path))}
    assert told["spool"] == state


def test_actors_breakers_days_replicas_and_hosts_are_looked_at() -> None:
    said = {
        "shard:0": {"answers": True, "failure": "cannot write column files: No space left on device"},
        "shard:1": {"answers": False, "failure": ""},
        "poller:yahoo": {"answers": True, "breaker": {"state": "open"}, "last_error": "429"},
        "market_overview": {"answers": True, "remark": "leader, 3 of 9 known; left alone: coingecko"},
        "collector:okx": {"answers": True, "days_failed": {"2026-01-30": "its checksum is wrong"}},
    }
    told = list(doctor_instance.actors(said))
    assert [(one.check, one.state) for one in told] == [("shard:0", "wrong"), ("shard:1", "wrong")]
    assert "make room" in told[0].remedy
    assert states(doctor_instance.others(said)) == dict.fromkeys(
        ("poller:yahoo", "market_overview", "collector:okx"), "warning"
    )
    serving = {
        "data": {"status": "RUNNING", "run": 2, "message": ""},
        "live": {"status": "DEPLOY_FAILED", "run": 0, "message": "no port"},
    }
    assert states(doctor_instance.replicas(serving)) == {"data": "ok", "live": "wrong"}
    # There may be no other hosts.
    elsewhere = {"data-elsewhere": {"status": "RUNNING", "run": 0, "message": ""}}
    assert states(doctor_instance.replicas(elsewhere)) == {"data-elsewhere": "ok"}
    nodes = [{"NodeManagerAddress": f"10.0.0.{n}", "Alive": n < 3} for n in (1, 2, 3)]
    assert states(doctor_instance.hosts(nodes, {"10.0.0.2": -350.0})) == {"hosts": "ok", "host 10.0.0.2": "wrong"}
    assert states(doctor_instance.hosts(nodes, {"10.0.0.2": 3.0})) == {"hosts": "ok", "between hosts": "ok"}


# ---- how it is told


BAD = [ok("a", "one", "fine"), warning("a", "two", "odd", "look"), wrong("b", "three [x]", "bad [/red]", "mend it")]


def test_the_verdict_counts_and_says_what_to_do_first() -> None:
    assert verdict(BAD) == "1 thing is wrong, 1 thing is worth a look. First, three [x]: mend it"
    assert verdict(BAD[:2]) == "Nothing is wrong, 1 thing is worth a look. First, two: look"
    assert verdict(BAD[:1]) == "All is well."
    assert as_dict(BAD, running=True)["state"] == "wrong"
    assert as_dict([], running=False)["state"] == "ok"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_each_finding_is_a_line_with_its_remedy_below_it(width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(shown(BAD, "rayfeed at http://x"))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[0] == "rayfeed at http://x"
    assert "✓  one        fine" in lines
    assert "✗  three [x]  bad [/red]" in lines
    assert lines[lines.index("✗  three [x]  bad [/red]") + 1].strip() == "→ mend it"
    assert "First, three [x]: mend it" in " ".join(lines)


def test_of_many_the_first_are_told_and_the_others_counted_in_their_worst_state() -> None:
    told = limited([*(warning("s", str(n), "x", "y") for n in range(4)), wrong("s", "4", "x", "y")], 3, "too")
    assert [(one.check, one.state) for one in told[-2:]] == [("2", "warning"), ("2 more", "wrong")]
    assert len(limited(told, 9, "")) == 4


def test_that_we_cannot_reach_what_the_instance_cannot_reach_is_told_once() -> None:
    sink = wrong("sinks", "ClickHouse (server)", "away", "check")
    clickhouse, redis = (wrong("reachability", name, "refused", "check") for name in ("ClickHouse", "Redis"))
    assert without_doubles([clickhouse, redis, sink]) == [redis, sink]


async def test_an_instance_that_answers_nobody_is_said_to_be_so(tmp_path: Path) -> None:
    details = Details("127.0.0.1", free_port(), free_port())
    told = {one.check: one for one in await doctor_reach.reach(load(tmp_path), details)}
    assert (told["HTTP"].state, told["HTTPS"].state) == ("wrong", "wrong")
    assert "edge.log" in told["HTTP"].remedy
