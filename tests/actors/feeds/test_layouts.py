"""The compiled reader reads what a plain reading reads, or leaves the frame alone."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds.events import Events
from actors.feeds.layouts import (
    BOOK,
    BOOK_SNAPSHOT,
    DERIVATIVE,
    HISTORY,
    IGNORED,
    QUOTE,
    TRADE,
    KnownLayouts,
    Layout,
    steps,
)
from actors.feeds.symbol_codes import SymbolCodes
from actors.feeds.texts import iso_times, numbers, second_times
from storage.schema import BUY, CHANGE, SELL, SNAPSHOT

NAMES = ["A-B", "C-D"]
SYMBOLS = {"symbol": {name: code for code, name in enumerate(NAMES)}}


def layouts(*texts: tuple[int, str], names: Any = None) -> KnownLayouts:
    return KnownLayouts([Layout(kind, text) for kind, text in texts], SYMBOLS if names is None else names)


def read(known: KnownLayouts, *frames: str) -> tuple[Events, list[int]]:
    """The events of frames received at 1,000 and on, and the positions of those left alone."""
    events = Events(np.arange(1_000, 1_000 + len(frames)), SymbolCodes(NAMES))
    return events, known.read([frame.encode() for frame in frames], events).others.tolist()


def one_quote(known: KnownLayouts, frame: str) -> dict[str, Any] | None:
    events, others = read(known, frame)
    assert len(others) + len(events.quote_batch()) == 1
    return None if others else events.quote_batch().to_pylist()[0]


PRICES = layouts((QUOTE, '["<symbol>",<bid_price>]'))
NUMBERS = layouts((QUOTE, '["<symbol>",<sequence>]'))
ISO_TIMES = layouts((QUOTE, '["<symbol>","<iso_time>"]'))
SECOND_TIMES = layouts((QUOTE, '["<symbol>","<seconds_time>"]'))
MILLISECONDS = layouts((QUOTE, '["<symbol>",<milliseconds>]'))
CHECKSUMS = layouts((BOOK, '["<symbol>",<checksum>]'))
BOOKS = layouts(
    (BOOK, '{"s":"<symbol>","b":[((bid:[<level_price>,<level_size>]))],"a":[((ask:[<level_price>,<level_size>]))]}')
)

plain_numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?", fullmatch=True)
any_numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@settings(max_examples=500)
@given(any_numbers)
def test_a_number_that_is_read_is_the_float_nearest_to_its_text(text: str) -> None:
    row = one_quote(PRICES, f'["A-B",{text}]')
    if row is None:
        digits = len(Decimal(text).normalize().as_tuple().digits)
        assert digits > 15 or len(text) > 17 or "e" in text.lower()
    else:
        assert row["bid_price"] == (float(text) if float(text) > 0 else None)


@pytest.mark.parametrize(("text", "value"), [("2e-8", 2e-8), ("1.25E+3", 1250.0), ("3e22", 3e22), ("5e-22", 5e-22)])
def test_exponents_are_read_where_the_result_is_exact(text: str, value: float) -> None:
    row = one_quote(PRICES, f'["A-B",{text}]')
    assert row is not None
    assert row["bid_price"] == value


def test_zeros_that_fill_up_a_number_do_not_count_as_digits() -> None:
    row = one_quote(PRICES, '["A-B",123456789012.000000000000]')
    assert row is not None
    assert row["bid_price"] == 123456789012.0


@pytest.mark.parametrize(
    "text",
    ["", ".5", "5.", "01", "+1", "nan", " 1", "9" * 19, "1.2.3", "1e", "1e23", "1e-23", "1e+", "--1", "-", "0x1", "1_0",
     "9007199254740993", "0." + "1" * 19, "[1]", '""', "nul", "١"],
)  # fmt: skip
def test_a_number_that_raises_a_question_is_left_alone(text: str) -> None:
    assert one_quote(PRICES, f'["A-B",{text}]') is None


@given(st.integers(0, 10**20))
def test_a_sequence_that_is_read_is_exact(number: int) -> None:
    row = one_quote(NUMBERS, f'["A-B",{number}]')
    assert (row is not None) == (number < 2**63)
    assert row is None or row["sequence"] == number


@pytest.mark.parametrize("text", ["-1", "01", "1.0", "", "1e3", "null"])
def test_a_sequence_that_is_no_plain_integer_is_left_alone(text: str) -> None:
    assert one_quote(NUMBERS, f'["A-B",{text}]') is None


@pytest.mark.parametrize(
    ("text", "checksum"),
    [("0", 0), ("4294967295", 2**32 - 1), ("-1", 2**32 - 1), ("-2147483648", 2**31), ("2583817756", 2583817756)],
)
def test_a_checksum_is_an_unsigned_number_of_32_bits(text: str, checksum: int) -> None:
    events, others = read(CHECKSUMS, f'["A-B",{text}]')
    assert not others
    assert events.book_batch().to_pylist()[0]["checksum"] == checksum


@pytest.mark.parametrize("text", ["4294967296", "-2147483649", "-0", "--1", "1.0", "99999999999999999999"])
def test_a_checksum_of_more_than_32_bits_is_left_alone(text: str) -> None:
    assert read(CHECKSUMS, f'["A-B",{text}]')[1] == [0]


@given(st.datetimes(datetime(1990, 1, 1), datetime(2210, 1, 1)), st.integers(0, 999), st.integers(0, 9))
def test_an_iso_time_that_is_read_is_exact(moment: datetime, nanoseconds: int, digits: int) -> None:
    fraction = f"{moment.microsecond:06}{nanoseconds:03}"[:digits]
    text = f"{moment.isoformat(timespec='seconds')}{'.' if digits else ''}{fraction}Z"
    row = one_quote(ISO_TIMES, f'["A-B","{text}"]')
    seconds = (moment.replace(microsecond=0, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    expected = int(seconds) * 10**9 + int(fraction.ljust(9, "0"))
    assert (row is not None) == (2000 <= moment.year < 2100)
    assert row is None or row["ts_event"] == expected == iso_times([text])[0]


@pytest.mark.parametrize(
    "text",
    ["2023-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2021-04-31T00:00:00Z", "2021-00-01T00:00:00Z",
     "2021-13-01T00:00:00Z", "2021-01-00T00:00:00Z", "2021-01-32T00:00:00Z", "2021-1--1T00:00:00Z",
     "2021-01-01T24:00:00Z", "2021-01-01T00:60:00Z", "2021-01-01T00:00:60Z", "2021-01-01T00:00:00.Z",
     "2021-01-01T00:00:00.1234567890Z", "2021-01-01T00:00:00", "2021-01-01 00:00:00Z", "2021-01-01T00:00:00+00:00"],
)  # fmt: skip
def test_a_time_that_raises_a_question_is_left_alone(text: str) -> None:
    assert one_quote(ISO_TIMES, f'["A-B","{text}"]') is None


@given(st.from_regex(r"[0-9]{8,11}(\.[0-9]{0,10})?", fullmatch=True))
def test_seconds_that_are_read_are_exact(text: str) -> None:
    row = one_quote(SECOND_TIMES, f'["A-B","{text}"]')
    if row is not None:
        assert row["ts_event"] == second_times([text])[0] == int(Decimal(text) * 10**9)


def test_seconds_as_exchanges_write_them_are_read() -> None:
    row = one_quote(SECOND_TIMES, '["A-B","1618678133.365913"]')
    assert row is not None
    assert row["ts_event"] == 1_618_678_133_365_913_000


@pytest.mark.parametrize(
    ("milliseconds", "known"),
    [(946_684_799_999, False), (946_684_800_000, True), (4_102_444_799_999, True), (4_102_444_800_000, False),
     (2**62, False), (2**63 - 1, False)],
)  # fmt: skip
def test_milliseconds_are_read_between_2000_and_2100(milliseconds: int, known: bool) -> None:
    row = one_quote(MILLISECONDS, f'["A-B",{milliseconds}]')
    assert (row is not None) == known
    assert row is None or row["ts_event"] == milliseconds * 10**6


levels = st.lists(st.tuples(plain_numbers, plain_numbers), max_size=6)


def book_frame(symbol: str, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> str:
    bid_text, ask_text = (",".join(f"[{price},{size}]" for price, size in side) for side in (bids, asks))
    return f'{{"s":"{symbol}","b":[{bid_text}],"a":[{ask_text}]}}'


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([*NAMES, "X-Y"]), levels, levels), max_size=5))
def test_books_read_as_a_plain_reading_does(books: list[tuple[str, Any, Any]]) -> None:
    events, others = read(BOOKS, *(book_frame(*book) for book in books))
    assert {at for at, (symbol, _, _) in enumerate(books) if symbol == "X-Y"} <= set(others)
    kept = [book for at, book in enumerate(books) if at not in others]
    if not kept:
        assert not events.books
        return
    (columns,) = events.books
    assert columns.at.tolist() == [at for at in range(len(books)) if at not in others]
    assert columns.code.tolist() == [NAMES.index(symbol) for symbol, _, _ in kept]
    assert columns.levels.tolist() == [len(bids) + len(asks) for _, bids, asks in kept]
    rows = [(side, *level) for _, bids, asks in kept for side, of in ((0, bids), (1, asks)) for level in of]
    assert columns.level_side.tolist() == [side for side, _, _ in rows]
    for column, decimals, place in (
        (columns.level_price, columns.level_price_decimals, 1),
        (columns.level_size, columns.level_size_decimals, 2),
    ):
        values, expected = numbers([row[place] for row in rows])
        assert column.tolist() == values.tolist()
        assert decimals.tolist() == expected.tolist()


def test_the_side_of_a_level_comes_from_its_group_a_word_or_the_sign_of_its_amount() -> None:
    for text, frame, expected in (
        (
            '["<symbol>",[((ask:[<level_price>,<level_size>]))]]',
            '["A-B",[[1,2],[3,4]]]',
            [(1, 1.0, 2.0), (1, 3.0, 4.0)],
        ),
        (
            '["<symbol>",[((["<level_side>","<level_price>","<level_size>"]))]]',
            '["A-B",[["sell","1","2"],["buy","3","0"]]]',
            [(1, 1.0, 2.0), (0, 3.0, 0.0)],
        ),
        ('["<symbol>",[((["<level_side:b|s>",<level_price>,<level_size>]))]]', '["A-B",[["s",1,2]]]', [(1, 1.0, 2.0)]),
        ('["<symbol>",[<level_price>,<level_amount>]]', '["A-B",[1,-2]]', [(1, 1.0, 2.0)]),
        ('["<symbol>",[<level_price>,<level_count>,<level_amount>]]', '["A-B",[1,0,1]]', [(0, 1.0, 0.0)]),
        ('["<symbol>",[<level_price>,<level_count>,<level_amount>]]', '["A-B",[2e-8,3,-1]]', [(1, 2e-8, 1.0)]),
        (
            '["<symbol>",[((bid:["<level_action>",<level_price>,<level_size>]))]]',
            '["A-B",[["new",1,2],["delete",3,4.5],["change",5,6]]]',
            [(0, 1.0, 2.0), (0, 3.0, 0.0), (0, 5.0, 6.0)],
        ),
    ):
        events, others = read(layouts((BOOK, text)), frame)
        assert not others, text
        (book,) = events.book_batch().to_pylist()
        assert [(level["side"], level["price"], level["size"]) for level in book["levels"]] == expected


def test_an_amount_of_zero_has_no_side_and_is_left_alone() -> None:
    assert read(layouts((BOOK, '["<symbol>",[<level_price>,<level_amount>]]')), '["A-B",[1,0]]')[1] == [0]


def test_a_layout_says_whether_it_is_a_snapshot_and_whether_decimals_count() -> None:
    text = '["%s","<symbol>",[<level_price>,<level_size>],<first_sequence>,<sequence>,<previous_sequence>]'
    known = KnownLayouts(
        [Layout(BOOK, text % "update"), Layout(BOOK_SNAPSHOT, text % "all", with_decimals=False)], SYMBOLS
    )
    events, _ = read(known, '["all","A-B",[1.50,2],7,8,9]', '["update","C-D",[1.50,2],7,8,9]')
    first, second = events.book_batch().to_pylist()
    assert (first["kind"], second["kind"]) == (SNAPSHOT, CHANGE)
    assert (first["first_sequence"], first["sequence"], first["previous_sequence"]) == (7, 8, 9)
    assert (first["ts_event"], second["ts_event"]) == (1_000, 1_001)
    decimals = [
        (level["price_decimals"], level["size_decimals"]) for book in (first, second) for level in book["levels"]
    ]
    assert decimals == [(-1, -1), (2, 0)]


def test_a_message_has_the_latest_time_of_its_levels() -> None:
    known = layouts((BOOK, '{"l":[((bid:[<level_price>,<level_size>,"<seconds_time>"]))],"s":"<symbol>"}'))
    events, others = read(known, '{"l":[[1,2,"1618678134.5"],[1,3,"1618678133.5"]],"s":"A-B"}')
    assert not others
    assert events.book_batch().column("ts_event").to_pylist() == [1_618_678_134_500_000_000]


TRADES = '"data":[(({"p":<price>,"q":<size>,"i":<trade_id>,"s":"<taker_side>","T":<milliseconds>}))]'


@pytest.mark.parametrize("text", [f'{{"s":"<symbol>",{TRADES}}}', f'{{{TRADES},"s":"<symbol>"}}'])
def test_a_frame_with_several_trades_gives_a_row_for_each(text: str) -> None:
    known = layouts((TRADE, text.replace('"data"', '"new"')), (HISTORY, text.replace('"data"', '"old"')))
    items = [{"p": 1.5, "q": 2, "i": number, "s": "sell", "T": 1_618_678_133_000 + number} for number in range(3)]

    def frame(key: str, symbol: str, items: list[Any]) -> str:
        order = {"s": symbol, key: items} if text.startswith('{"s"') else {key: items, "s": symbol}
        return json.dumps(order, separators=(",", ":"))

    events, others = read(
        known,
        frame("new", "A-B", items),
        frame("new", "A-B", []),
        frame("old", "C-D", items[:1]),
        frame("new", "X-Y", items),
        frame("new", "C-D", items[2:]),
    )
    # A list of no trades has to be judged by the feed, as has an unknown symbol.
    assert others == [1, 3]
    trades = events.trade_batch().to_pylist()
    assert [(trade["symbol"], trade["trade_id"], trade["ts_recv"]) for trade in trades] == [
        ("A-B", 0, 1_000), ("A-B", 1, 1_000), ("A-B", 2, 1_000), ("C-D", 2, 1_004),
    ]  # fmt: skip
    assert {(trade["price"], trade["size"], trade["side"]) for trade in trades} == {(1.5, 2.0, SELL)}
    assert [trade["ts_event"] for trade in trades] == [1_618_678_133_000_000_000 + n * 10**6 for n in (0, 1, 2, 2)]
    assert [(row["symbol"], row["ts_recv"]) for row in events.history_batch().to_pylist()] == [("C-D", 1_002)]


def test_a_list_with_one_bad_trade_gives_none() -> None:
    known = layouts((TRADE, f'{{"s":"<symbol>",{TRADES}}}'))
    good = '{"p":1,"q":2,"i":3,"s":"buy","T":1618678133000}'
    bad = good.replace("buy", "both")
    events, others = read(known, f'{{"s":"A-B","data":[{good},{bad}]}}', f'{{"s":"A-B","data":[{good}]}}')
    assert others == [0]
    assert len(events.trade_batch()) == 1


def test_sides_of_trades() -> None:
    for placeholder, words in (
        ("<taker_side>", ("buy", "sell")),
        ("<taker_side:Buy|Sell>", ("Buy", "Sell")),
        ("<maker_side>", ("sell", "buy")),
        ("<maker_side:true|false>", ("false", "true")),
    ):
        known = layouts((TRADE, f'["<symbol>",<milliseconds>,<price>,<size>,"{placeholder}"]'))
        frames = [f'["A-B",1618678133000,1,2,"{word}"]' for word in (*words, words[0].swapcase())]
        events, others = read(known, *frames)
        assert events.trade_batch().column("side").to_pylist() == [BUY, SELL]
        assert others == [2]
    signed = layouts((TRADE, '["<symbol>",<milliseconds>,<price>,<signed_size>]'))
    events, _ = read(signed, '["A-B",1618678133000,1,2]', '["A-B",1618678133000,1,-2]')
    assert events.trade_batch().column("side").to_pylist() == [BUY, SELL]
    assert events.trade_batch().column("size").to_pylist() == [2.0, 2.0]


def test_order_ids_and_trade_ids_that_are_uuids() -> None:
    maker, taker, trade = (uuid.UUID(int=number << 64 | 7) for number in (5, 6, 2**64 - 1))
    known = layouts((TRADE, '["<symbol>",<milliseconds>,<price>,<size>,"<maker>","<taker>","<trade_uuid>"]'))
    events, others = read(
        known,
        f'["A-B",1618678133000,1,2,"{maker}","{str(taker).upper()}","{trade}"]',
        f'["A-B",1618678133000,1,2,"{maker}","{str(taker)[:-1]}x","{trade}"]',
        f'["A-B",1618678133000,1,2,"{maker}","{taker}","{str(trade).replace("-", "_")}"]',
    )
    assert others == [1, 2]
    (row,) = events.trade_batch().to_pylist()
    assert (row["maker_order_id"], row["taker_order_id"]) == (maker.bytes, taker.bytes)
    assert row["trade_id"] == 2**63 - 1


def test_one_frame_may_give_a_quote_and_a_derivative() -> None:
    known = layouts(
        (
            QUOTE | DERIVATIVE,
            '{"s":"<symbol>","t":<milliseconds>,"b":<bid_price>,"bs":<bid_size>[[,"f":<funding_rate>]],"m":<mark_price>,'
            '"i":<index_price>,"o":<open_interest>,"n":<next_funding_milliseconds>,"x":<any>}',
        )
    )
    events, others = read(
        known,
        '{"s":"A-B","t":1618678133000,"b":0.0,"bs":null,"f":-0.0001,"m":5,"i":6,"o":7,"n":1618678139000,"x":null}',
        '{"s":"C-D","t":1618678133000,"b":1.5,"bs":2.5,"m":null,"i":6,"o":0,"n":1618678139000,"x":"text"}',
        '{"s":"C-D","t":1618678133000,"b":"","bs":2.5,"m":null,"i":6,"o":0,"n":1618678139000,"x":1}',
    )
    assert others == [2]
    first, second = events.quote_batch().to_pylist()
    assert (first["symbol"], first["bid_price"], first["bid_size"], first["last_price"]) == ("A-B", None, None, None)
    assert (second["symbol"], second["bid_price"], second["bid_size"], second["ask_price"]) == ("C-D", 1.5, 2.5, None)
    first, second = events.derivative_batch().to_pylist()
    assert (first["funding_rate"], first["mark_price"], first["open_interest"]) == (-0.0001, 5.0, 7.0)
    assert (second["funding_rate"], second["mark_price"], second["open_interest"]) == (None, None, 0.0)
    assert first["next_funding_time"] == 1_618_678_139_000_000_000
    assert first["predicted_funding_rate"] is None


def test_an_empty_text_is_no_price() -> None:
    known = layouts((QUOTE, '["<symbol>","<bid_price>","<ask_price>"]'))
    events, others = read(known, '["A-B","","1.5"]', '["A-B","null","1.5"]')
    assert others == [1]
    (row,) = events.quote_batch().to_pylist()
    assert (row["bid_price"], row["ask_price"], row["ts_event"], row["sequence"]) == (None, 1.5, 1_000, 1_000)


@pytest.mark.parametrize("value", ["1", "-1.5", "null", "true", "false", '"a b"', '""', "0"])
def test_what_is_of_no_interest_may_be_any_plain_value(value: str) -> None:
    assert one_quote(layouts((QUOTE, '["<symbol>",<any>]')), f'["A-B",{value}]') is not None


@pytest.mark.parametrize(
    "value", ["01", "1.", "nul", "tru", "fals", "nulx", '"\\u0041"', '"\x01"', '"é"', "[]", "", "1e9"]
)
def test_what_is_of_no_interest_and_odd_is_left_alone(value: str) -> None:
    assert one_quote(layouts((QUOTE, '["<symbol>",<any>]')), f'["A-B",{value}]') is None


def test_different_frames_may_use_one_text_for_different_symbols() -> None:
    known = layouts(
        (BOOK, '[<book_channel>,"b",<sequence>]'),
        (QUOTE, '[<quote_channel>,"q",<sequence>]'),
        names={"book_channel": {"17": 0}, "quote_channel": {"17": 1}},
    )
    events, others = read(known, '[17,"b",1]', '[17,"q",2]', '[18,"b",3]')
    assert others == [2]
    assert events.book_batch().column("symbol").to_pylist() == ["A-B"]
    assert events.quote_batch().column("symbol").to_pylist() == ["C-D"]
    known.rename({"book_channel": {"18": 1}, "quote_channel": {}})
    events, others = read(known, '[17,"b",1]', '[17,"q",2]', '[18,"b",3]')
    assert others == [0, 1]
    assert events.book_batch().column("symbol").to_pylist() == ["C-D"]


def test_names_that_change_several_times_between_frames_cost_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []
    fill: Any = steps.fill_slots

    def counted(*arguments: Any) -> None:
        filled.append(1)
        fill(*arguments)

    monkeypatch.setattr(steps, "fill_slots", counted)
    known = layouts((QUOTE, '["<symbol>",<any>]'), names={"symbol": {}})
    filled.clear()
    for number in range(25):
        known.rename({"symbol": {f"S{number}": 1}})
    for _ in range(2):
        events, others = read(known, '["S23",1]', '["S24",1]')
        assert others == [0]
        assert events.quote_batch().column("symbol").to_pylist() == ["C-D"]
    assert len(filled) == 1


def test_every_one_of_many_names_is_found() -> None:
    names = {f"S{number}": number for number in range(3_000)}
    known = layouts((QUOTE, '["<symbol>",<any>]'), names={"symbol": names})
    events = Events(np.arange(len(names)), SymbolCodes(names))
    assert not len(known.read([f'["{name}",1]'.encode() for name in names], events).others)
    assert events.quotes[0].code.tolist() == list(range(3_000))


def test_a_symbol_that_stands_twice_must_be_the_same() -> None:
    known = layouts((QUOTE, '["<symbol>","<symbol>"]'))
    assert read(known, '["A-B","A-B"]', '["A-B","C-D"]', '["A-B","A-B2"]')[1] == [1, 2]


def test_sequences_are_known_of_every_frame_that_is_read() -> None:
    known = layouts((IGNORED, '["hb",<sequence>]'), (QUOTE, '["<symbol>",<sequence>]'), (QUOTE, '["<symbol>"]'))
    events = Events(np.arange(4), SymbolCodes(NAMES))
    done = known.read([b'["hb",5]', b'["A-B",6]', b"odd", b'["A-B"]'], events)
    assert done.sequences.tolist() == [5, 6, -1, -1]
    assert done.ignored == 1
    assert done.others.tolist() == [2]


def test_a_frame_cut_anywhere_or_followed_by_anything_follows_no_layout() -> None:
    whole = book_frame("A-B", [("1.5", "2"), ("3", "4")], [("5", "6")])
    pieces = [whole[:length] for length in range(len(whole))] + [whole + " ", whole + whole, ""]
    events, others = read(BOOKS, whole, *pieces, whole)
    assert others == list(range(1, len(pieces) + 1))
    assert [len(book["levels"]) for book in events.book_batch().to_pylist()] == [3, 3]


@given(st.lists(st.one_of(st.just(b""), st.binary(max_size=40), st.just(b"\0"), st.just(b'["A-B",1]\0["A-B",2]'))))
def test_whatever_stands_between_them_frames_keep_their_places(odd: list[bytes]) -> None:
    frames = [frame for number, one in enumerate(odd) for frame in (f'["A-B",{number}]'.encode(), one)]
    events = Events(np.arange(len(frames)), SymbolCodes(NAMES))
    others = NUMBERS.read(frames, events).others.tolist()
    assert others == list(range(1, len(frames), 2))
    if odd:
        (quotes,) = events.quotes
        assert quotes.at.tolist() == list(range(0, len(frames), 2))
        assert quotes.sequence is not None
        assert quotes.sequence.tolist() == list(range(len(odd)))


@pytest.mark.parametrize("name", ['A"B', "A\\B", "A\0B", "Ä", "A\nB", "A\x7fB"])
def test_a_name_that_looks_different_in_json_is_never_read(name: str) -> None:
    known = layouts((QUOTE, '["<symbol>",<any>]'), names={"symbol": {name: 0}})
    assert read(known, f'["{name}",1]')[1] == [0]


def test_the_first_layout_that_fits_decides() -> None:
    known = layouts((IGNORED, '["<text>",1]'), (QUOTE, '["<symbol>",<any>]'))
    events, _ = read(known, '["A-B",1]', '["A-B",2]')
    assert [row["ts_recv"] for row in events.quote_batch().to_pylist()] == [1_001]


def test_without_layouts_or_frames_there_is_nothing() -> None:
    assert read(KnownLayouts([], {}), "{}", "")[1] == [0, 1]
    events, others = read(BOOKS)
    assert (events.books, others) == ([], [])


@pytest.mark.parametrize(
    "text", ["<symbol>]", "[<price>", '["<symbol>"[[,1]]', '["<symbol>",(([<price>]))', '["<symbol>[[,1]]"]']
)
def test_a_layout_begins_and_ends_with_literal_text(text: str) -> None:
    with pytest.raises(ValueError, match="literal text"):
        layouts((QUOTE, text))
