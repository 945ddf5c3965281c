"""What `rayfeed status` shows: the supervisor's view of every actor, and the integrity of every symbol."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Group
from rich.table import Table

from cluster.instance import Details
from cluster.moments import text_of

STATES: Final = ("synced", "syncing", "gapped", "stale")
COLOURS: Final = {"gapped": "red", "stale": "red", "syncing": "yellow"}
#: Symbols that are shown one by one.
MOST_SYMBOLS: Final = 20


def table(details: Details, said: dict[str, dict[str, Any]], integrity: list[dict[str, Any]]) -> Group:
    rows, remarks = Table(box=None, pad_edge=False), Table(box=None, pad_edge=False)
    for heading in ("actor", "state", "symbols", "rows", "lag"):
        right = heading in ("symbols", "rows", "lag")
        rows.add_column(heading, justify="right" if right else "left", no_wrap=heading != "rows")
    remarks.add_column("actor", no_wrap=True)
    remarks.add_column("remarks")
    hosts = {actor["host"] for actor in said.values() if "host" in actor}
    for name, actor in sorted(said.items()):
        on = f"on {actor['host']}" if len(hosts) > 1 and "host" in actor else ""
        state = actor.get("state", "running") if actor["answers"] else "not answering"
        lag = actor.get("lag_ms")
        style = None if actor["answers"] and not actor.get("failure") else "red"
        rows.add_row(name, state, _symbols(actor), _rows(actor), "" if lag is None else f"{lag:,.0f} ms", style=style)
        if remark := "; ".join(filter(None, (on, _remarks(actor)))):
            remarks.add_row(name, remark, style=style)
    heading = f"{details.url}  source {details.source}  Ray dashboard {details.ray_dashboard or 'of the cluster'}"
    said_of_some: list[Table | str] = [remarks, ""] if remarks.row_count else []
    return Group(heading, rows, "", *said_of_some, *_integrity(integrity))


def _integrity(symbols: list[dict[str, Any]]) -> Iterator[Table]:
    """How many symbols of each exchange are in which state; then those that are not synced, the newest first."""
    counts: dict[str, Counter[str]] = {}
    for symbol in symbols:
        counts.setdefault(symbol["exchange"], Counter())[symbol["state"]] += 1
    rows = Table(box=None, pad_edge=False)
    for heading in ("exchange", *STATES, "gaps open", "gaps closed"):
        rows.add_column(heading, justify="left" if heading == "exchange" else "right")
    for exchange, states in sorted(counts.items()):
        own = [symbol for symbol in symbols if symbol["exchange"] == exchange]
        gaps = (sum(symbol[which] or 0 for symbol in own) for which in ("gaps_open", "gaps_closed"))
        style = None if states["synced"] == len(own) else "yellow"
        rows.add_row(exchange, *(str(states[state] or "") for state in STATES), *map(str, gaps), style=style)
    yield rows
    wrong = sorted(
        (one for one in symbols if one["state"] != "synced"), key=lambda one: one["since"] or 0, reverse=True
    )
    if not wrong:
        return
    rows = Table(box=None, pad_edge=False)
    for heading in ("exchange", "symbol", "state", "since (UTC)", "why"):
        rows.add_column(heading, no_wrap=heading != "why")
    for one in wrong[:MOST_SYMBOLS]:
        since = text_of(one["since"]) if one["since"] else ""
        rows.add_row(one["exchange"], one["symbol"], one["state"], since, one["why"], style=COLOURS.get(one["state"]))
    if len(wrong) > MOST_SYMBOLS:
        rows.add_row("", f"{len(wrong) - MOST_SYMBOLS} more")
    yield rows


def _symbols(actor: dict[str, Any]) -> str:
    """How many, from a count or from names by exchange; where there are order books, how many are in which state."""
    if books := actor.get("book_states"):
        return ", ".join(f"{number} {state}" for state, number in sorted(books.items()))
    symbols = actor.get("symbols", "")
    return str(sum(len(names) for names in symbols.values()) if isinstance(symbols, dict) else symbols)


def _rows(actor: dict[str, Any]) -> str:
    counted = {"trades": ("trades", "TRADES"), "quotes": ("quotes", "MD"), "rows": ("rows_written", "written")}
    parts = []
    for what, names in counted.items():
        number = next((actor[name] for name in names if name in actor), None)
        if number is not None:
            parts.append(f"{number:,} {what}")
    return ", ".join(parts)


def _remarks(actor: dict[str, Any]) -> str:
    rejected = actor.get("rejected", 0)
    rejected = sum(rejected.values()) if isinstance(rejected, dict) else rejected
    skipped = ", ".join(actor.get("skipped", ()))
    remarks = [
        actor.get("remark"),
        actor.get("failure"),
        actor.get("last_error"),
        f"{rejected:,} rejected" if rejected else "",
        f"{actor['unsunk']:,} rows not in the sinks" if actor.get("unsunk") else "",
        f"{actor['missed']:,} tables missed" if actor.get("missed") else "",
        _days(actor),
        f"{actor['batches_dropped']:,} batches not in Redis" if actor.get("batches_dropped") else "",
        f"not played: {skipped}" if skipped else "",
        f"the server lacks {'; '.join(actor['lacks'])}" if actor.get("lacks") else "",
        _retention(actor),
        f"{actor['reconciling']:,} hours of trades short in ClickHouse" if actor.get("reconciling") else "",
    ]
    return "; ".join(remark for remark in remarks if remark)


def _days(actor: dict[str, Any]) -> str:
    """What became of its column files when it looked last."""
    counts = {kind: count for kind, count in actor.get("days", {}).items() if count}
    failed = "".join(f"; {day}: {why}" for day, why in actor.get("days_failed", {}).items())
    return f"days {', '.join(f'{count:,} {kind}' for kind, count in counts.items())}{failed}" if counts else ""


def _retention(actor: dict[str, Any]) -> str:
    """For how long rows of those tables are kept that are not kept for ever."""
    kept = actor.get("retention")
    return f"keeps {', '.join(f'{table} {days} d' for table, days in kept.items())}" if kept else ""
