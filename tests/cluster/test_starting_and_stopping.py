"""Starting, stopping, two instances side by side, and every way a start is refused in one clear line."""

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from cluster.instance import free_ports
from tests.cluster.recorded import EXCHANGES
from tests.cluster.running import RAYFEED, START_TIMEOUT_S, STOP_TIMEOUT_S, Instance, command
from tests.polling import wait_until

# What only has to fail does so before anything is started.
AT_ONCE_S = 10.0


def assert_one_line(answer: subprocess.CompletedProcess[str], *says: str) -> None:
    assert answer.returncode == 1, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("rayfeed: ")
    for text in says:
        assert text in lines[0]


def test_two_instances_run_side_by_side(replayed: Instance, simulated: Instance) -> None:
    for instance, exchanges in ((replayed, list(EXCHANGES)), (simulated, ["binance"])):
        assert instance.json("/readyz")["status"] == "ready"
        assert list(instance.json("/api/symbols")["exchanges"]) == exchanges
        said = json.loads(command("status", "--json", "--data", str(instance.data)).stdout)
        assert (said["pid"], said["url"]) == (instance.process.pid, instance.url)
    one, other = (psutil.Process(each.process.pid).children(recursive=True) for each in (replayed, simulated))
    assert set(one).isdisjoint(other)


@pytest.mark.parametrize("step", ["ray", "replicas"])
def test_interrupted_while_it_starts_it_stops_what_it_started(tmp_path: Path, step: str) -> None:
    errors = tmp_path / "stderr"
    port, tls_port = free_ports(2)
    arguments = ["up", "--data", str(tmp_path / "data"), "--port", str(port), "--tls-port", str(tls_port)]
    arguments += ["--exchanges", "binance"]
    with errors.open("w") as stderr:
        process = subprocess.Popen([RAYFEED, *arguments], stderr=stderr)
    try:
        wait_until(lambda: step in errors.read_text(), within_s=START_TIMEOUT_S)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_TIMEOUT_S) == 0, errors.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in errors.read_text()
    wait_until(lambda: not any(child.is_running() for child in family), within_s=5)


def test_a_second_instance_on_the_same_data_is_refused(replayed: Instance) -> None:
    answer = command("up", "--data", str(replayed.data), "--port", "1", "--tls-port", "2")
    assert_one_line(answer, "in use", str(replayed.process.pid), replayed.url)
    assert replayed.json("/readyz")["status"] == "ready"


def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        began = time.monotonic()
        answer = command("up", "--data", str(tmp_path / "data"), "--port", str(port))
        assert_one_line(answer, str(port), "--port")
        assert_one_line(command("up", "--data", str(tmp_path / "data"), "--tls-port", str(port)), "--tls-port")
        assert time.monotonic() - began < 2 * AT_ONCE_S


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_one_line(command("up", "--data", str(tmp_path / "file" / "data")), str(tmp_path / "file"))
    assert_one_line(command("up", "--data", "/proc/rayfeed"), "/proc/rayfeed")


@pytest.mark.parametrize(
    ("options", "environment", "says"),
    [
        (("--source", "tape"), {}, ("source", "sim, live or replay:DIR")),
        (
            ("--exchanges", "binance,nasdaq"),
            {},
            ("called nasdaq;", "binance, bitfinex, bybit, coinbase, deribit, kraken, okx"),
        ),
        ((), {"RAYFEED_SHARDZ": "2"}, ("shardz",)),
        ((), {"RAYFEED_SHARDS": "none"}, ("shards",)),
        (("--source", "replay:/nowhere"), {}, ("/nowhere",)),
    ],
)
def test_wrong_settings_stop_the_start_at_once(
    tmp_path: Path, options: tuple[str, ...], environment: dict[str, str], says: tuple[str, ...]
) -> None:
    began = time.monotonic()
    assert_one_line(command("up", "--data", str(tmp_path / "data"), *options, environment=environment), *says)
    assert time.monotonic() - began < AT_ONCE_S


def test_an_unreadable_capture_names_the_file_and_the_line(tmp_path: Path) -> None:
    frame = {"t_ns": 1, "conn": "ws-1", "kind": "open", "url": "wss://ws-feed.exchange.coinbase.com", "data": None}
    (tmp_path / "broken.jsonl").write_text(json.dumps(frame) + "\n{half a line\n")
    answer = command("up", "--data", str(tmp_path / "data"), "--source", f"replay:{tmp_path}")
    assert_one_line(answer, "broken.jsonl", "line 2")


def test_live_without_any_exchange_ends_with_what_each_one_said(tmp_path: Path) -> None:
    unreachable = {
        "RAYFEED_LIVE__ANSWER_TIMEOUT_S": "3",
        "RAYFEED_EXCHANGES__BINANCE__WEBSOCKET": "ws://127.0.0.1:1",
        "RAYFEED_EXCHANGES__COINBASE__WEBSOCKET": "ws://127.0.0.1:1",
    }
    options = ["--source", "live", "--exchanges", "binance,coinbase"]
    answer = command("up", "--data", str(tmp_path / "data"), *options, environment=unreachable)
    assert answer.returncode == 1
    last = answer.stderr.strip().splitlines()[-1]
    assert last.startswith("rayfeed: no exchange answered within 3 s"), answer.stderr
    assert "binance: cannot connect to ws://127.0.0.1:1" in last
    assert "--source sim" in last
