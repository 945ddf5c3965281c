"""How `rayfeed audit` tells what it found: a line for each symbol, and one for each thing that is wrong."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.table import Table

from cluster.moments import text_of
from cluster.terminal import terminal
from storage.audit import MOST_EXAMPLES
from storage.audit_symbol import Row
from storage.ledger_log import Gap

#: Characters of a line that has room for everything.
_ROOM: Final = 130

#: How it is known, by `Proof`.
PROOFS: Final = {
    "ids": "ids count up by one",
    "numbered": "frames are numbered",
    "recent": "compared with recent trades",
    "none": "nothing would tell",
}

_WRONG: Final = {
    "missing": "made but not stored",
    "different": "stored otherwise than made",
    "made_up": "stored but never made",
}


def gap_line(gap: Gap) -> str:
    ids = "" if gap.first_id is None else f"ids {gap.first_id}..{gap.last_id}, "
    tried = f", tried {gap.attempts} times" if gap.attempts else ""
    said = f" ({gap.evidence})" if gap.evidence else ""
    return f"{ids}{text_of(gap.from_ns)} to {text_of(gap.to_ns)}: {gap.reason}{tried}{said}"


def show(rows: Sequence[Row], not_audited: Sequence[str], as_json: bool, compared: bool) -> None:
    if as_json:
        said = [{**asdict(row), "whole": row.whole} for row in rows]
        whole = not not_audited and all(row.whole for row in rows)
        typer.echo(json.dumps({"whole": whole, "not_audited": not_audited, "symbols": said}))
        return
    for host in not_audited:
        typer.echo(f"not audited: {host}")
    if not rows and not not_audited:
        typer.echo("no trades are stored")
    if not rows:
        return
    console = terminal()
    console.print(_counts(rows, console.width >= _ROOM))
    if compared:
        console.print()
        console.print(_comparisons(rows))
    for row in rows:
        for line in _told(row):
            typer.echo(f"{row.exchange} {row.symbol}: {line}")


def _counts(rows: Sequence[Row], with_ids: bool) -> Table:
    ids = ["first id", "last id"] if with_ids else []
    hosts = any(row.host for row in rows)
    table = _table([*ids, "expected", "stored", "missing", "doubled", "open", "closed"])
    table.add_column("how it is known" if with_ids else "proof", no_wrap=True)
    if hosts:
        table.add_column("host", no_wrap=True)
    for row in rows:
        counts = [row.expected, row.stored, row.missing, row.doubled, row.gaps_open, row.gaps_closed]
        cells = [str(end) if end is not None else "" for end in (row.first_id, row.last_id)] if with_ids else []
        cells += ["" if count is None else f"{count:,}" for count in counts]
        how = PROOFS.get(row.proof, "no ledger") if with_ids else row.proof
        cells += [how, row.host or ""] if hosts else [how]
        table.add_row(row.exchange, row.symbol, *cells, style=None if row.whole else "red")
    return table


def _comparisons(rows: Sequence[Row]) -> Table:
    table = _table(["made", "not stored", "doubled", "different", "made up", "not judged"])
    for row in rows:
        if (one := row.against) is not None:
            counts = (one.made, one.missing, one.doubled, one.different, one.made_up, one.not_judged)
            style = None if one.equal else "red"
            table.add_row(row.exchange, row.symbol, *(f"{count:,}" for count in counts), style=style)
    return table


def _table(numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for heading in ("exchange", "symbol"):
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _told(row: Row) -> Iterator[str]:
    """What is wrong, a line each."""
    if row.failure:
        yield row.failure
    if row.ranges:
        yield f"missing ids {', '.join(row.ranges)}"
    for gap in row.gaps:
        yield f"open gap, {gap}"
    if row.gaps_open > len(row.gaps):
        yield f"{row.gaps_open - len(row.gaps):,} more open gaps"
    if row.against:
        for what, ids in row.against.first_ids.items():
            yield f"{_WRONG[what]}: ids {', '.join(map(str, ids))}{' and more' if len(ids) == MOST_EXAMPLES else ''}"
