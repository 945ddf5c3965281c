"""Which instances have an overview, and whom it asks."""

from pathlib import Path
from typing import Any

import pytest

from actors.market_overview import MarketOverview
from actors.overview.providers import Keys
from actors.overview_start import add_overview
from config import load


def added(data: Path, **settings: Any) -> list[tuple[Any, ...]]:
    """What the supervisor is asked to add."""
    calls: list[tuple[Any, ...]] = []
    add_overview(lambda *given, gives_way: calls.append(given), load(data, settings), None, None)
    return calls


@pytest.mark.parametrize(
    ("source", "outside", "asks"),
    [("sim", None, False), ("live", None, True), ("sim", True, True), ("live", False, False)],
)
def test_nothing_goes_out_to_the_internet_but_from_a_live_instance_or_when_it_is_said(
    tmp_path: Path, source: str, outside: bool | None, asks: bool
) -> None:
    (call,) = added(tmp_path, source=source, overview={"outside": outside})
    name, actor, *given = call
    assert (name, actor) == ("market_overview", MarketOverview)
    overview = MarketOverview(*given)
    assert bool(overview._providers.questions) == asks


def test_of_a_replay_the_time_is_that_of_its_trades_and_nobody_is_asked(tmp_path: Path) -> None:
    ((_, _, *given),) = added(tmp_path, source=f"replay:{tmp_path}")
    assert given[-2:] == [False, True]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    assert added(tmp_path, overview={"enabled": False}) == []


def test_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINNHUB_API_KEY", " sesame ")
    monkeypatch.setenv("CMC_API_KEY", "")
    ((_, _, _, keys, *_),) = added(tmp_path, source="live")
    assert keys == Keys(finnhub="sesame")
