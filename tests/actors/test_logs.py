"""Lines of logs: JSON that says who speaks, and no more of the same than somebody can read."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from actors import logs
from actors.repeats import Repeats
from config.log_settings import LogSettings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_and_says_who_speaks_about_what() -> None:
    early = structlog.get_logger("made before")
    stream = io.StringIO()
    logs.begin("collector:okx", LogSettings(), stream)
    early.warning("a book is wrong", symbol="BTC-USDT", reason={"b"}, many="x" * 9999)
    (line,) = lines(stream)
    assert line["time"].endswith("Z") and len(line["many"]) == logs.MOST_CHARACTERS
    assert (
        line.items()
        >= {
            "level": "warning",
            "event": "a book is wrong",
            "actor": "collector:okx",
            "exchange": "okx",
            "symbol": "BTC-USDT",
        }.items()
    )


def test_errors_come_with_their_trace_and_libraries_log_the_same_way() -> None:
    stream = io.StringIO()
    logs.begin("shard:1", LogSettings(level="error"), stream)
    try:
        raise ZeroDivisionError("no")
    except ZeroDivisionError:
        structlog.get_logger().exception("it failed")
        logging.getLogger("asyncio").exception("a task of %s failed", "mine")
    logging.getLogger("asyncio").info("nobody reads that")
    structlog.get_logger().warning("nor that")
    ours, theirs = lines(stream)
    assert "ZeroDivisionError" in ours["exception"] and ours["shard"] == "1"
    assert (theirs["event"], theirs["logger"]) == ("a task of mine failed", "asyncio")
    assert "ZeroDivisionError" in theirs["exception"]


def test_what_is_said_again_is_summarised_when_its_time_is_over() -> None:
    now = 0.0
    stream = io.StringIO()
    own = logs.Lines("collector:okx", Repeats(5, 60), stream, lambda: now)
    written = []
    for number in range(517):
        line = {"level": "error", "event": "cannot connect", "error": f"reset {number}", "symbol": str(number)}
        try:
            written.append(json.loads(own(None, "error", line)))
        except structlog.DropEvent:
            continue
    assert [line["symbol"] for line in written] == list("01234")
    now = 59.0
    assert own.samples() == {("rayfeed_log_lines_repeated_total", ("collector:okx",)): 512}
    assert lines(stream) == []
    now = 60.0
    own.samples()
    (summary,) = lines(stream)
    assert summary["event"] == "cannot connect ... 512 more times in 60 s"
    assert (summary["repeated"], summary["level"], summary["exchange"]) == (512, "error", "okx")
    assert own(None, "error", {"level": "error", "event": "cannot connect"})


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 5)), max_size=200),
    st.integers(1, 4),
)
def test_every_line_is_let_through_or_counted_whatever_comes(said: list[tuple[int, float]], most: int) -> None:
    repeats, now, through, told = Repeats(most, 10, most_keys=8), 0.0, 0, 0
    for kind, later in said:
        now += later
        told += sum(count for _, count, _ in repeats.over(now))
        through += repeats.admit((str(kind),), now)
        assert len(repeats) <= 8
    told += sum(count for _, count, _ in repeats.over(now + 11))
    assert through + told == len(said)
    assert repeats.dropped == told and len(repeats) == 0


def test_lines_come_at_once_where_others_took_the_output() -> None:
    program = """
import io, os, sys
sys.stdout = io.StringIO()  # as Serve does in replicas
import structlog
from actors import logs
from config.log_settings import LogSettings
logs.begin("live", LogSettings())
structlog.get_logger().info("said")
os._exit(0)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert json.loads(ran.stdout).items() >= {"event": "said", "actor": "live", "level": "info"}.items(), ran.stderr
