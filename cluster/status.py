"""What `rayfeed status` shows: the supervisor's view of every actor."""

from typing import Any

import ray
from rich.console import Group
from rich.table import Table

from actors.directory import SUPERVISOR, find_actor
from cluster import ray_head
from cluster.instance import Details

ANSWER_TIMEOUT_S = 10.0


def actors(details: Details) -> dict[str, dict[str, Any]]:
    """By actor name, what each said last."""
    ray_head.connect(details)
    try:
        said: dict[str, dict[str, Any]] = ray.get(find_actor(SUPERVISOR).status.remote(), timeout=ANSWER_TIMEOUT_S)
        return said
    finally:
        ray.shutdown()


def table(details: Details, said: dict[str, dict[str, Any]]) -> Group:
    rows = Table(box=None, pad_edge=False)
    for heading in ("actor", "state", "symbols", "rows", "lag", "remarks"):
        right = heading in ("symbols", "rows", "lag")
        rows.add_column(heading, justify="right" if right else "left", no_wrap=heading != "remarks")
    for name, actor in sorted(said.items()):
        state = actor.get("state", "running") if actor["answers"] else "not answering"
        lag = actor.get("lag_ms")
        rows.add_row(
            name,
            state,
            _symbols(actor),
            _rows(actor),
            "" if lag is None else f"{lag:,.0f} ms",
            _remarks(actor),
            style=None if actor["answers"] and not actor.get("failure") else "red",
        )
    heading = f"{details.url}  source {details.source}  Ray dashboard {details.ray_dashboard or 'of the cluster'}"
    return Group(heading, rows)


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
        actor.get("failure"),
        actor.get("last_error"),
        f"{rejected:,} rejected" if rejected else "",
        f"{actor['unsunk']:,} rows not in the sinks" if actor.get("unsunk") else "",
        f"not played: {skipped}" if skipped else "",
    ]
    return "; ".join(remark for remark in remarks if remark)
