"""Which state books are in, what is asked for and when: never synced with contents that are not the exchange's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.aggregation.book_kernels import (
    apply_messages,
    copy_held,
    copy_levels,
    expire,
    place_of,
)
from actors.aggregation.book_memory import Bounds
from actors.aggregation.book_resync import Pace
from actors.aggregation.book_sync import BookEvent, BookSync, Effect, RenewSubscription, RequestSnapshot
from actors.feeds.feed import BookRules, Chain
from actors.kernels import warm_up
from storage.schema import BROKEN, CHANGE, SNAPSHOT
from tests.actors.aggregation.plain_books import ASK, BID, Exchange, Message, batch, pieces

RANGE = BookRules("range", "none")
PLAIN = BookRules("none", "none")
SECOND = 10**9


def no_jitter() -> float:
    return 0.0


PACE = Pace(open_at_once=4, answer_s=10.0, first_wait_s=1.0, longest_wait_s=60.0, settled_s=30.0)


def by_request(symbols: str = "X", bounds: Bounds | None = None) -> BookSync:
    books = BookSync(RANGE, by_request=True, bounds=bounds, random=no_jitter, pace=PACE)
    books.add(symbols, 0.0)
    return books


def change(first: int, last: int, *levels: tuple[int, str, str], symbol: str = "X", ts: int = 1) -> Message:
    return Message(symbol, CHANGE, levels, first=first, sequence=last, ts=ts)


def snapshot(sequence: int | None, *levels: tuple[int, str, str], symbol: str = "X") -> Message:
    return Message(symbol, SNAPSHOT, levels, sequence=sequence)


def asked(effects: list[Effect]) -> list[str]:
    return [effect.symbol for effect in effects if isinstance(effect, RequestSnapshot | RenewSubscription)]


def told(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(effect.state, effect.reason) for effect in effects if isinstance(effect, BookEvent)]


def state(books: BookSync, symbol: str = "X") -> str:
    return books.states()[symbol].state


def bids(books: BookSync, symbol: str = "X") -> dict[float, float]:
    (row,) = books.depth([symbol]).to_pylist()
    return {level["price"]: level["size"] for level in row["bids"]}


# ---- snapshots by request


def test_a_snapshot_is_asked_for_at_the_first_message_or_when_the_subscription_stands() -> None:
    books = by_request("XYZ")
    books.tick(0.0)
    assert asked(books.take_effects()) == []
    books.apply(batch([change(11, 12)]), 1.0)
    assert asked(books.take_effects()) == ["X"]
    books.subscribed("XY", 2.0)
    assert asked(books.take_effects()) == ["Y"]
    assert {symbol: state(books, symbol) for symbol in "XYZ"} == dict.fromkeys("XYZ", "syncing")


def test_the_first_message_does_not_close_a_question_that_is_open() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.apply(batch([change(11, 12, (BID, "1", "5"))]), 0.1)
    assert asked(books.take_effects()) == ["X"]
    books.snapshot(batch([snapshot(10)]), 0.2)
    assert (state(books), bids(books)) == ("synced", {1.0: 5.0})


def test_held_messages_older_than_the_snapshot_are_dropped_and_the_others_applied() -> None:
    books = by_request()
    held = [change(11, 12, (BID, "1", "5")), change(13, 16, (BID, "2", "5")), change(17, 17, (BID, "3", "5"))]
    books.apply(batch(held), 0.0)
    books.snapshot(batch([snapshot(14, (BID, "1", "7"), (BID, "9", "1"))]), 0.0)
    assert bids(books) == {1.0: 7.0, 2.0: 5.0, 3.0: 5.0, 9.0: 1.0}
    known = books.states()["X"]
    assert (known.state, known.older, known.messages, known.sequence, known.epoch) == ("synced", 1, 3, 17, 1)
    books.apply(batch([change(18, 19, (BID, "3", "0"))]), 0.0)
    assert (state(books), bids(books)[9.0], 3.0 in bids(books)) == ("synced", 1.0, False)


def test_messages_older_than_the_snapshot_that_come_after_it_are_dropped_too() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.snapshot(batch([snapshot(14, (BID, "1", "7"))]), 0.0)
    late = [change(11, 12, (BID, "1", "5")), change(13, 14, (BID, "1", "0")), change(15, 15, (BID, "2", "1"))]
    books.apply(batch(late), 0.0)
    assert (bids(books), books.states()["X"].older) == ({1.0: 7.0, 2.0: 1.0}, 2)


def test_the_first_message_after_the_snapshot_must_not_begin_behind_it() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.snapshot(batch([snapshot(14)]), 0.0)
    books.apply(batch([change(16, 17)]), 0.0)
    assert told(books.take_effects())[-1] == ("gapped", "a hole: 15 expected, 16 came")


def test_a_snapshot_older_than_the_first_message_held_is_refused_and_asked_for_again() -> None:
    books = by_request()
    books.apply(batch([change(21, 22, (BID, "1", "5"))]), 0.0)
    books.take_effects()
    books.snapshot(batch([snapshot(19)]), 0.0)
    assert told(books.take_effects()) == [("syncing", "the snapshot is older than the first message held")]
    books.tick(0.9)
    assert asked(books.take_effects()) == []
    books.tick(1.0)
    assert asked(books.take_effects()) == ["X"]
    books.snapshot(batch([snapshot(20)]), 1.0)
    assert (state(books), bids(books)) == ("synced", {1.0: 5.0})


def test_a_hole_takes_trust_from_the_book_at_once_and_the_message_behind_it_is_held() -> None:
    books = by_request("XY")
    books.subscribed("XY", 0.0)
    books.snapshot(batch([snapshot(10, symbol="X"), snapshot(10, symbol="Y")]), 0.0)
    books.take_effects()
    with_hole = [change(11, 11), change(13, 14, (BID, "1", "1"))]
    books.apply(batch([*with_hole, change(11, 12, (BID, "4", "4"), symbol="Y")]), 100.0)
    assert (state(books), bids(books)) == ("gapped", {})
    assert (state(books, "Y"), bids(books, "Y")) == ("synced", {4.0: 4.0})
    assert asked(books.take_effects()) == ["X"]
    books.snapshot(batch([snapshot(11)]), 100.0)
    assert state(books) == "gapped", "it misses 12"
    books.tick(101.0)
    books.snapshot(batch([snapshot(12)]), 101.0)
    assert (state(books), bids(books), books.states()["X"].gaps) == ("synced", {1.0: 1.0}, 1)


def test_a_hole_among_held_messages_leaves_only_what_is_behind_it() -> None:
    books = by_request()
    books.apply(batch([change(11, 12), change(15, 15, (BID, "1", "1"))]), 0.0)
    books.snapshot(batch([snapshot(11)]), 0.0)
    assert (state(books), books.states()["X"].epoch) == ("syncing", 0), "13 and 14 are missing"


def test_the_answer_to_a_question_from_before_a_broken_message_is_no_answer() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.apply(batch([Message("X", BROKEN)]), 0.0)
    books.snapshot(batch([snapshot(12)]), 0.0)
    assert state(books) == "syncing", "the message that could not be read may be number 13"
    books.tick(1.0)
    books.snapshot(batch([snapshot(13)]), 1.0)
    assert state(books) == "synced"


def test_a_snapshot_nobody_asked_for_is_left_out() -> None:
    books = by_request()
    books.snapshot(batch([snapshot(10), snapshot(10, symbol="stranger")]), 0.0)
    assert state(books) == "syncing"
    books.subscribed("X", 0.0)
    books.snapshot(batch([snapshot(10, (BID, "1", "1"))]), 0.0)
    books.apply(batch([change(11, 12, (BID, "2", "2"))]), 0.0)
    books.snapshot(batch([snapshot(10, (BID, "1", "1"))]), 0.0)
    assert bids(books) == {1.0: 1.0, 2.0: 2.0}


def test_an_answer_from_before_the_connection_was_lost_is_left_out() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    (late,) = [effect for effect in books.take_effects() if isinstance(effect, RequestSnapshot)]
    books.lost(1.0)
    books.snapshot(batch([snapshot(10)]), 1.0, late.question)
    assert state(books) == "stale"
    books.subscribed("X", 2.0)
    (new,) = [effect for effect in books.take_effects() if isinstance(effect, RequestSnapshot)]
    books.snapshot(batch([snapshot(10)]), 2.0, late.question)
    assert state(books) == "syncing"
    books.snapshot(batch([snapshot(20)]), 2.0, new.question)
    assert state(books) == "synced"


def test_after_a_broken_message_a_snapshot_must_be_newer_than_the_last_one_read() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.snapshot(batch([snapshot(10)]), 0.0)
    books.apply(batch([change(11, 12), Message("X", BROKEN)]), 100.0)
    books.snapshot(batch([snapshot(12)]), 100.0)
    assert state(books) == "gapped", "an answer from a cache: the message that could not be read begins with 13"
    books.tick(101.0)
    books.snapshot(batch([snapshot(13)]), 101.0)
    assert state(books) == "synced"


@pytest.mark.parametrize("answer", [snapshot(None), Message("X", CHANGE, sequence=10), snapshot(10, (BID, "nan", "1"))])
def test_an_answer_that_is_no_snapshot_is_asked_for_again(answer: Message) -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.take_effects()
    books.snapshot(batch([answer]), 0.0)
    assert state(books) == "syncing"
    books.tick(1.0)
    assert asked(books.take_effects()) == ["X"]


def test_more_messages_than_may_be_held_drop_the_oldest_and_the_snapshot_must_be_newer() -> None:
    books = by_request(bounds=Bounds(held=5, held_waiting=5))
    books.apply(batch([change(n, n, (BID, str(n), "1")) for n in range(1, 9)]), 0.0)
    books.snapshot(batch([snapshot(2)]), 0.0)
    assert state(books) == "syncing"
    books.tick(1.0)
    books.snapshot(batch([snapshot(3)]), 1.0)
    assert (state(books), sorted(bids(books))) == ("synced", [4.0, 5.0, 6.0, 7.0, 8.0])
    assert books.states()["X"].not_held == 3


def test_a_book_that_waits_for_long_holds_its_newest_messages_in_little_memory() -> None:
    books = by_request("XY", bounds=Bounds(held=50, held_waiting=50))
    for start in range(1, 10_001, 500):
        numbers = [n for n in range(start, start + 500) for _ in "XY"]
        messages = [change(n, n, (BID, str(n), "1"), symbol="XY"[at % 2]) for at, n in enumerate(numbers)]
        books.apply(batch(messages), 0.0)
    books.snapshot(batch([snapshot(9_990), snapshot(9_960, symbol="Y")]), 0.0)
    assert sorted(bids(books, "X")) == [float(n) for n in range(9_991, 10_001)]
    assert sorted(bids(books, "Y")) == [float(n) for n in range(9_961, 10_001)]
    assert books.nbytes < 500_000


def test_levels_held_without_end_meet_a_bound_and_the_book_recovers() -> None:
    books = by_request("XY", bounds=Bounds(held_levels=1_000))
    wide = tuple((BID, str(price), "1") for price in range(1, 101))
    for n in range(1, 50):
        books.apply(batch([change(n, n, *wide)]), 0.0)
    assert books.nbytes < 1_000_000
    books.apply(batch([change(1, 1, (BID, "1", "1"), symbol="Y")]), 0.0)
    books.snapshot(batch([snapshot(40, symbol="X"), snapshot(0, symbol="Y")]), 0.0)
    assert (state(books, "X"), state(books, "Y")) == ("syncing", "synced")
    books.tick(1.0)
    books.snapshot(batch([snapshot(49, symbol="X")]), 1.0)
    assert state(books, "X") == "synced"


def test_a_request_without_sequences_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="sequences"):
        BookSync(PLAIN, by_request=True)


# ---- snapshots with the stream


def streamed(*symbols: str, rules: BookRules = PLAIN, **arguments: float | None) -> BookSync:
    books = BookSync(rules, by_request=False, random=no_jitter, pace=PACE, **arguments)
    books.add(symbols, 0.0)
    books.subscribed(symbols, 0.0)
    books.apply(batch([snapshot(1, (BID, "1", "1"), (ASK, "2", "1"), symbol=symbol) for symbol in symbols]), 0.0)
    books.take_effects()
    return books


def test_a_subscription_is_renewed_when_no_snapshot_came_with_it() -> None:
    books = BookSync(PLAIN, by_request=False, random=no_jitter, pace=PACE)
    books.add("X", 0.0)
    books.subscribed("X", 0.0)
    books.tick(9.9)
    assert asked(books.take_effects()) == []
    books.tick(10.0)
    assert asked(books.take_effects()) == ["X"]


def test_a_broken_message_gaps_its_book_until_the_next_snapshot() -> None:
    books = streamed("X", "Y")
    books.apply(batch([Message("X", BROKEN), Message("X", CHANGE, ((BID, "1.5", "1"),))]), 100.0)
    effects = books.take_effects()
    assert effects == [BookEvent("X", "gapped", "a message could not be read", 1, 1), RenewSubscription("X")]
    assert books.synced == {"Y"}
    books.apply(batch([snapshot(None, (BID, "7", "1"), symbol="X")]), 101.0)
    assert books.take_effects() == [BookEvent("X", "synced", "", 2, 1)]
    assert bids(books) == {7.0: 1.0}


@pytest.mark.parametrize(
    ("chain", "good", "bad"),
    [
        ("previous", Message("X", previous=1, sequence=5), Message("X", previous=4, sequence=6)),
        ("range", change(2, 5), change(7, 8)),
        ("next", Message("X", sequence=2), Message("X", sequence=4)),
    ],
)
def test_each_chain_tells_a_message_that_follows_from_one_that_does_not(
    chain: Chain, good: Message, bad: Message
) -> None:
    books = streamed("X", rules=BookRules(chain, "none"))
    books.apply(batch([good]), 0.0)
    assert state(books) == "synced"
    books.apply(batch([bad]), 0.0)
    assert state(books) == "gapped"


def test_a_reset_to_lower_sequences_is_accepted_where_each_message_names_the_one_before_it() -> None:
    """OKX after maintenance, and its messages that say nothing changed (`seqId` equal to `prevSeqId`).
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel"""
    books = streamed("X", rules=BookRules("previous", "none"))
    chain = [(1, 15), (15, 15), (15, 3), (3, 5)]
    books.apply(batch([Message("X", previous=before, sequence=now) for before, now in chain]), 0.0)
    assert (state(books), books.states()["X"].sequence) == ("synced", 5)


def test_no_sequence_is_no_evidence() -> None:
    books = streamed("X", rules=BookRules("next", "none"))
    books.apply(batch([Message("X", sequence=None), Message("X", sequence=9), Message("X", sequence=10)]), 0.0)
    assert state(books) == "synced"


# ---- crossed, silent, lost


def test_a_crossed_book_is_not_synced_until_it_is_crossed_no_more() -> None:
    books = streamed("X")
    books.apply(batch([Message("X", CHANGE, ((BID, "2", "1"),), ts=SECOND)]), 0.0)
    assert (state(books), bids(books), books.synced) == ("gapped", {}, frozenset())
    books.apply(batch([Message("X", CHANGE, ((ASK, "2", "0"), (ASK, "3", "1")), ts=2 * SECOND)]), 0.0)
    assert (state(books), bids(books)) == ("synced", {1.0: 1.0, 2.0: 1.0})
    assert told(books.take_effects()) == [("gapped", "crossed"), ("synced", "")]
    assert books.states()["X"].gaps == 0


def test_a_book_that_stays_crossed_is_built_anew() -> None:
    books = streamed("X", "Y")
    books.apply(batch([Message("X", CHANGE, ((BID, "2", "1"),), ts=SECOND)]), 0.0)
    books.apply(batch([Message("Y", CHANGE, ts=6 * SECOND)]), 100.0)
    books.tick(100.0)
    assert asked(books.take_effects()) == []
    books.apply(batch([Message("Y", CHANGE, ts=6 * SECOND + 1)]), 100.0)
    books.tick(100.0)
    effects = books.take_effects()
    assert (told(effects), asked(effects)) == ([("gapped", "crossed for too long")], ["X"])
    books.apply(batch([snapshot(1, (BID, "1", "1"))]), 101.0)
    assert state(books) == "synced"


def test_a_book_that_hears_nothing_is_stale_until_it_does() -> None:
    books = streamed("X", "Y", stale_s=60.0)
    books.apply(batch([Message("X", CHANGE)]), 50.0)
    books.tick(61.0)
    assert (state(books, "X"), state(books, "Y"), bids(books, "Y")) == ("synced", "stale", {})
    assert books.take_effects() == [BookEvent("Y", "stale", "no message for too long", 1, 1)]
    books.apply(batch([Message("Y", CHANGE)]), 62.0)
    assert (state(books, "Y"), bids(books, "Y")) == ("synced", {1.0: 1.0})


def test_without_a_time_no_book_is_silent_or_crossed_for_too_long() -> None:
    books = streamed("X", "Y", stale_s=None, crossed_s=None)
    books.apply(batch([Message("X", CHANGE, ((BID, "2", "1"),), ts=1), Message("Y", ts=1000 * SECOND)]), 0.0)
    books.tick(1e9)
    assert (asked(books.take_effects()), state(books, "Y")) == ([], "synced")


def test_a_lost_connection_makes_every_book_stale_at_once_and_asks_for_nothing() -> None:
    books = streamed("X", "Y")
    books.add("Z", 0.0)
    books.apply(batch([Message("X", BROKEN)]), 0.0)
    books.lost(1.0)
    effects = books.take_effects()
    assert (asked(effects), len(told(effects))) == ([], 5)
    assert {known.state for known in books.states().values()} == {"stale"}
    assert books.depth().column("bids").to_pylist() == [[], [], []]
    books.tick(1000.0)
    books.apply(batch([Message("X", CHANGE)]), 1000.0)
    assert (books.take_effects(), state(books)) == ([], "stale")
    books.apply(batch([snapshot(5, (BID, "3", "1"))]), 1001.0)
    assert (bids(books), books.states()["X"].epoch) == ({3.0: 1.0}, 2)


def test_where_snapshots_come_by_request_the_next_connection_asks_for_them_again() -> None:
    books = by_request("XY")
    books.subscribed("XY", 0.0)
    books.snapshot(batch([snapshot(10, symbol="X"), snapshot(10, symbol="Y")]), 0.0)
    books.lost(1.0)
    books.take_effects()
    books.apply(batch([change(501, 502)]), 5.0)
    books.subscribed("XY", 6.0)
    assert asked(books.take_effects()) == ["X", "Y"]
    books.snapshot(batch([snapshot(500)]), 7.0)
    assert (state(books), books.states()["X"].sequence, state(books, "Y")) == ("synced", 502, "syncing")


# ---- symbols, bounds, time


def test_after_the_warm_up_nothing_is_compiled_any_more() -> None:
    kernels = [apply_messages, copy_levels, expire, place_of, copy_held]
    warm_up()
    compiled = [len(kernel.signatures) for kernel in kernels]
    books = by_request("XY")
    books.apply(batch([change(1, 2, (BID, "1", "1")), Message("Y", BROKEN)]), 0.0)
    books.snapshot(batch([snapshot(1, (BID, "1", "1"), (ASK, "1", "1"))]), 0.0)
    checked = BookSync(BookRules("previous", "okx", 5), by_request=False)
    checked.add(["X"], 0.0)
    checked.apply(batch([snapshot(1), Message("X", checksum=1)]), 0.0)
    checked.apply(batch([snapshot(1), Message("X", checksum=1)]).slice(1, 1), 0.0)
    checked.tick(0)
    checked.apply(batch([snapshot(1)]), 0)
    checked.changed()
    assert [len(kernel.signatures) for kernel in kernels] == compiled
    assert compiled == [1] * len(kernels)


def test_symbols_come_and_go_without_disturbing_others() -> None:
    books = streamed("X", "Y")
    books.remove(["X", "never there"])
    both = [Message("X", CHANGE), Message("Y", CHANGE, ((BID, "1.5", "1"),))]
    books.apply(batch(both), 0.0)
    assert (books.symbols, books.strangers, bids(books, "Y")) == (("Y",), 1, {1.0: 1.0, 1.5: 1.0})
    books.add(["X", "Y"], 0.0)
    books.apply(batch([snapshot(1, (BID, "5", "1"), symbol=symbol) for symbol in "XY"]), 0.0)
    assert (bids(books, "X"), books.strangers) == ({5.0: 1.0}, 1)
    books.remove(["X"])
    books.add(["X"], 0.0)
    known = books.states()["X"]
    assert (known.state, known.epoch, known.ts_recv, state(books, "Y")) == ("syncing", 0, None, "synced")
    for turn in range(50):
        books.add([f"S{turn}-{n}" for n in range(100)], 0.0)
        books.apply(batch([snapshot(1, (BID, "1", "1"), symbol=f"S{turn}-{n}") for n in range(100)]), 0.0)
        books.remove([f"S{turn}-{n}" for n in range(100)])
    assert books.nbytes < 1_000_000
    assert bids(books, "Y") == {5.0: 1.0}


@pytest.mark.parametrize("bounds", [Bounds(levels_per_side=100), Bounds(levels=600)])
def test_levels_without_end_meet_a_bound_and_only_that_book_is_gapped(bounds: Bounds) -> None:
    books = BookSync(PLAIN, by_request=False, bounds=bounds)
    books.add("XY", 0.0)
    books.apply(batch([snapshot(1, (BID, "1", "1"), symbol=symbol) for symbol in "XY"]), 0.0)
    for n in range(1, 2_000, 10):
        books.apply(batch([Message("X", levels=tuple((BID, str(n + k), "1") for k in range(10)))]), 0.0)
    assert (state(books), books.states()["X"].reason) == ("gapped", "more levels than a book may have")
    books.apply(batch([Message("Y", levels=((BID, "2", "1"),))]), 0.0)
    assert (state(books, "Y"), bids(books, "Y")) == ("synced", {1.0: 1.0, 2.0: 1.0})
    wide = tuple((BID, str(n), "1") for n in range(1, 700))
    books.apply(batch([snapshot(1, *wide, symbol="X"), Message("Y", levels=((BID, "3", "1"),))]), 0.0)
    assert (state(books), state(books, "Y")) == ("gapped", "synced")
    books.apply(batch([snapshot(1, *wide[:50], symbol="X")]), 0.0)
    assert (state(books), len(bids(books))) == ("synced", 50)
    # What a book had that came to its bound is there for the others.
    books.apply(batch([snapshot(1, *wide, symbol="X"), snapshot(1, *wide[:95], symbol="Y")]), 0.0)
    assert (state(books), state(books, "Y"), len(bids(books, "Y"))) == ("gapped", "synced", 95)


def test_a_question_is_repeated_only_after_its_time_and_then_ever_later() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    times = []
    for tenth in range(3_000):
        now = tenth / 10
        books.tick(now)
        times += [now for _ in asked(books.take_effects())]
    # Ten seconds for an answer, then 1, 2, 4, 8, 16, 32 and at most 60 of waiting.
    assert times == pytest.approx([0, 11, 23, 37, 55, 81, 123, 193, 263], abs=0.15)


def test_failed_snapshots_are_told_and_asked_for_again_later() -> None:
    books = by_request()
    books.subscribed("X", 0.0)
    books.take_effects()
    books.snapshot_failed("X", "429 Too Many Requests" + "!" * 10_000, 0.0)
    books.snapshot_failed("X", "twice", 0.0)
    books.snapshot_failed("stranger", "whatever", 0.0)
    ((told_state, reason),) = told(books.take_effects())
    assert (told_state, reason[:21], len(reason)) == ("syncing", "429 Too Many Requests", 200)
    books.tick(1.0)
    assert asked(books.take_effects()) == ["X"]
    assert books.states()["X"].resyncs == 2


@dataclass
class Conversation:
    """An exchange, what reaches us of it, and a shell that answers late or never."""

    rules: BookRules
    requests: bool
    random: Random
    now: float = 0.0
    books: BookSync = field(init=False)
    exchanges: dict[str, Exchange] = field(init=False)
    answers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    #: The newest sequence that reached us of each book.
    heard: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pace = Pace(open_at_once=2, answer_s=3.0, first_wait_s=0.2, longest_wait_s=1.0, settled_s=5.0)
        bounds = Bounds(held=8, held_waiting=3, held_levels=60)
        self.books = BookSync(self.rules, self.requests, random=self.random.random, pace=pace, bounds=bounds)
        self.exchanges = {symbol: Exchange(symbol, self.rules, self.random) for symbol in "ABC"}
        self.books.add("ABC", 0.0)
        self.books.subscribed("ABC", 0.0)
        if not self.requests:
            for exchange in self.exchanges.values():
                self.receive([exchange.snapshot()])

    def receive(self, messages: list[Message]) -> None:
        for piece in pieces(messages, self.random):
            self.books.apply(batch(piece), self.now)
            for message in piece:
                if message.sequence is not None:
                    self.heard[message.symbol] = message.sequence
            self.check()

    def step(self) -> None:
        self.now += 0.1
        messages = []
        for _ in range(self.random.randrange(6)):
            message = self.random.choice(list(self.exchanges.values())).change()
            chance = self.random.random()
            if chance < 0.04:
                continue
            messages.append(Message(message.symbol, BROKEN, ts=message.ts) if chance < 0.06 else message)
        self.receive(messages)
        if self.random.random() < 0.02:
            self.books.lost(self.now)
            self.check()
            self.answers.clear()
            self.heard.clear()
            self.books.subscribed("ABC", self.now)
            if not self.requests:
                self.receive([exchange.snapshot() for exchange in self.exchanges.values()])
        self.books.tick(self.now)
        for effect in self.books.take_effects():
            if isinstance(effect, RequestSnapshot):
                self.answer(effect)
            elif isinstance(effect, RenewSubscription):
                exchange = self.exchanges[effect.symbol]
                self.answers.append((self.delay(), lambda exchange=exchange: self.receive([exchange.snapshot()])))
        due = [answer for at, answer in self.answers if at <= self.now]
        self.answers = [(at, answer) for at, answer in self.answers if at > self.now]
        for answer in due:
            answer()
            self.check()

    def delay(self) -> float:
        return self.now + self.random.choice((0.0, 0.1, 0.5, 1.0))

    def answer(self, effect: RequestSnapshot) -> None:
        """Snapshots are of when they were asked for, or a little older: they come from a cache."""
        exchange = self.exchanges[effect.symbol]
        at = self.random.choice(sorted(exchange.history)[-3:])
        sides = exchange.history[at]
        message = snapshot(at, *sides.best(BID), *sides.best(ASK), symbol=effect.symbol)
        chance = self.random.random()
        if chance < 0.1:
            return
        if chance < 0.2:
            self.books.snapshot_failed(effect.symbol, "no", self.now, effect.question)
            return
        self.answers.append((self.delay(), lambda: self.books.snapshot(batch([message]), self.now, effect.question)))

    def check(self) -> None:
        """A book is the exchange's own, of its sequence, which is no older than what we heard; or it is not synced."""
        for row in self.books.depth().to_pylist():
            if row["state"] != "synced":
                assert (row["bids"], row["asks"]) == ([], [])
                continue
            true = self.exchanges[row["symbol"]].history[row["sequence"]]
            assert (row["bids"], row["asks"]) == (true.numbers(BID), true.numbers(ASK))
            assert row["sequence"] >= self.heard.get(row["symbol"], 0)


@settings(max_examples=60)
@given(st.sampled_from(["previous", "range", "next"]), st.booleans(), st.integers(0, 2**32))
def test_a_book_is_never_synced_with_other_contents_than_the_exchange_has(
    chain: Chain, requests: bool, seed: int
) -> None:
    conversation = Conversation(BookRules(chain, "none"), requests, Random(seed))
    for _ in range(60):
        conversation.step()


def test_such_books_do_get_synced_again() -> None:
    """The test above would pass if no book ever were."""
    for requests in (True, False):
        conversation = Conversation(RANGE, requests, Random(1))
        synced = 0
        for _ in range(400):
            conversation.step()
            synced += len(conversation.books.synced)
        states = conversation.books.states().values()
        assert synced > 200
        assert sum(known.gaps for known in states) > 5
        assert sum(known.epoch for known in states) > 10
