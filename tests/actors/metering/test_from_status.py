"""What actors say becomes samples with few labels, whatever their symbols and errors are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.metering.from_status import of_actor, of_symbols
from actors.metering.registry import Registry
from config import Settings, load

names = st.text(min_size=1, max_size=30)
counts = st.dictionaries(names, st.integers(0, 1000), max_size=20)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(tmp_path_factory.mktemp("data"))


def collector(**changes: Any) -> dict[str, Any]:
    said = {
        "answers": True,
        "exchange": "okx",
        "state": "streaming",
        "connections": 2,
        "data_s": 0.5,
        "subscribed": ["A", "B"],
        "refused": {"C": "no such symbol"},
        "symbols": 4,
        "book_states": {"synced": 2},
        "rejected": {"bad json": 2, "no time": 3},
        "breaker": "half_open",
        "frames_waiting": 10,
        "bytes_waiting": 1000,
        "batches_in_flight": 1,
        "failure": "",
    }
    said |= dict.fromkeys(
        ("frames", "trades", "quotes", "books", "derivatives", "liquidations", "ignored", "breaks", "backfilled"), 7
    )
    return said | {"backfills": 0, "repairs": 1} | changes


def test_a_collector_is_counted_by_its_exchange(settings: Settings) -> None:
    found = of_actor("collector:okx", collector(), settings)
    assert found["rayfeed_exchange_up", ("okx",)] == 1
    assert found["rayfeed_decode_errors_total", ("okx",)] == 5
    states = [found["rayfeed_exchange_symbols", ("okx", state)] for state in ("granted", "refused", "unanswered")]
    assert states == [2, 1, 1]
    assert found["rayfeed_breaker_open", ("rest:okx",)] == 0.5
    assert found["rayfeed_queue_limit", ("frames", "okx")] == settings.collector.max_frames


def test_of_an_actor_that_does_not_answer_nothing_but_that_is_told(settings: Settings) -> None:
    found = of_actor("collector:okx", collector(answers=False, failure="it died"), settings)
    assert found == {("rayfeed_actor_up", ("collector:okx",)): 0}
    assert of_actor("shard:0", {"answers": True, "failure": "disk full"}, settings) == {
        ("rayfeed_actor_up", ("shard:0",)): 0
    }


@given(rejected=counts, refused=st.dictionaries(names, names), books=counts, error=names)
def test_symbols_and_reasons_are_never_labels(
    settings: Settings, rejected: dict[str, int], refused: dict[str, str], books: dict[str, int], error: str
) -> None:
    plain = of_actor("collector:okx", collector(), settings)
    said = collector(rejected=rejected, refused=refused, book_states=books, last_error=error, errors=[error])
    assert of_actor("collector:okx", said, settings).keys() == plain.keys()


def symbol(number: int, state: str = "synced") -> dict[str, Any]:
    return {
        "exchange": "okx",
        "symbol": f"S{number}",
        "state": state,
        "gaps_open": 1,
        "gaps_closed": 2,
        "missing": None,
    }


def quality(number: int) -> dict[str, Any]:
    failed = {"price_anomaly": 2, "data_freshness": 0}
    return {
        "exchange": "okx",
        "symbol": f"S{number}",
        "score": 0.5,
        "total_checks": 9,
        "failed": failed,
        "last_trade": 5e9,
    }


@given(st.integers(0, 300), st.integers(0, 50))
def test_no_more_symbols_have_series_of_their_own_than_are_wanted(symbols: int, most: int) -> None:
    found = of_symbols(map(symbol, range(symbols)), map(quality, range(symbols)), most)
    registry = Registry()
    registry.take("symbols", found, 0.0)
    by_name = {metric.name: series for metric, series in registry.collect()}
    for name in ("symbol_synced", "symbol_quality_score", "symbol_last_trade_timestamp_seconds"):
        assert len(by_name.get(f"rayfeed_{name}", {})) == min(symbols, most)
    if symbols:
        assert found["rayfeed_symbols", ("okx", "synced")] == symbols
        assert found["rayfeed_gaps_open", ("okx",)] == symbols
        assert found["rayfeed_gaps_closed", ("okx",)] == 2 * symbols
        assert found["rayfeed_quality_failed_trades", ("okx", "price_anomaly")] == 2 * symbols


def test_every_state_is_told_also_when_no_symbol_is_in_it() -> None:
    found = of_symbols([symbol(1, "gapped")], [], 10)
    assert [found["rayfeed_symbols", ("okx", state)] for state in ("synced", "syncing", "gapped", "stale")] == [
        0,
        0,
        1,
        0,
    ]
    assert found["rayfeed_symbol_synced", ("okx", "S1")] == 0


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for wrong in ({"metrics": {"networks": ["nowhere"]}}, {"metrics": {"symbols": 5000}}, {"logs": {"level": "loud"}}):
        with pytest.raises(ValueError, match="setting"):
            load(tmp_path, wrong)
