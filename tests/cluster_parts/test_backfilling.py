"""`rayfeed backfill` with a stand-in for the supervisor."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster import backfilling
from cluster.backfilling import Progress, span
from cluster.cli import app
from cluster.instance import InstanceError
from config import SettingsError

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
NOW = 1_769_860_800 * SECOND  # 2026-01-31 12:00


class Supervisor:
    """Its jobs come further with each look; `looked` is called before it answers."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.begun: list[tuple[Any, ...]] = []
        self.fails = ""
        self.looked: Callable[[], None] = lambda: None

    def __call__(self, method: str, *arguments: Any) -> Any:
        answer: Any = getattr(self, method)(*arguments)
        return answer

    def backfill(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> int:
        if exchange == "nasdaq":
            raise SettingsError("no exchange called 'nasdaq' runs here; there are binance")
        self.begun.append((exchange, symbol, from_ns, to_ns))
        job = {
            "exchange": exchange,
            "job": len(self.jobs) + 1,
            "symbol": symbol,
            "from_ns": from_ns,
            "to_ns": to_ns,
            "reached_ns": None,
            "rows": 0,
            "new": 0,
            "pages": 0,
            "state": "running",
            "error": "",
        }
        self.jobs.append(job)
        return len(self.jobs)

    def backfills(self) -> list[dict[str, Any]]:
        self.looked()
        said = [dict(job) for job in self.jobs]
        for job in self.jobs:
            if job["state"] == "running":
                job["pages"] += 1
                job["rows"] += 1000
                job["reached_ns"] = job["from_ns"] + (job["to_ns"] - job["from_ns"]) * job["pages"] // 3
                if job["pages"] == 3:
                    job |= {"state": "failed" if self.fails else "done", "error": self.fails}
        return said

    def cancel_backfill(self, exchange: str, job: int) -> bool:
        self.jobs[job - 1]["state"] = "cancelled"
        return True


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    one = Supervisor()

    @contextmanager
    def asked(_data: Path) -> Iterator[Supervisor]:
        yield one

    monkeypatch.setattr(backfilling, "supervisor", asked)
    monkeypatch.setattr("cluster.backfilling.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("cluster.backfilling.time.time_ns", lambda: NOW)
    return one


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["backfill", *arguments])


def test_it_starts_a_job_for_each_symbol_and_waits_until_they_are_done(supervisor: Supervisor) -> None:
    done = run("binance", "BTCUSDT", "ETHUSDT", "--from", "2h ago", "--json")
    assert done.exit_code == 0, done.output
    assert supervisor.begun == [("binance", symbol, NOW - 2 * HOUR, NOW) for symbol in ("BTCUSDT", "ETHUSDT")]
    assert [(job["symbol"], job["state"], job["rows"]) for job in json.loads(done.stdout)] == [
        ("BTCUSDT", "done", 3000),
        ("ETHUSDT", "done", 3000),
    ]


def test_a_job_that_failed_says_why_and_exits_with_1(supervisor: Supervisor) -> None:
    supervisor.fails = "HTTP 503 five times"
    done = run("binance", "BTCUSDT", "--from", "2026-01-30", "--to", "2026-01-30")
    assert done.exit_code == 1
    assert supervisor.begun[0][2:] == (NOW - 36 * HOUR, NOW - 12 * HOUR - 1)
    [_, row, reason] = done.stdout.splitlines()
    times = ["2026-01-30", "00:00", "2026-01-30", "23:59"]
    assert row.split() == ["binance", "BTCUSDT", *times, "3,000", "0", "failed"]
    assert reason == "binance BTCUSDT: HTTP 503 five times"


def test_ctrl_c_leaves_it_running_says_so_and_the_same_command_finds_it_again(supervisor: Supervisor) -> None:
    looks = iter([None, None, KeyboardInterrupt()])

    def interrupted() -> None:
        if error := next(looks, None):
            raise error

    supervisor.looked = interrupted
    done = run("binance", "BTCUSDT", "--from", "2h ago", "--data", "here")
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == (
        "it goes on; look with: rayfeed backfill --data here, "
        "end it with: rayfeed backfill binance BTCUSDT --cancel --data here"
    )
    again = run("binance", "BTCUSDT", "--from", "2h ago", "--json")
    assert again.exit_code == 0
    assert [job["state"] for job in json.loads(again.stdout)] == ["done"]
    assert len(supervisor.begun) == 1
    assert run("binance", "BTCUSDT", "--from", "2h ago").exit_code == 0
    assert len(supervisor.begun) == 2, "what has ended is begun again"


def test_an_instance_that_stops_meanwhile_is_one_clear_line(supervisor: Supervisor) -> None:
    def stopped() -> None:
        if supervisor.begun:
            raise InstanceError("the instance on data has stopped")

    supervisor.looked = stopped
    done = run("binance", "BTCUSDT", "--from", "2h ago")
    assert str(done.exception) == "the instance on data has stopped"


def test_cancel_ends_the_jobs_of_these_symbols_only(supervisor: Supervisor) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        supervisor.backfill("binance", symbol, NOW - HOUR, NOW)
    done = run("binance", "BTCUSDT", "--cancel", "--json")
    assert done.exit_code == 0
    assert [(job["symbol"], job["state"]) for job in json.loads(done.stdout)] == [("BTCUSDT", "cancelled")]
    assert supervisor.jobs[1]["state"] == "running"
    again = run("binance", "BTCUSDT", "--cancel")
    assert str(again.exception) == "no backfill of BTCUSDT on binance runs"


def test_without_arguments_it_lists_what_there_is(supervisor: Supervisor) -> None:
    assert run().stdout == "no backfills\n"
    supervisor.backfill("binance", "BTCUSDT", NOW - HOUR, NOW)
    [_, row] = run().stdout.splitlines()
    times = ["2026-01-31", "11:00", "2026-01-31", "12:00"]
    assert row.split() == ["binance", "BTCUSDT", *times, "0", "0", "running"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["binance"], "which symbols of binance?"),
        (["binance", "BTCUSDT"], "--from is missing"),
        (["binance", "BTCUSDT", "--from", "yesterday"], "'yesterday' is no time"),
        (["binance", "BTCUSDT", "--from", "2026-02-01"], "has not been yet"),
        (["binance", "BTCUSDT", "--from", "2h ago", "--to", "3h ago"], "is not before --to 3h ago"),
        (["binance", "BTCUSDT", "--from", "1999-12-31"], "before the year 2000"),
        (["binance", "BTCUSDT", "--from", "9999999w ago"], "before the year 2000"),
        (["nasdaq", "AAPL", "--from", "2h ago"], "no exchange called 'nasdaq'"),
    ],
)
def test_what_cannot_be_fetched_is_one_clear_line(supervisor: Supervisor, arguments: list[str], reason: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, SettingsError), done.output
    assert reason in str(done.exception)
    assert supervisor.begun == []


def test_the_future_is_cut_off() -> None:
    assert span("2026-01-31", "2027-01-01", NOW) == (NOW - 12 * HOUR, NOW)


@pytest.mark.parametrize("forwards", [True, False])
def test_progress_has_a_rate_and_an_estimate_from_the_first_look_on(forwards: bool) -> None:
    def job(done: int, rows: int, state: str = "running") -> dict[str, Any]:
        reached = done if forwards else 100 - done
        return {"job": 1, "from_ns": 0, "to_ns": 100, "reached_ns": reached, "rows": rows, "state": state}

    progress = Progress(forwards)
    assert progress.fraction({**job(0, 0), "reached_ns": None}) == 0.0
    assert progress.speed(job(20, 1000), 100.0) == (0.0, None)
    assert progress.fraction(job(20, 1000)) == pytest.approx(0.2)
    # 40 % and 400 trades in 10 s: the other 40 % take as long.
    assert progress.speed(job(60, 1400), 110.0) == (40.0, pytest.approx(10.0))
    assert progress.fraction(job(60, 1400, "done")) == 1.0
