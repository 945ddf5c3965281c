"""Bars are counted once, when they close, with how late that was; breakers whenever they change."""

import numpy as np
import pyarrow as pa
import pytest

from actors.aggregation.bars import Bars
from actors.metering import closed_bars, meters
from actors.metering.breakers import changes_of
from actors.metering.meters import Counted, Durations
from actors.polling.breaker import Breaker
from storage.timeframes import TIMEFRAMES
from tests.actors.batches import NOON, trades

SECOND = 10**9


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_METERS", [])
    monkeypatch.setattr(closed_bars, "_CLOSED", Counted("rayfeed_bars_closed_total", *((one,) for one in TIMEFRAMES)))
    monkeypatch.setattr(closed_bars, "_DELAYS", Durations("rayfeed_bar_close_delay_seconds"))


def told(bars: Bars, now_ns: int) -> pa.RecordBatch:
    bars.close(now_ns)
    batch = bars.changed(open_too=True)
    closed_bars.count(batch, now_ns)
    return batch


def counts(timeframe: str) -> tuple[float, list[float]]:
    """How many closed, and the delays with their sum."""
    closed = closed_bars._CLOSED.samples()["rayfeed_bars_closed_total", (timeframe,)]
    delays = closed_bars._DELAYS.samples().get(("rayfeed_bar_close_delay_seconds", (timeframe,)), [0.0])
    assert isinstance(closed, float | int) and isinstance(delays, list)
    return closed, delays


def row(at_ns: int, trade_id: int) -> tuple[str, int, int, float, float, int]:
    return ("BTCUSDT", at_ns, trade_id, 10.0, 1.0, 0)


def test_a_bar_is_counted_when_it_closes_and_not_when_it_is_open_or_revised() -> None:
    bars = Bars(100, 0)
    bars.update(trades([row(NOON, 1), row(NOON + SECOND // 2, 2)]))
    assert told(bars, NOON + SECOND // 2).num_rows == len(TIMEFRAMES)
    assert counts("1s") == (0, [0.0])
    told(bars, NOON + SECOND + SECOND // 5)
    closed, delays = counts("1s")
    assert (closed, sum(delays[:-1]), delays[-1]) == (1, 1, pytest.approx(0.2))
    bars.update(trades([row(NOON + SECOND // 4, 3)]))
    revised = told(bars, NOON + SECOND + SECOND // 2)
    assert 1 in np.asarray(revised.column("revision"))
    assert (counts("1s")[0], counts("1m")[0]) == (1, 0)


def test_bars_of_past_trades_close_without_being_late() -> None:
    bars = Bars(100, 0)
    bars.update(trades([row(NOON, 1)]))
    told(bars, NOON + 3600 * SECOND)
    assert counts("1s") == (1, [0.0])
    assert counts("1m") == (1, [0.0])
    assert sum(counts("1h")[1][:-1]) == 1, "just now"


def test_every_change_of_a_breaker_is_counted_by_its_new_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.metering.breakers._CHANGES", counted := Counted("rayfeed_breaker_changes_total"))

    def changes() -> dict[str, float | list[float]]:
        return {state: count for (_, (_, state)), count in counted.samples().items()}

    breaker = Breaker("REST of okx", failures=2, successes=1, changed=changes_of("rest:okx"))
    assert changes() == {"open": 0, "half_open": 0, "closed": 0}, "there from the beginning"
    for _ in range(2):
        breaker.failed(breaker.admit(0.0), 0.0)
    breaker.failed(breaker.admit(100.0), 100.0)
    breaker.succeeded(breaker.admit(1000.0))
    assert changes() == {"open": 2, "half_open": 2, "closed": 1}
