"""The screen of `rayfeed status --watch`, recorded, and in a real terminal."""

import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.instance import Details, Instance
from cluster.status_screen import Watched, screen
from tests.terminal import terminal

NOON_NS = 1_769_860_800_000_000_000
CLOCK = "12:00:05 UTC"


def collector(exchange: str, frames: int = 0, trades: int = 0, **more: Any) -> dict[str, Any]:
    known = {"answers": True, "exchange": exchange, "state": "streaming", "pid": 7, "symbols": 2, "lag_ms": 3.2}
    known |= {"connects": 1, "connections": 1, "subscribed": ["A", "B"], "frames": frames, "trades": trades}
    return {**known, **more}


def symbol(exchange: str, name: str, state: str = "synced", why: str = "", **more: Any) -> dict[str, Any]:
    known = {"exchange": exchange, "symbol": name, "state": state, "why": why, "since": NOON_NS}
    return {**known, "gaps_open": 0, "gaps_closed": 1, "trades": 1200, **more}


def said(frames: int = 0, exchanges: int = 2, symbols: int = 3, shards: int = 2, pid: int = 1) -> dict[str, Any]:
    names = ["binance", "kraken", "okx", "bybit", "coinbase", "deribit", "bitfinex"][:exchanges]
    actors: dict[str, Any] = {f"collector:{name}": collector(name, frames, frames // 2) for name in names}
    actors["collector:kraken"] |= {"state": "waiting", "last_error": "refused", "connects": 4}
    for index in range(shards):
        actors[f"shard:{index}"] = {"answers": True, "pid": 8, "TRADES": frames, "batches_waiting": index}
    actors["database"] = {"answers": True, "pid": 9, "rows_written": 3 * frames, "spooled_bytes": 2048}
    actors["publisher"] = {"answers": True, "pid": 10, "written": frames, "available": False, "last_error": "gone"}
    rows = [symbol("binance", f"S{number:04d}USDT") for number in range(symbols - 2)]
    rows += [
        symbol("kraken", "BTC/USD", "stale", "connection lost"),
        symbol("okx", "X", "gapped", "a hole", gaps_open=1),
    ]
    replicas = {"data": {"status": "RUNNING", "run": 2, "message": ""}, "live": {"status": "DEPLOYING", "run": 0}}
    known = {"pid": pid, "url": "http://127.0.0.1:8080", "source": "sim"}
    return {**known, "actors": actors, "integrity": rows, "replicas": replicas}


def drawn(watched: Watched, width: int = 80, height: int = 24, at: float = 0.0, remark: str = "") -> list[str]:
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(screen(watched, at, CLOCK, width, height, remark), end="")
    return [line.rstrip() for line in capture.get().split("\n")]


def watched(**more: int) -> Watched:
    one = Watched()
    one.hear(said(1000, **more), 0.0)
    one.hear(said(1500, **more), 2.0)
    return one


def test_it_shows_how_fast_everything_is_and_what_is_wrong() -> None:
    lines = drawn(watched(), at=2.0)
    assert lines[0].startswith("rayfeed http://127.0.0.1:8080  sim")
    assert lines[0].endswith(CLOCK)
    assert "binance    streaming           250       125      3 ms      0  2 of 2" in lines
    assert "kraken     waiting             250       125      3 ms      3  2 of 2  refused" in lines
    assert [line.split()[:3] for line in lines if line.startswith("shard:")] == [
        ["shard:1", "250", "1"],
        ["shard:0", "250", "0"],
    ], "the one that is behind comes first"
    assert "ClickHouse 750 rows/s, 4,500 rows  spool 2.0 KiB" in lines
    assert "Redis      250 values/s, 0 batches  0 B wait  away gone" in lines
    assert "SERVING    data 2  live deploying" in lines
    assert "SYMBOLS    1 synced  0 syncing  1 gapped  1 stale  gaps: 1 open, 3 closed" in lines
    worst = [
        " ".join(line.split())
        for line in lines[
            lines.index("SYMBOLS    1 synced  0 syncing  1 gapped  1 stale  gaps: 1 open, 3 closed") + 1 :
        ][:3]
    ]
    assert worst == [
        "kraken BTC/USD stale 12:00:00 connection lost",
        "okx X gapped 12:00:00 a hole",
        "binance S0000USDT synced 12:00:00 1,200 trades",
    ]
    assert lines[-1] == "q or Ctrl-C leaves"


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (140, 30), (100, 40), (40, 10), (20, 3), (80, 1)])
@pytest.mark.parametrize("much", [{}, {"exchanges": 7, "symbols": 4000, "shards": 64}])
def test_it_has_exactly_the_size_of_the_terminal(size: tuple[int, int], much: dict[str, int]) -> None:
    width, height = size
    lines = drawn(watched(**much), width, height, at=2.0)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert lines[-1] == "q or Ctrl-C leaves"[:width]


def test_in_a_small_terminal_much_leaves_room_for_the_worst_symbols() -> None:
    lines = drawn(watched(exchanges=7, symbols=4000, shards=64))
    assert [line.split()[0] for line in lines if line.startswith("shard:")] == ["shard:63", "shard:62", "shard:61"]
    assert "61 more" in lines
    assert [line.split()[1] for line in lines if "12:00:00  " in line][:2] == ["BTC/USD", "X"]
    assert "3996 more" in lines


def test_in_a_wide_terminal_symbols_stand_beside_the_rest() -> None:
    lines = drawn(watched(), 200, 40, at=2.0)
    assert any("EXCHANGE" in line and "SYMBOLS" in line for line in lines)
    assert any("binance " in line and "kraken     BTC/USD" in line for line in lines)


def test_before_an_answer_and_without_one_it_says_so() -> None:
    assert drawn(Watched())[0] == "asks the instance ..."
    assert drawn(Watched(), remark="it starts")[0] == "it starts"
    assert drawn(watched(), at=9.0)[0].endswith("no answer for 7 s")
    stopped = drawn(watched(), remark="it has stopped; waits for it to start")
    assert stopped[0].endswith("it has stopped; waits for it to start")
    assert any("binance" in line for line in stopped), "what was known stays"


def test_what_was_started_again_has_no_rate_until_it_was_asked_twice() -> None:
    one = watched()
    one.hear(said(20, pid=2), 4.0)
    assert one.rates == {}
    again = said(50, pid=2)
    again["actors"]["shard:0"]["pid"] = 99
    one.hear(again, 5.0)
    assert one.rates["collector:binance"]["frames"] == 30.0
    assert "shard:0" not in one.rates


# ---- in a terminal


def watching(data: Path) -> tuple[str, ...]:
    return (sys.executable, "-m", "cluster.cli", "status", "--watch", "--data", str(data))


@pytest.mark.parametrize("end", ["q", "Ctrl-C", "SIGTERM"])
def test_it_follows_the_end_of_an_instance_and_leaves_the_terminal_as_it_was(tmp_path: Path, end: str) -> None:
    instance = Instance.claim(tmp_path)
    # Nobody answers there.
    instance.write(Details("127.0.0.1", 1, 2, ray_address="127.0.0.1:1"))
    with terminal(*watching(tmp_path)) as one:
        assert one.shows("\x1b[?1049h", "\x1b[?25l", "asks the instance ...")
        before = termios.tcgetattr(one.master)
        instance.release()
        assert one.shows("it has stopped; waits for it to start")
        if end == "SIGTERM":
            one.process.terminate()
        else:
            one.press({"q": b"q", "Ctrl-C": b"\x03"}[end])
        assert one.ended() == 0
        assert "\x1b[?25h" in one.seen, "the cursor is shown again"
        assert "Traceback" not in one.seen
        assert termios.tcgetattr(one.master)[3] & termios.ECHO, before


def test_without_a_terminal_or_an_instance_it_is_one_line(tmp_path: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(watching(tmp_path), capture_output=True, text=True, stdin=subprocess.DEVNULL)

    done = run()
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"nothing runs on {tmp_path}; start it with: rayfeed up --data {tmp_path}\n"
    instance = Instance.claim(tmp_path)
    instance.write(Details("127.0.0.1", 1, 2, ray_address="127.0.0.1:1"))
    try:
        done = run()
    finally:
        instance.release()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "rayfeed: --watch needs a terminal; with --json it prints a line each time instead\n"
