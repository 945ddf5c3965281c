"""An independent plain reading: trade after trade, in the order of their frames."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.columns import TradeColumns
from actors.feeds.events import Events
from actors.feeds.first_trades import first_messages, set_history_apart
from actors.feeds.symbol_codes import SymbolCodes

#: Position of the frame, code of the symbol, time.
Trade = tuple[int, int, int]
trades = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 3), st.integers(1, 9)), max_size=12)
by_code = st.dictionaries(st.integers(0, 4), st.integers(-1, 7), max_size=4)


def part(rows: list[Trade]) -> TradeColumns:
    rows = sorted(rows, key=lambda row: row[0])
    at, code, ts_event = (np.array([row[column] for row in rows], np.int64) for column in range(3))
    values = np.ones(len(rows))
    return TradeColumns(at, code.astype(np.int32), ts_event, at, code.astype(np.uint8), values, values)


def rows_of(parts: list[TradeColumns]) -> list[Trade]:
    rows = [zip(one.at.tolist(), one.code.tolist(), one.ts_event.tolist(), strict=True) for one in parts]
    return sorted(row for part in rows for row in part)


@given(st.lists(trades, max_size=3), by_code, by_code)
def test_history_is_what_the_first_message_has_from_before(
    parts: list[list[Trade]], after: dict[int, int], live_from: dict[int, int]
) -> None:
    live_from = {code: live_from.get(code, 5) for code in after}
    events = Events(np.zeros(7, np.int64), SymbolCodes("abcde"), trades=[part(rows) for rows in parts])
    everything = rows_of(events.trades)
    firsts: dict[int, int] = {}
    for at, code, _ in everything:
        if code in after and at > after[code]:
            firsts.setdefault(code, at)
    history = [row for row in everything if firsts.get(row[1]) == row[0] and row[2] < live_from[row[1]]]

    found = first_messages(events, after)
    set_history_apart(events, found, live_from)

    assert found == firsts
    assert rows_of(events.history) == history
    assert sorted(rows_of(events.trades) + history) == everything
