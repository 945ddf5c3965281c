"""Checksums equal those of the text the exchange wrote, made plainly with zlib."""

import math
import zlib
from decimal import Decimal
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.aggregation.book_checksums import BITFINEX, KRAKEN, OKX, TABLES, TEXT_ROOM, crc_of_level
from actors.aggregation.book_sync import BookSync
from actors.feeds.feed import BookRules, Checksum
from storage.schema import CHANGE, CHECKSUM, SNAPSHOT
from tests.actors.aggregation.plain_books import ASK, BID, Levels, Message, Text, batch


def book(checksum: Checksum, *levels: Text) -> BookSync:
    books = BookSync(BookRules("none", checksum), by_request=False)
    books.add(["X"], 0.0)
    books.apply(batch([Message("X", SNAPSHOT, levels)]), 0.0)
    return books


def outcome(books: BookSync, checksum: int) -> tuple[str, int, int, int]:
    books.apply(batch([Message("X", CHECKSUM, checksum=checksum)]), 0.0)
    state = books.states()["X"]
    return state.state, state.checksums, state.checksum_failures, state.checksums_unknown


def test_kraken_as_documented() -> None:
    """https://docs.kraken.com/exchange/guides/websockets/book-checksum-v1"""
    asks = range(5005, 5055, 5)
    bids = [5000, 4995, 4990, 4980, 4975, 4970, 4965, 4960, 4955, 4950]
    levels = [(BID, f"0.0{price}", "0.00000500") for price in bids]
    levels += [(ASK, f"0.0{price}", "0.00000500") for price in asks]
    assert outcome(book("kraken", *levels), 974947235) == ("synced", 1, 0, 0)
    assert outcome(book("kraken", *levels), 974947234) == ("gapped", 0, 1, 0)


def test_okx_takes_both_sides_in_turns_as_far_as_they_go() -> None:
    """https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel, checksum."""
    levels = [(BID, "3366.1", "7"), (ASK, "3366.8", "9"), (ASK, "3368", "8"), (ASK, "3372", "8.0")]
    text = "3366.1:7:3366.8:9:3368:8:3372:8.0"
    assert outcome(book("okx", *levels), zlib.crc32(text.encode())) == ("synced", 1, 0, 0)


def test_bitfinex_writes_asks_negative_and_small_numbers_with_exponents() -> None:
    """As https://github.com/bitfinexcom/bfx-api-node-models/issues/70 found: e-notation stays as it is."""
    levels = [(BID, "5.6e-7", "60712.4250231"), (BID, "5e-7", "4000"), (ASK, "0.00000584", "1.5e-7"), (ASK, "12", "2")]
    text = "5.6e-7:60712.4250231:0.00000584:-1.5e-7:5e-7:4000:12:-2"
    assert outcome(book("bitfinex", *levels), zlib.crc32(text.encode())) == ("synced", 1, 0, 0)


@pytest.mark.parametrize("rule", ["kraken", "okx", "bitfinex"])
def test_an_empty_book_has_the_checksum_of_nothing(rule: Checksum) -> None:
    assert outcome(book(rule), 0) == ("synced", 1, 0, 0)
    assert outcome(book(rule), 1) == ("gapped", 0, 1, 0)


def test_a_number_whose_text_is_not_certain_makes_a_checksum_unknown_not_wrong() -> None:
    # More digits than a float holds; and a text the exchange has not shown.
    for size in ("12345678.901234567", "1e-7"):
        assert outcome(book("kraken", (BID, "9.5", size)), 77) == ("synced", 0, 0, 1)
    # Below the levels that count it does not matter.
    levels = [(BID, str(price), "1") for price in range(11, 21)] + [(BID, "10", "12345678.901234567")]
    text = "".join(f"{price}1" for price in range(20, 10, -1))
    assert outcome(book("kraken", *levels), zlib.crc32(text.encode())) == ("synced", 1, 0, 0)


def test_where_the_exchange_has_no_checksums_none_is_looked_at() -> None:
    assert outcome(book("none", (BID, "9.5", "1")), 77) == ("synced", 0, 0, 0)


def test_a_message_is_verified_after_all_of_it_and_its_failure_is_told_with_the_number() -> None:
    books = book("okx", (BID, "9", "1"), (ASK, "10", "1"))
    levels = ((BID, "9", "0"), (BID, "8.5", "2.0"))
    right = zlib.crc32(b"8.5:2.0:10:1")
    books.apply(batch([Message("X", CHANGE, levels, checksum=right)]), 0.0)
    assert books.states()["X"].state == "synced"
    books.apply(batch([Message("X", CHANGE, levels, checksum=5)]), 0.0)
    assert books.states()["X"].reason == "the checksum is not 5"


def javascript(value: float) -> str:
    """`String(value)`: the shortest digits, an exponent from 1e-7 down."""
    number = Decimal(repr(value))
    if number >= Decimal("1e-6"):
        return f"{number:f}".removesuffix(".0")
    mantissa, _, exponent = f"{number.normalize():e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def crc(rule: int, side: int, price: tuple[float, int], size: tuple[float, int]) -> tuple[int, int]:
    return crc_of_level(rule, side, *price, *size, np.empty(TEXT_ROOM, np.uint8), TABLES.byte, TABLES.power)


def remainder(text: str) -> tuple[int, int]:
    """CRC-32 begins and ends with ones; without them it is linear, and 0 for zeros."""
    return zlib.crc32(text.encode()) ^ zlib.crc32(bytes(len(text))), len(text)


@given(
    st.integers(1, 2**52 - 1),
    st.integers(0, 22),
    st.integers(1, 10**15),
    st.integers(0, 22),
    st.sampled_from([BID, ASK]),
)
def test_decimals_give_the_exact_text_back(price: int, scale: int, size: int, size_scale: int, side: int) -> None:
    texts = [f"{Decimal(digits).scaleb(-decimals):f}" for digits, decimals in ((price, scale), (size, size_scale))]
    numbers = [(float(text), decimals) for text, decimals in zip(texts, (scale, size_scale), strict=True)]
    found, length = crc(OKX, side, *numbers)
    if price < 2**51:
        assert (found, length) == remainder(f"{texts[0]}:{texts[1]}:")
    else:
        assert (found, length) in {remainder(f"{texts[0]}:{texts[1]}:"), (0, 0)}, "uncertain is never wrong"
    plain = "".join(text.replace(".", "").lstrip("0") for text in texts)
    assert crc(KRAKEN, side, *numbers) in {remainder(plain), (0, 0)}


@given(st.integers(1, 10**15 - 1), st.integers(-22, 0), st.sampled_from([0, 1]))
def test_javascript_numbers_are_written_as_javascript_does(digits: int, exponent: int, side: int) -> None:
    value = float(f"{digits}e{exponent}")
    sign = "-" if side == ASK else ""
    expected = remainder(f"{javascript(value)}:{sign}{javascript(value)}:")
    assert crc(BITFINEX, side, (value, -1), (value, -1)) == expected


@given(st.floats(0, allow_nan=False), st.integers(-1, 127), st.sampled_from([KRAKEN, OKX, BITFINEX]))
def test_no_number_is_written_beyond_its_room(value: float, decimals: int, rule: int) -> None:
    _, length = crc(rule, ASK, (value, decimals), (value, decimals))
    assert 0 <= length <= TEXT_ROOM
    assert length == 0 or math.isfinite(value)


@given(st.sampled_from(["kraken", "okx", "bitfinex"]), st.integers(0, 2**32))
def test_one_wrong_digit_in_the_levels_that_count_is_found(rule: Checksum, seed: int) -> None:
    random = Random(seed)
    prices = random.sample(range(1, 10_000), 60)
    levels: list[Text] = [(BID, f"{price / 100:.2f}", str(random.randint(1, 99))) for price in prices[:30]]
    levels += [(ASK, f"{price / 100 + 200:.2f}", str(random.randint(1, 99))) for price in prices[30:]]
    plain = Levels()
    plain.set(levels)
    checksum = plain.checksum(rule)
    assert outcome(book(rule, *levels), checksum)[0] == "synced"
    best = max(levels[:30], key=lambda level: float(level[1]))
    wrong = [(*level[:2], "100") if level == best else level for level in levels]
    assert outcome(book(rule, *wrong), checksum)[0] == "gapped"
