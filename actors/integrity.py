"""How far the data of a symbol can be trusted: what its shard knows of its trades and its collector of its connection
and book, as one row. Pure; times are ns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

#: From best to worst. `syncing`: it is on its way to be whole. `gapped`: something is missing. `stale`: nothing comes.
State = Literal["synced", "syncing", "gapped", "stale"]
_BADNESS: Final[tuple[State, ...]] = get_args(State)

#: What of a shard's row is handed on.
_COUNTS: Final = ("first_id", "last_id", "trades", "missing", "gaps_open", "gaps_closed")


@dataclass(frozen=True, slots=True)
class _Part:
    state: State
    since: int | None
    why: str


def combined(
    exchange: str,
    symbol: str,
    collected: Mapping[str, Any] | str,
    stored: Mapping[str, Any] | str | None,
) -> dict[str, Any]:
    """The row of a symbol, in the state of what is worst off about it: `exchange`, `symbol`, `state`, `since` (None
    where unknown), `why` ("" when synced), `proof`, `trades_state` and `book_state` (None where there are no trades or
    no book), `first_id`, `last_id`, `trades`, `missing`, `gaps_open`, `gaps_closed` (None where unknown).

    `collected` is its row of `Collector.symbols`, `stored` that of `SymbolShard.integrity` (None: no trade yet);
    instead of either why there is none.
    """
    connection, book = (_Part("stale", None, collected), None) if isinstance(collected, str) else _collected(collected)
    trades = _stored(stored)
    parts = [part for part in (connection, book, trades) if part is not None]
    worst = max(parts, key=lambda part: _BADNESS.index(part.state))
    since = [part.since for part in parts if part.state == worst.state and part.since is not None]
    # All must be good to be good, one bad one is enough to be bad.
    when = (max if worst.state == "synced" else min)(since, default=None)
    known = stored if isinstance(stored, Mapping) else {}
    return {
        "exchange": exchange,
        "symbol": symbol,
        "state": worst.state,
        "since": when,
        "why": worst.why,
        "proof": known.get("proof"),
        "trades_state": trades.state if trades else None,
        "book_state": book.state if book else None,
        **{name: known.get(name) for name in _COUNTS},
    }


def _collected(row: Mapping[str, Any]) -> tuple[_Part, _Part | None]:
    book = None if row["book"] is None else _Part(row["book"], row["book_since"], _unless_good(row, "book", "book_why"))
    if row["state"] == "refused":
        return _Part("stale", row["lost"] or None, row["reason"]), None
    if row["state"] == "subscribed":
        return _Part("synced", row["received"], ""), book
    if row["lost"]:
        return _Part("stale", row["lost"], row["lost_why"]), book
    return _Part("syncing", None, row["lost_why"] or "not subscribed yet"), book


def _stored(row: Mapping[str, Any] | str | None) -> _Part | None:
    if row is None:
        return None
    if isinstance(row, str):
        return _Part("stale", None, row)
    return _Part(row["state"], row["since"], _unless_good(row, "state", "why"))


def _unless_good(row: Mapping[str, Any], state: str, why: str) -> str:
    return "" if row[state] == "synced" else row[why]
