"""What must be true after a campaign: what is stored is what was made, and what is not says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.audit_files import compare, newest, oldest, place_of
from storage.column_layout import join_time
from storage.column_reader import ColumnReader
from storage.ledger_log import Gap

#: Ids of a symbol that are named.
_NAMED = 5
#: Windows are of the time trades were received or of the exchange's clock.
_SLACK_NS = 2_000_000_000
_ALWAYS = 1 << 63


@dataclass(frozen=True, slots=True)
class Stored:
    """What the audit of one symbol says."""

    exchange: str
    symbol: str
    made: int
    wrong: tuple[str, ...]


def check_trades(columns: Path, truth: Path, integrity: Sequence[dict[str, Any]], gaps: Sequence[Gap]) -> list[Stored]:
    """Hold every symbol of `integrity` (rows of `SymbolShard.integrity`) against the truth, from its first trade on:
    each trade is stored once with equal fields and none is made up. A trade may be missing only inside an open gap."""
    here, there = ColumnReader(columns, rescan_s=0), ColumnReader(truth, rescan_s=0)
    found = []
    for row in integrity:
        exchange, symbol = row["exchange"], row["symbol"]
        since = oldest(here, exchange, symbol)
        if row["first_id"] is not None:
            since = place_of(there, exchange, symbol, row["first_id"])
        until = newest(there, exchange, symbol)
        if since is None or until is None:
            found.append(Stored(exchange, symbol, 0, ("nothing of it was stored or made",)))
            continue
        verdict = compare(here, there, exchange, symbol, since, until, lambda _rows: None)
        wrong = [
            f"{count} {name}: {verdict.first_ids.get(name, [])}"
            for name, count in (("different", verdict.different), ("made_up", verdict.made_up))
            if count
        ]
        if verdict.doubled:
            wrong.append(f"{verdict.doubled} stored twice")
        if verdict.missing:
            mine = [gap for gap in gaps if (gap.exchange, gap.symbol) == (exchange, symbol)]
            silent, times = _silently_missing(here, there, exchange, symbol, since.ns, mine)
            if len(silent):
                wrong.append(
                    f"{len(silent)} missing and no open gap says so: {silent[:_NAMED].tolist()}, "
                    f"of {_clock(times.min())}..{_clock(times.max())}; {_near(mine, times)}"
                )
        found.append(Stored(exchange, symbol, verdict.made, tuple(wrong)))
    return found


def check_gaps(gaps: Sequence[Gap], may_stay_open: frozenset[str]) -> list[str]:
    """What is wrong with the rows: open at an exchange not of `may_stay_open`, or closed without evidence."""
    wrong = []
    for gap in gaps:
        name = f"gap {gap.gap_id} of {gap.exchange} {gap.symbol} ({gap.reason})"
        if gap.closed is None and gap.exchange not in may_stay_open:
            wrong.append(
                f"{name} is open: ids {gap.first_id}..{gap.last_id}, {gap.missing} missing, "
                f"{gap.attempts} attempts, {gap.evidence!r}"
            )
        elif gap.closed is not None and not gap.evidence:
            wrong.append(f"{name} was closed without evidence")
    return wrong


def _silently_missing(
    here: ColumnReader, there: ColumnReader, exchange: str, symbol: str, since_ns: int, gaps: Sequence[Gap]
) -> tuple[Any, Any]:
    """Ids and times of trades that were made, are not stored, and are in no open gap."""
    (stored, _), (made, times) = (_ids(reader, exchange, symbol, since_ns) for reader in (here, there))
    lost = ~np.isin(made, stored)
    for gap in gaps:
        if gap.closed is not None:
            continue
        if gap.first_id is not None and gap.last_id is not None:
            lost &= (made < gap.first_id) | (made > gap.last_id)
        else:
            lost &= (times < gap.from_ns - _SLACK_NS) | (times > gap.to_ns + _SLACK_NS)
    return made[lost], times[lost]


def _near(gaps: Sequence[Gap], times: Any) -> str:
    """What was said of that time."""
    near = [
        f"{_clock(gap.from_ns)}..{_clock(gap.to_ns)} ({gap.reason}) opened {_clock(gap.opened)}, "
        f"closed {_clock(gap.closed or 0)}: {gap.evidence}"
        for gap in gaps
        if gap.from_ns - _SLACK_NS <= times.max() and times.min() <= gap.to_ns + _SLACK_NS
    ]
    return "gaps there: " + ("; ".join(near) or "none")


def _clock(t_ns: int) -> str:
    """Minutes and seconds."""
    minutes, ms = divmod(int(t_ns) // 1_000_000, 60_000)
    return f"{minutes % 60:02}:{ms / 1000:06.3f}"


def _ids(reader: ColumnReader, exchange: str, symbol: str, since_ns: int) -> tuple[Any, Any]:
    rows = reader.select(exchange, symbol, "TRADES", since_ns, _ALWAYS, ("time", "nanos", "id"))
    return rows.column("id").astype(np.int64), join_time(rows.column("time"), rows.column("nanos"))


def check_book(
    depth: dict[str, Any], bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]], decimals: tuple[int, int]
) -> str:
    """What is wrong with a book (a row of `storage.schema.DEPTH`) that has to have these levels, in ticks and units of
    10**-decimals of price and size; "" if nothing."""
    if depth["state"] != "synced":
        return f"is {depth['state']}"
    for name, expected in (("bids", bids), ("asks", asks)):
        levels = [
            (round(level["price"] * 10 ** decimals[0]), round(level["size"] * 10 ** decimals[1]))
            for level in depth[name]
        ]
        if levels != list(expected[: len(levels)]) or (expected and not levels):
            at = next((at for at, pair in enumerate(zip(levels, expected, strict=False)) if pair[0] != pair[1]), 0)
            return f"has other {name} from level {at} on: {levels[at : at + 2]} instead of {expected[at : at + 2]}"
    return ""
