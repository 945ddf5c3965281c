"""Trades an exchange sends right after a subscription and that happened before it: they belong to the history, not to
what is live. Only the first message of a symbol can hold them; how old a trade has to be is for the feed to say.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from actors.feeds.columns import TradeColumns
from actors.feeds.events import Events

_NEVER: Final = np.iinfo(np.int64).max


def first_messages(events: Events, after: Mapping[int, int]) -> dict[int, int]:
    """For symbols (by code) of which trades came: the position of the first frame with some, of those after the
    position given."""
    positions = _by_code(after, _NEVER)
    firsts: dict[int, int] = {}
    for part in events.trades:
        rows = np.flatnonzero(part.at > _of(positions, part.code))
        codes, where = np.unique(part.code[rows], return_index=True)
        for code, at in zip(codes.tolist(), part.at[rows[where]].tolist(), strict=True):
            firsts[code] = min(at, firsts.get(code, at))
    return firsts


def set_history_apart(events: Events, firsts: Mapping[int, int], live_from: Mapping[int, int]) -> None:
    """Trades of these frames (by code) that happened before that moment (ns) become history."""
    if not firsts:
        return
    frames, moments = _by_code(firsts, -1), _by_code(live_from, 0)
    for number, part in enumerate(events.trades):
        history = (part.at == _of(frames, part.code)) & (part.ts_event < _of(moments, part.code))
        if history.any():
            events.history.append(_only(part, history))
            events.trades[number] = _only(part, ~history)


def _by_code(values: Mapping[int, int], otherwise: int) -> npt.NDArray[np.int64]:
    """The values by code, and `otherwise` at the end for all further codes."""
    table = np.full(max(values, default=-1) + 2, otherwise, np.int64)
    table[list(values)] = list(values.values())
    return table


def _of(table: npt.NDArray[np.int64], code: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    return table.take(np.where(code < len(table), code, -1))


def _only(rows: TradeColumns, chosen: npt.NDArray[np.bool_]) -> TradeColumns:
    columns: dict[str, Any] = {
        name: None if (column := getattr(rows, name)) is None else column[chosen]
        for name in TradeColumns.__dataclass_fields__
    }
    return TradeColumns(**columns)
