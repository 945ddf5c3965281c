"""An alert fires where its condition begins to hold, whatever way the trades come, and nothing makes it fire twice."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alerting.book import AlertBook
from storage.alert_log import Attempt, Fired, Record
from tests.actors.alerting.tables import EXCHANGE, NOW, PRICE, RULES, SECOND, Trade, book_with, fired, prices, trades

#: Ascending by time, some at the same time by ids that have nothing to do with the time else.
streams = st.lists(st.tuples(st.integers(0, 2), st.integers(98, 102)), max_size=40).map(
    lambda steps: sorted(
        (NOW + 1 + sum(step for step, _ in steps[: place + 1]) * SECOND // 2, place * 7 % 41, float(price))
        for place, (_, price) in enumerate(steps)
    )
)
cuts = st.lists(st.integers(0, 40), max_size=8)
alerts = st.fixed_dictionaries(
    {
        **{name: st.just(value) for name, value in PRICE.items()},
        "condition": st.sampled_from(["price_above", "price_below"]),
        "threshold": st.sampled_from([99.5, 100, 100.5]),
        "cooldown_seconds": st.sampled_from([0, 1, 4]),
        "one_time": st.booleans(),
    }
)


def expected(alert: dict[str, Any], stream: list[Trade]) -> list[tuple[int, float]]:
    """One trade after the other."""
    found: list[tuple[int, float]] = []
    held = False
    for at, _, price in stream:
        holds = price > alert["threshold"] if alert["condition"] == "price_above" else price < alert["threshold"]
        # A firing is known by its time.
        rested = not found or at >= found[-1][0] + max(alert["cooldown_seconds"] * SECOND, 1)
        if holds and not held and rested and not (found and alert["one_time"]):
            found.append((at, price))
        held = holds
    return found


def parts(stream: list[Trade], where: list[int]) -> list[list[Trade]]:
    ends = sorted({min(cut, len(stream)) for cut in where} | {len(stream)})
    return [stream[begin:end] for begin, end in pairwise([0, *ends])]


def told(records: list[Record]) -> list[tuple[int, float]]:
    return [(one.firing.ts_event, one.firing.value) for one in records if isinstance(one, Fired)]


@given(alerts, streams, cuts, st.randoms())
def test_it_fires_as_one_who_looks_at_every_trade_would(alert, stream, where, random) -> None:
    book, records = book_with(alert), list[Record]()
    for part in parts(stream, where):
        random.shuffle(part)
        records += book.take("trades", EXCHANGE, trades(part), NOW)
    assert told(records) == expected(alert, stream)


@given(alerts, streams, cuts)
def test_between_two_firings_the_condition_did_not_hold(alert, stream, where) -> None:
    book, records = book_with(alert), list[Record]()
    for part in parts(stream, where):
        records += book.take("trades", EXCHANGE, trades(part), NOW)
    times = [at for at, _ in told(records)]
    above = alert["condition"] == "price_above"
    for first, second in pairwise(times):
        between = [price for at, _, price in stream if first <= at <= second]
        assert min(between) <= alert["threshold"] if above else max(between) >= alert["threshold"]
        assert second - first >= alert["cooldown_seconds"] * SECOND


@given(alerts, streams, cuts, st.randoms())
def test_what_comes_late_or_twice_changes_nothing(alert, stream, where, random) -> None:
    book, records = book_with(alert), list[Record]()
    came: list[Trade] = []
    for part in parts(stream, where):
        came += part
        again = random.sample(came, min(5, len(came)))
        late = [(at - 1, order, random.choice([90.0, 110.0])) for at, order, _ in again]
        records += book.take("trades", EXCHANGE, trades(part), NOW)
        records += book.take("trades", EXCHANGE, trades(again + late), NOW)
    assert told(records) == expected(alert, stream)


@dataclass
class Disk:
    """The log, of which a crash leaves what was written."""

    records: list[Record]

    def book(self) -> AlertBook:
        # As read back from a log: nothing is shared with what wrote it.
        copies = msgspec.json.decode(msgspec.json.encode(self.records), type=list[Record])
        return AlertBook(RULES, copies, NOW)


@given(alerts, streams, cuts, st.data())
def test_a_restart_at_any_point_loses_no_firing_and_repeats_none_that_was_told(alert, stream, where, data) -> None:
    """A table during which the process dies comes again; records are written one after the other."""
    disk = Disk([])
    disk.records += disk.book().add(alert, "a0", NOW)
    book, delivered = disk.book(), set[str]()
    waiting = [trades(part) for part in parts(stream, where)]
    while waiting:
        records = book.take("trades", EXCHANGE, waiting[0], NOW)
        if records and data.draw(st.booleans(), "dies"):
            disk.records += records[: data.draw(st.integers(0, len(records)), "written")]
            book = disk.book()
            continue
        disk.records += records
        waiting.pop(0)
        for delivery_id in list(book.waiting):
            if data.draw(st.booleans(), "told"):
                done = attempt(delivery_id)
                disk.records += book.attempted(done)
                delivered.add(delivery_id)
        if data.draw(st.booleans(), "made short"):
            disk.records = book.records()
        if data.draw(st.booleans(), "starts anew"):
            book = disk.book()
    fires = {f"a0:{at}" for at, _ in expected(alert, stream)}
    assert set(book.waiting) | delivered == fires
    assert not set(book.waiting) & delivered
    assert set(disk.book().waiting) == set(book.waiting)
    assert disk.book().alert("a0").trigger_count == len(fires)


def attempt(delivery_id: str, **more: Any) -> Attempt:
    said = {"channel": "websocket", "attempt": 1, "status": "delivered", "code": None, "error": ""}
    alert_id = delivery_id.partition(":")[0]
    return Attempt(**{"delivery_id": delivery_id, "alert_id": alert_id, "began": NOW, "ended": NOW, **said, **more})


def test_a_spike_inside_a_batch_fires_with_the_price_that_began_it() -> None:
    assert fired(book_with(PRICE).take("trades", EXCHANGE, prices(99, 100, 101, 150, 99), NOW)) == [(3, 101)]


def test_one_that_holds_from_the_beginning_fires_at_once_and_then_waits_for_the_next_time() -> None:
    book = book_with({**PRICE, "cooldown_seconds": 0})
    assert fired(book.take("trades", EXCHANGE, prices(101, 102, 103), NOW)) == [(1, 101)]
    assert fired(book.take("trades", EXCHANGE, prices(104, start=NOW + 10 * SECOND), NOW)) == []
    assert fired(book.take("trades", EXCHANGE, prices(100, 105, start=NOW + 20 * SECOND), NOW)) == [(21, 105)]


def test_what_begins_within_the_cool_down_never_fires_until_it_begins_anew() -> None:
    book = book_with({**PRICE, "cooldown_seconds": 5})
    assert fired(book.take("trades", EXCHANGE, prices(101, 99, 102, 103, 104, 105, 106, 107, 108), NOW)) == [(1, 101)]
    assert fired(book.take("trades", EXCHANGE, prices(99, 109, start=NOW + 20 * SECOND), NOW)) == [(21, 109)]


def test_one_that_fires_once_is_inactive_then_and_may_be_made_active_again() -> None:
    book = book_with({**PRICE, "one_time": True})
    assert fired(book.take("trades", EXCHANGE, prices(101, 99, 101), NOW)) == [(1, 101)]
    assert not book.alert("a0").is_active
    assert book.take("trades", EXCHANGE, prices(99, 101, start=NOW + 400 * SECOND), NOW) == []
    book.change("a0", {"is_active": True}, NOW + 500 * SECOND)
    # At once, whatever it said before.
    assert fired(book.take("trades", EXCHANGE, prices(102, start=NOW + 501 * SECOND), NOW)) == [(501, 102)]


def test_what_happened_before_the_alert_was_made_is_not_its_business() -> None:
    assert book_with(PRICE).take("trades", EXCHANGE, prices(101, 102, start=NOW - 2 * SECOND), NOW) == []


def test_one_that_is_active_again_does_not_look_back() -> None:
    book = book_with({**PRICE, "one_time": True}, rules=replace(RULES, recorded=True))
    again = prices(99, 101, 102)
    assert fired(book.take("trades", EXCHANGE, again, NOW)) == [(2, 101)]
    book.change("a0", {"is_active": True}, NOW)
    assert fired(book.take("trades", EXCHANGE, again, NOW)) == [(3, 102)]


def test_in_a_replay_it_fires_however_long_ago_that_was() -> None:
    book = book_with(PRICE, rules=replace(RULES, recorded=True))
    assert fired(book.take("trades", EXCHANGE, prices(99, 101, start=NOW - 9_000 * SECOND), NOW)) == [(-8999, 101)]


def test_after_a_start_what_happened_while_nobody_looked_does_not_fire_but_what_holds_then_does() -> None:
    records = book_with(PRICE).records()
    later = NOW + 3600 * SECOND
    book = AlertBook(RULES, records, later)
    assert book.take("trades", EXCHANGE, prices(99, 101, 99, start=NOW + 600 * SECOND), later) == []
    assert fired(book.take("trades", EXCHANGE, prices(102, start=later), later)) == [(3600, 102)]


def test_other_symbols_and_exchanges_and_prices_that_are_none_change_nothing() -> None:
    book = book_with(PRICE)
    assert book.take("trades", EXCHANGE, trades([(NOW + SECOND, 1, 101.0)], "ETHUSDT"), NOW) == []
    assert book.take("trades", "kraken", prices(101), NOW) == []
    assert book.take("quotes", EXCHANGE, prices(101), NOW) == []
    assert book.take("trades", EXCHANGE, trades([]), NOW) == []
    assert book.take("trades", EXCHANGE, prices(float("nan")), NOW) == []
    assert fired(book.take("trades", EXCHANGE, prices(float("nan"), 101, start=NOW + 9 * SECOND), NOW)) == [(10, 101)]


@pytest.mark.parametrize("cooldown", [0, 300])
def test_two_firings_never_have_the_same_time(cooldown: int) -> None:
    book = book_with({**PRICE, "cooldown_seconds": cooldown})
    at = NOW + SECOND
    again = trades([(at, 1, 101.0), (at, 2, 99.0), (at, 3, 101.0)])
    assert fired(book.take("trades", EXCHANGE, again, NOW)) == [(1, 101)]
