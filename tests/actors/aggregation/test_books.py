"""Compiled books equal plain dicts, message by message, whatever comes and however it is cut into batches."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.aggregation.book_sync import BookEvent, BookState, BookSync
from actors.feeds.feed import BookRules
from storage.schema import BROKEN, CHANGE, CHECKSUM, DEPTH, SNAPSHOT
from tests.actors.aggregation.plain_books import ASK, BID, Exchange, Levels, Message, PlainBook, batch, pieces

seeds = st.integers(0, 2**32)
rules_strategy = st.builds(
    BookRules,
    chain=st.sampled_from(["none", "previous", "range", "next"]),
    checksum=st.sampled_from(["none", "kraken", "okx", "bitfinex"]),
    depth=st.sampled_from([None, 3, 12]),
)


def damaged(message: Message, random: Random) -> list[Message]:
    """What becomes of a message now and then."""
    chance = random.random()
    if chance < 0.03:
        return []
    if chance < 0.05:
        return [replace(message, kind=BROKEN, levels=(), checksum=None)]
    if chance < 0.07:
        return [replace(message, checksum=random.randrange(2**32))]
    if chance < 0.09:
        return [message, message]
    if chance < 0.12:
        return [replace(message, sequence=None, first=None, previous=None)]
    return [message]


def conversation(exchanges: list[Exchange], random: Random, length: int = 80) -> list[Message]:
    messages: list[Message] = []
    for _ in range(length):
        exchange = random.choice(exchanges)
        message = exchange.snapshot() if random.random() < 0.15 else exchange.change()
        messages += damaged(message, random)
        if exchange.rules.checksum != "none" and random.random() < 0.1:
            alone = exchange.levels.checksum(exchange.rules.checksum)
            messages.append(Message(exchange.symbol, CHECKSUM, checksum=alone, ts=exchange.ts))
    return messages


@settings(max_examples=150)
@given(rules_strategy, seeds)
def test_books_equal_plain_dicts_after_any_messages_cut_anywhere(rules: BookRules, seed: int) -> None:
    random = Random(seed)
    exchanges = [Exchange(symbol, rules, random, crosses=True) for symbol in "ABC"]
    books = BookSync(rules, by_request=False)
    books.add("ABC", 0.0)
    plain = {symbol: PlainBook(rules) for symbol in "ABC"}
    for piece in pieces(conversation(exchanges, random), random):
        books.apply(batch(piece), 1.0)
        for message in piece:
            plain[message.symbol].take(message)
        depth = books.depth()
        depth.validate(full=True)
        assert depth.schema == DEPTH
        states = books.states()
        for row in depth.to_pylist():
            symbol = row["symbol"]
            book, state = plain[symbol], states[symbol]
            assert (state.state, state.epoch, state.gaps) == (book.shown, book.epoch, book.gaps)
            assert (state.messages, state.unknown_removals) == (book.messages, book.unknown_removals)
            shown = book.shown == "synced"
            assert row["bids"] == (book.levels.numbers(BID) if shown else [])
            assert row["asks"] == (book.levels.numbers(ASK) if shown else [])
            assert row["state"] == book.shown


@given(rules_strategy, seeds)
def test_the_cut_of_batches_changes_nothing(rules: BookRules, seed: int) -> None:
    random = Random(seed)
    messages = conversation([Exchange(symbol, rules, random, crosses=True) for symbol in "AB"], random)
    whole, cut = BookSync(rules, by_request=False), BookSync(rules, by_request=False)
    for books in (whole, cut):
        books.add("AB", 0.0)
    whole.apply(batch(messages), 1.0)
    for piece in pieces(messages, random):
        cut.apply(batch(piece), 1.0)
    assert cut.depth() == whole.depth()
    assert what_is_known(cut) == what_is_known(whole)
    assert events(cut) == events(whole)


def what_is_known(books: BookSync) -> dict[str, BookState]:
    """Without the questions: none is asked for a book that is good again at the end of its batch."""
    return {symbol: replace(state, resyncs=0) for symbol, state in books.states().items()}


def events(books: BookSync) -> list[BookEvent]:
    return [effect for effect in books.take_effects() if isinstance(effect, BookEvent)]


@given(rules_strategy, seeds)
def test_what_happens_to_one_book_leaves_the_others_equal_to_the_byte(rules: BookRules, seed: int) -> None:
    random = Random(seed)
    good = [Exchange(symbol, rules, random) for symbol in "BC"]
    bad = Exchange("A", rules, random, crosses=True)
    calm: list[Message] = [exchange.snapshot() for exchange in good]
    mixed = list(calm)
    for _ in range(80):
        mixed += conversation([bad], random, 1)
        message = random.choice(good).change()
        calm.append(message)
        mixed.append(message)
    disturbed, alone = BookSync(rules, by_request=False), BookSync(rules, by_request=False)
    disturbed.add("ABC", 0.0)
    alone.add("BC", 0.0)
    for piece in pieces(mixed, random):
        disturbed.apply(batch(piece), 1.0)
    alone.apply(batch(calm), 1.0)
    assert disturbed.depth("BC") == alone.depth("BC")
    assert disturbed.depth("BC").column("state").to_pylist() == ["synced", "synced"]


def synced(rules: BookRules, *levels: tuple[int, str, str]) -> BookSync:
    books = BookSync(rules, by_request=False)
    books.add(["X"], 0.0)
    books.apply(batch([Message("X", SNAPSHOT, levels)]), 0.0)
    books.take_effects()
    return books


def sides(books: BookSync) -> tuple[list[float], list[float]]:
    (row,) = books.depth(["X"]).to_pylist()
    return [level["price"] for level in row["bids"]], [level["price"] for level in row["asks"]]


PLAIN = BookRules("none", "none")


def test_the_best_levels_come_first_and_as_many_as_wanted() -> None:
    books = synced(PLAIN, (BID, "1", "1"), (BID, "3", "1"), (BID, "2", "1"), (ASK, "5", "1"), (ASK, "4", "2.5"))
    assert sides(books) == ([3.0, 2.0, 1.0], [4.0, 5.0])
    (row,) = books.depth(["X", "unknown"], levels=1).to_pylist()
    assert (row["bids"], row["asks"]) == ([{"price": 3.0, "size": 1.0}], [{"price": 4.0, "size": 2.5}])


def test_a_book_is_cut_to_its_depth_after_the_whole_message() -> None:
    books = synced(BookRules("none", "none", 2), (BID, "9", "1"), (BID, "8", "1"), (BID, "7", "1"))
    assert sides(books) == ([9.0, 8.0], [])
    # The new best one pushes 8 out only if nothing else of the message makes room for it.
    books.apply(batch([Message("X", levels=((BID, "10", "1"), (BID, "9", "0")))]), 0.0)
    assert sides(books) == ([10.0, 8.0], [])


def test_removing_a_level_that_is_not_there_is_counted_and_harmless() -> None:
    books = synced(PLAIN, (BID, "9", "1"))
    books.apply(batch([Message("X", levels=((BID, "8", "0"), (ASK, "9", "0")))]), 0.0)
    assert sides(books) == ([9.0], [])
    assert books.states()["X"].unknown_removals == 2


@pytest.mark.parametrize(
    "level", [(BID, "0", "1"), (BID, "nan", "1"), (ASK, "inf", "1"), (ASK, "1", "nan"), (2, "1", "1")]
)
@pytest.mark.parametrize("kind", [SNAPSHOT, CHANGE])
def test_a_level_without_sense_breaks_its_book_and_no_other(level: tuple[int, str, str], kind: int) -> None:
    books = synced(PLAIN, (BID, "9", "1"))
    books.add(["Y"], 0.0)
    books.apply(batch([Message("Y", SNAPSHOT, ((BID, "1", "1"),)), Message("X", kind, ((BID, "8", "1"), level))]), 0.0)
    assert {symbol: state.state for symbol, state in books.states().items()} == {"X": "gapped", "Y": "synced"}
    assert books.depth(["X"]).to_pylist()[0]["bids"] == []


def test_changed_gives_each_book_once() -> None:
    books = synced(PLAIN, (BID, "9", "1"), (BID, "8", "1"))
    books.add(["Y"], 0.0)
    assert books.changed(1).column("symbol").to_pylist() == ["X"]
    assert books.changed(1).num_rows == 0
    books.apply(batch([Message("X", levels=((BID, "8", "2"),)), Message("Y", SNAPSHOT)]), 0.0)
    assert books.changed(1).to_pylist()[0]["bids"] == [{"price": 9.0, "size": 1.0}]
    books.apply(batch([Message("X", BROKEN)]), 0.0)
    (row,) = books.changed().to_pylist()
    assert (row["symbol"], row["state"], row["bids"]) == ("X", "gapped", [])
    books.lost(0.0)
    assert sorted(books.changed().column("state").to_pylist()) == ["stale", "stale"]


def test_a_book_of_fifty_thousand_levels_equals_a_dict_under_changes_anywhere() -> None:
    random = Random(5)
    prices = random.sample(range(1, 1_000_000), 100_000)
    start = tuple((BID if price < 500_000 else ASK, str(price), "1") for price in prices)
    books = synced(PLAIN, *start)
    levels = Levels()
    levels.set(start)
    changes = []
    for _ in range(3_000):
        side = random.choice((BID, ASK))
        price = random.randrange(1, 500_000) + (500_000 if side == ASK else 0)
        changes.append((side, str(price), random.choice(("0", "2", "3.5"))))
        removed = random.choice(prices)
        changes.append((BID if removed < 500_000 else ASK, str(removed), "0"))
    for place in range(0, len(changes), 500):
        books.apply(batch([Message("X", levels=tuple(changes[place : place + 500]))]), 0.0)
    levels.set(changes)
    (row,) = books.depth().to_pylist()
    assert (row["bids"], row["asks"]) == (levels.numbers(BID), levels.numbers(ASK))


def test_sides_that_only_rise_or_only_fall_keep_within_their_regions() -> None:
    books = synced(BookRules("none", "none", 50))
    rising = [Message("X", levels=((BID, str(n), "1"), (ASK, str(10_000 - n), "1"))) for n in range(1, 4_000)]
    books.apply(batch(rising), 0.0)
    assert sides(books) == ([float(n) for n in range(3_999, 3_949, -1)], [float(n) for n in range(6_001, 6_051)])
    falling = [Message("X", levels=((BID, str(n), "0"), (BID, str(n - 50), "1"))) for n in range(3_999, 2_000, -1)]
    books.apply(batch(falling), 0.0)
    assert sides(books)[0] == [float(n) for n in range(2_000, 1_950, -1)]


def test_sliced_batches_and_other_dictionaries_read_alike() -> None:
    books, sliced = synced(PLAIN), synced(PLAIN)
    messages = [
        Message("X" if n % 3 else "Y", levels=((BID, str(n + 1), "1"), (ASK, str(n + 100), "1"))) for n in range(30)
    ]
    whole = batch(messages)
    for place in range(0, 30, 7):
        books.apply(batch(messages[place : place + 7]), 0.0)
        sliced.apply(whole.slice(place, 7), 0.0)
    assert books.depth() == sliced.depth()
    assert len(sides(books)[0]) == 20
    assert (books.strangers, sliced.strangers) == (10, 10)


def test_an_empty_batch_changes_nothing() -> None:
    books = synced(PLAIN, (BID, "9", "1"))
    before = books.depth()
    books.apply(batch([]), 0.0)
    assert books.depth() == before
    assert books.take_effects() == []


def test_times_are_passed_through_as_they_are() -> None:
    books = synced(PLAIN)
    books.apply(batch([Message("X", ts=9_000), Message("X", ts=5_000)]), 0.0)
    assert books.depth().column("ts_recv").to_pylist() == [5_000]
    assert np.asarray(books.depth().column("ts_event")).tolist() == [5_000]
