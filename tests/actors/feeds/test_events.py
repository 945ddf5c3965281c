import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.columns import (
    NO_CHECKSUM,
    NO_SEQUENCE,
    NO_TIME,
    BookColumns,
    DerivativeColumns,
    LiquidationColumns,
    QuoteColumns,
    TradeColumns,
)
from actors.feeds.events import Events
from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes
from actors.feeds.texts import iso_times, numbers, order_ids, second_times, times
from storage.schema import BROKEN, CHANGE, CHECKSUM, SNAPSHOT, UNKNOWN_SIDE
from tests.actors.feeds.checks import BATCHES, check_batch, rows

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENT = 1_618_677_817_089_723_000
RECEIVED = MOMENT + 1_000_000 * np.arange(10)


def new_events(*symbols: str) -> Events:
    return Events(RECEIVED, SymbolCodes(symbols or ("A", "B", "C")))


def trades(*at: int, code: int | list[int] = 0, **columns: Any) -> TradeColumns:
    length = len(at)
    made = TradeColumns(
        at=np.array(at, np.intp),
        code=np.full(length, code, np.int32) if isinstance(code, int) else np.array(code, np.int32),
        ts_event=np.full(length, MOMENT),
        trade_id=np.array(at, np.int64) * 10,
        side=np.ones(length, np.uint8),
        price=np.full(length, 2.5),
        size=np.full(length, 1.5),
    )
    return replace(made, **{name: np.array(values) for name, values in columns.items()})


def quotes(*at: int, **columns: Any) -> QuoteColumns:
    length = len(at)
    made = QuoteColumns(
        at=np.array(at, np.intp),
        code=np.zeros(length, np.int32),
        ts_event=None,
        sequence=None,
        bid_price=np.full(length, 2.0),
        bid_size=np.full(length, 1.0),
        ask_price=np.full(length, 3.0),
        ask_size=np.full(length, 1.0),
    )
    return replace(made, **{name: np.array(values) for name, values in columns.items()})


def books(*messages: tuple[int, list[tuple[int, float, float]]], kind: int = CHANGE, **columns: Any) -> BookColumns:
    """Messages at a position with their levels (side, price, size)."""
    levels = [level for _, own in messages for level in own]
    made = BookColumns(
        at=np.array([at for at, _ in messages], np.intp),
        code=np.zeros(len(messages), np.int32),
        kind=np.full(len(messages), kind, np.uint8),
        ts_event=None,
        first_sequence=None,
        sequence=None,
        previous_sequence=None,
        checksum=None,
        levels=np.array([len(own) for _, own in messages], np.int64),
        level_side=np.array([side for side, _, _ in levels], np.uint8),
        level_price=np.array([price for _, price, _ in levels], np.float64),
        level_size=np.array([size for _, _, size in levels], np.float64),
        level_price_decimals=np.full(len(levels), 2, np.int8),
        level_size_decimals=np.full(len(levels), -1, np.int8),
    )
    return replace(made, **{name: np.array(values) for name, values in columns.items()})


def level_sizes(batch: pa.RecordBatch) -> list[list[float]]:
    return [[level["size"] for level in row["levels"]] for row in rows(batch)]


def test_without_columns_every_batch_is_empty_and_of_its_schema() -> None:
    events = new_events()
    batches = (events.trade_batch(), events.quote_batch(), events.history_batch(), events.book_batch(),
               events.derivative_batch(), events.liquidation_batch())  # fmt: skip
    for batch, schema in zip(batches, BATCHES.values(), strict=True):
        check_batch(batch, schema)
        assert batch.num_rows == 0


@given(st.permutations(range(10)), st.lists(st.integers(0, 10), max_size=3))
def test_rows_keep_the_order_of_the_frames_in_whatever_parts_they_came(order: list[int], cuts: list[int]) -> None:
    events = new_events()
    edges = [0, *sorted(cuts), 10]
    for start, end in pairwise(edges):
        part = order[start:end]
        events.trades.append(trades(*part))
        events.books.append(books(*((at, [(0, 1.0, at + k / 10) for k in range(at)]) for at in part)))
    batch = events.trade_batch()
    assert batch["trade_id"].to_pylist() == [at * 10 for at in range(10)]
    assert batch["ts_recv"].to_pylist() == RECEIVED.tolist()
    messages = events.book_batch()
    assert level_sizes(messages) == [[at + k / 10 for k in range(at)] for at in range(10)]
    assert messages["ts_event"].to_pylist() == messages["ts_recv"].to_pylist() == RECEIVED.tolist()
    assert not events.reasons


def test_several_rows_of_one_frame_stay_as_they_were_added() -> None:
    events = new_events()
    events.trades += [trades(4, 4, trade_id=[3, 1]), trades(2, 4, 4, trade_id=[7, 2, 0])]
    assert events.trade_batch()["trade_id"].to_pylist() == [7, 3, 1, 2, 0]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"code": [0, UNKNOWN_SYMBOL, 0]}, "not a subscribed symbol"),
        ({"ts_event": [MOMENT, NO_TIME, MOMENT]}, "time is unreadable or not between 2000 and 2100"),
        *(({"price": [1.0, bad, 1.0]}, "price is not a positive number") for bad in (0.0, -1.0, np.nan, np.inf)),
        *(({"size": [1.0, bad, 1.0]}, "size is not a positive number") for bad in (0.0, -1.0, np.nan, np.inf)),
    ],
)
def test_a_trade_or_liquidation_that_cannot_be_used_is_left_out_and_named(columns: dict[str, Any], reason: str) -> None:
    events = new_events()
    events.trades.append(trades(1, 2, 3, **columns))
    assert events.trade_batch()["ts_recv"].to_pylist() == [RECEIVED[1], RECEIVED[3]]
    assert events.reasons == {2: reason}

    events = new_events()
    of_trades = trades(1, 2, 3, **columns)
    events.liquidations.append(
        LiquidationColumns(
            of_trades.at, of_trades.code, of_trades.ts_event, of_trades.side, of_trades.price, of_trades.size
        )
    )
    assert events.liquidation_batch()["ts_recv"].to_pylist() == [RECEIVED[1], RECEIVED[3]]
    assert events.reasons == {2: reason}


def test_the_first_reason_of_a_frame_stays() -> None:
    events = new_events()
    events.reasons[5] = "told before"
    events.trades.append(trades(5, 6, price=[0.0, 0.0], size=[0.0, 0.0]))
    assert events.trade_batch().num_rows == 0
    assert events.reasons == {5: "told before", 6: "price is not a positive number"}


def test_rows_without_any_symbol_are_left_out() -> None:
    events = Events(RECEIVED, SymbolCodes())
    events.trades.append(trades(0, code=UNKNOWN_SYMBOL))
    batch = events.trade_batch()
    check_batch(batch, BATCHES["trades"])
    assert batch.num_rows == 0


def test_rows_of_retired_symbols_are_left_out_without_a_word() -> None:
    events = new_events()
    events.symbols.retire(["B"])
    events.trades.append(trades(0, 1, 2, 3, code=[0, 1, 1, 2], price=[1.0, 1.0, np.nan, np.nan]))
    assert [row["symbol"] for row in rows(events.trade_batch())] == ["A"]
    assert events.reasons == {3: "price is not a positive number"}


def test_a_quote_has_null_for_what_is_not_positive_and_finite() -> None:
    events = new_events()
    bad = [0.0, -1.0, np.nan, np.inf]
    events.quotes.append(quotes(0, 1, 2, 3, bid_price=bad, ask_size=bad, last_size=bad, side=[0, 1, UNKNOWN_SIDE, 0]))
    batch = events.quote_batch()
    assert [batch[name].null_count for name in ("bid_price", "ask_size", "last_size", "last_price")] == [4] * 4
    assert [batch[name].null_count for name in ("bid_size", "ask_price")] == [0, 0]
    assert batch["last_side"].to_pylist() == [0, 1, None, 0]
    assert batch["ts_event"].to_pylist() == batch["sequence"].to_pylist() == RECEIVED[:4].tolist()


def test_parts_with_and_without_a_column_come_together() -> None:
    events = new_events()
    known = np.frombuffer(uuid.UUID(int=5).bytes, np.uint8).reshape(1, 16)
    events.trades += [trades(1), trades(0, maker_order_id=known, maker_known=[True])]
    assert events.trade_batch()["maker_order_id"].to_pylist() == [uuid.UUID(int=5).bytes, None]
    events.quotes += [quotes(1), quotes(0, ts_event=[MOMENT], sequence=[7], side=np.array([1], np.uint8))]
    batch = events.quote_batch()
    assert batch["sequence"].to_pylist() == [7, RECEIVED[1]]
    assert batch["last_side"].to_pylist() == [1, None]
    events.books += [books((1, [])), books((0, []), sequence=[7], first_sequence=[6], checksum=[5], ts_event=[MOMENT])]
    first, second = rows(events.book_batch())
    assert [first[name] for name in ("sequence", "first_sequence", "checksum", "ts_event")] == [7, 6, 5, MOMENT]
    assert [second[name] for name in ("sequence", "first_sequence", "checksum")] == [None] * 3


def test_a_book_message_without_a_number_or_a_time_has_null_or_the_time_received() -> None:
    events = new_events()
    numbers_of = {"sequence": [4, NO_SEQUENCE], "previous_sequence": [NO_SEQUENCE, 3]}
    columns = {"checksum": [NO_CHECKSUM, 2**32 - 1], "ts_event": [NO_TIME, MOMENT], **numbers_of}
    events.books.append(books((0, []), (1, []), kind=CHECKSUM, **columns))
    batch = events.book_batch()
    check_batch(batch, BATCHES["books"])
    assert batch["sequence"].to_pylist() == [4, None]
    assert batch["previous_sequence"].to_pylist() == [None, 3]
    assert batch["checksum"].to_pylist() == [None, 2**32 - 1]
    assert batch["ts_event"].to_pylist() == [RECEIVED[0], MOMENT]


@pytest.mark.parametrize("bad", [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (np.inf, 1.0), (1.0, -1.0), (1.0, np.nan)])
def test_a_book_message_with_a_level_that_makes_no_sense_is_broken_and_the_others_keep_theirs(
    bad: tuple[float, float],
) -> None:
    events = new_events()
    events.books += [
        books(
            (0, [(0, 1.0, 0.0)]), (1, [(0, 1.0, 2.0), (1, *bad), (1, 3.0, 4.0)]), (2, [(1, 5.0, 6.0)]), kind=SNAPSHOT
        ),
        books((3, []), (4, [(0, 7.0, 8.0)])),
    ]
    batch = events.book_batch()
    check_batch(batch, BATCHES["books"])
    assert batch["kind"].to_pylist() == [SNAPSHOT, BROKEN, SNAPSHOT, CHANGE, CHANGE]
    assert level_sizes(batch) == [[0.0], [], [6.0], [], [8.0]]
    assert events.reasons == {1: "a level's price is not a positive number or its size is negative or no number"}


def test_what_is_left_out_of_a_book_batch_takes_its_levels_along() -> None:
    events = new_events()
    messages = [(at, [(0, 1.0, float(at))] * 2) for at in range(4)]
    events.symbols.retire(["B"])
    events.books.append(books(*messages, code=np.array([0, UNKNOWN_SYMBOL, 1, 2], np.int32)))
    assert level_sizes(events.book_batch()) == [[0.0, 0.0], [3.0, 3.0]]
    assert events.reasons == {1: "not a subscribed symbol"}


def test_values_of_derivatives_are_signed_and_null_where_they_are_not_said() -> None:
    events = new_events()
    at, code = np.arange(2), np.zeros(2, np.int32)
    ts_event = np.array([MOMENT, MOMENT])
    events.derivatives += [
        DerivativeColumns(
            at, code, ts_event, funding_rate=np.array([-0.0001, np.nan]), mark_price=np.array([0.0, np.inf])
        ),
        DerivativeColumns(at[:1] + 2, code[:1], ts_event[:1], next_funding_time=np.array([MOMENT])),
    ]
    batch = events.derivative_batch()
    check_batch(batch, BATCHES["derivatives"])
    assert batch["funding_rate"].to_pylist() == [-0.0001, None, None]
    assert batch["mark_price"].to_pylist() == [0.0, None, None]
    assert batch["next_funding_time"].to_pylist() == [None, None, MOMENT]
    assert batch["open_interest"].null_count == 3


def test_a_derivative_without_a_time_is_left_out() -> None:
    events = new_events()
    events.derivatives.append(DerivativeColumns(np.arange(1), np.zeros(1, np.int32), np.array([NO_TIME])))
    assert events.derivative_batch().num_rows == 0
    assert list(events.reasons) == [0]


@given(st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)), min_size=1))
def test_iso_times_are_exact_to_the_microsecond(moments: list[datetime]) -> None:
    expected = [(moment - EPOCH) // timedelta(microseconds=1) * 1000 for moment in moments]
    for zone in ("Z", "+00:00"):
        texts = [moment.isoformat().replace("+00:00", zone) for moment in moments]
        assert iso_times(texts).tolist() == expected


def test_an_unreadable_time_costs_itself_only() -> None:
    good = "2021-04-17T16:43:37.089723Z"
    texts = [good, "yesterday", good, "", "0001-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "2021-04-17", "\ud800", good]
    assert np.flatnonzero(iso_times(texts) != NO_TIME).tolist() == [0, 2, 8]
    assert set(iso_times(texts).tolist()) == {1618677817089723000, NO_TIME}


def test_times_are_checked_before_they_can_overflow() -> None:
    values = np.array([946684800000, 946684799999, 4102444799999, 4102444800000, 2**63 - 1, -(2**63), 0])
    expected = [946684800000 * 10**6, 0, 4102444799999 * 10**6, 0, 0, 0, 0]
    assert times(values, 1000).tolist() == expected


@given(st.integers(946_684_800, 4_102_444_799), st.text("0123456789", max_size=12))
def test_times_in_seconds_are_exact_to_the_nanosecond(whole: int, fraction: str) -> None:
    text = f"{whole}.{fraction}" if fraction else str(whole)
    assert second_times([text]).tolist() == [whole * 10**9 + int((fraction + "000000000")[:9])]


@given(st.lists(st.one_of(st.text(), st.from_regex(r"\A[0-9]{8,11}(\.[0-9]{0,12})?\Z")), max_size=5))
def test_no_text_in_place_of_seconds_raises(texts: list[str]) -> None:
    found = second_times([*texts, "1618678133.365913"]).tolist()
    assert found[-1] == 1_618_678_133_365_913_000
    assert all(time == NO_TIME or 946_684_800 * 10**9 <= time < 4_102_444_800 * 10**9 for time in found)


@given(st.decimals(-(10**9), 10**9, allow_nan=False, places=8) | st.integers(-(10**12), 10**12))
def test_a_number_as_text_is_the_nearest_float_and_its_decimals_give_the_text_back(number: Any) -> None:
    text = f"{number:f}" if not isinstance(number, int) else str(number)
    (value,), (decimals,) = numbers([text])
    assert value == float(text)
    if abs(value) < 10**6:
        assert f"{value:.{decimals}f}" == text


plain_or_not = st.one_of(
    st.from_regex(r"\A[0-9]{1,25}(\.[0-9]{1,20})?\Z"),
    st.decimals(0, 10**9, allow_nan=False, places=8).map(lambda number: f"{number:f}"),
    st.text("0123456789.-e\0٣ ", max_size=12),
)


@given(st.lists(plain_or_not, min_size=1, max_size=5), st.booleans())
def test_many_numbers_are_read_as_each_by_itself(texts: list[str], mixed: bool) -> None:
    many = [*texts, *(["30123.50000000"] * 64)] if mixed else (texts * 64)[:64]
    values, decimals = numbers(many)
    each = [numbers([text]) for text in many]
    assert values.tobytes() == np.concatenate([value for value, _ in each]).tobytes()
    assert decimals.tolist() == [int(one[0]) for _, one in each]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-8", 1e-8), ("1.50E+3", 1500.0), ("", None), ("nan", None), ("inf", None), ("0x10", None), ("1_0", None),
     (" 1", None), ("1.", None), (".5", None), ("+1", None), ("٣", None), ("1\n", None), ("1" * 401, None)],
)  # fmt: skip
def test_a_text_that_is_no_plain_number_has_no_decimals(text: str, value: float | None) -> None:
    found, decimals = numbers([text])
    assert decimals.tolist() == [-1]
    assert found.tolist() == [value] if value is not None else np.isnan(found).all()


uuids_or_not = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
    st.text(max_size=40),
    st.text("0123456789abcdef- ", min_size=36, max_size=36),
)


def plain_uuid(text: str) -> bytes | None:
    groups = text.split("-")
    if [len(group) for group in groups] != [8, 4, 4, 4, 12] or not set(text) <= set("0123456789abcdefABCDEF-"):
        return None
    return uuid.UUID(text).bytes


@given(st.lists(uuids_or_not))
def test_order_ids_are_the_bytes_of_the_uuid_and_null_where_it_is_none(texts: list[str]) -> None:
    ids, known = order_ids(texts)
    read = [content.tobytes() if one else None for content, one in zip(ids, known, strict=True)]
    assert read == [plain_uuid(text) for text in texts]
