"""`rayfeed sim` with a stand-in for the simulator."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from actors.simulator.fault_kinds import KINDS
from cluster import simulating
from cluster.cli import app
from cluster.instance import Instance, InstanceError
from config import SettingsError

ROW = {
    "number": 1,
    "exchange": "binance",
    "kind": "drop",
    "options": {"all": True},
    "active": True,
    "left": None,
    "done": 3,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def ask(method: str, *arguments: Any, **options: Any) -> Any:
        calls.append((method, *arguments, options))
        return [ROW] if method == "faults" else None

    @contextmanager
    def simulator(_data: Path) -> Iterator[Any]:
        yield ask

    monkeypatch.setattr(simulating, "simulator", simulator)
    return calls


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sim", *arguments])


def test_a_fault_is_injected_with_its_options(asked: list[Any]) -> None:
    done = run("fault", "binance", "skip", "count=3", "about=trades", "--for", "2.5", "--symbol", "BTCUSDT")
    assert (done.exit_code, done.stdout) == (0, "binance: skip count=3 symbol=BTCUSDT about=trades seconds=2.5\n")
    options = {"count": 3, "symbol": "BTCUSDT", "about": "trades", "seconds": 2.5}
    assert asked == [("fault", "binance", "skip", options)]
    assert json.loads(run("fault", "kraken", "drop", "all=yes", "--json").stdout) == {
        "exchange": "kraken",
        "kind": "drop",
        "options": {"all": True},
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nope"], f"there is no fault 'nope': expected one of {', '.join(KINDS)}"),
        (["drop", "count=3"], "drop has no option 'count'"),
        (["drop", "--for", "3"], "drop has no option 'seconds'"),
        (["skip", "count=many"], "count is 'many': expected a whole number"),
        (["skip", "--for", "long"], "seconds is 'long': expected a number"),
        (["skip", "count"], "'count' is no option of a fault: expected NAME=VALUE"),
        (["delist"], "delist needs symbol"),
    ],
)
def test_a_fault_there_is_not_is_refused_with_what_there_is(
    asked: list[Any], arguments: list[str], reason: str
) -> None:
    done = run("fault", "binance", *arguments)
    assert isinstance(done.exception, SettingsError)
    assert reason in str(done.exception)
    assert asked == []


def test_what_goes_wrong_now_is_listed(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    [_, row] = run("faults").stdout.splitlines()
    assert row.split() == ["binance", "drop", "all=True", "for", "good", "3"]
    assert json.loads(run("faults", "--json").stdout) == [ROW]


def test_every_kind_is_explained() -> None:
    done = run("kinds")
    assert done.exit_code == 0
    said = json.loads(run("kinds", "--json").stdout)
    assert said.keys() == KINDS.keys()
    for name in KINDS:
        assert f"\n{name} " in done.stdout


def test_the_market_is_halted_and_goes_on(asked: list[Any]) -> None:
    assert run("halt", "kraken").stdout == "kraken: halted\n"
    assert run("go").stdout == "all exchanges: trading\n"
    assert asked == [("halt", "kraken", True, {}), ("halt", None, False, {})]


def test_a_further_symbol_is_listed_and_how_to_collect_it_is_said(asked: list[Any], tmp_path: Path) -> None:
    assert run("list", "kraken", "DOGE/USD", "--data", str(tmp_path)).stdout == (
        "kraken lists DOGE/USD; within a minute it can be collected with: "
        f"rayfeed symbols add kraken DOGE/USD --data {tmp_path}\n"
    )
    assert asked == [("list_symbol", "kraken", "DOGE/USD", {})]


def test_an_instance_that_simulates_nothing_says_so(tmp_path: Path) -> None:
    from cluster.instance import Details

    done = run("faults", "--data", str(tmp_path))
    assert isinstance(done.exception, InstanceError)
    instance = Instance.claim(tmp_path)
    try:
        instance.write(Details("127.0.0.1", 1, 2, source="live"))
        done = run("faults", "--data", str(tmp_path))
    finally:
        instance.release()
    assert str(done.exception) == (
        f"the instance on {tmp_path} runs on real exchanges: only simulated ones can be told to fail"
    )
