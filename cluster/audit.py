"""`rayfeed audit`: what is stored of every symbol, what is missing, and how that is known; with or without a running
instance, which adds only what its shards know now. `--against sim` holds each trade against the one that was made.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cluster import completion
from cluster.asking import supervisor
from cluster.instance import Instance, InstanceError
from cluster.moments import text_of
from cluster.options import AsJson, Data
from config import Settings, SettingsError, load
from storage import audit_files
from storage.audit import MOST_EXAMPLES, Verdict
from storage.audit_files import Place
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.ledger_log import Gap
from storage.ledger_reading import Logged, read_ledgers

#: Trades made within this before the audit may be on their way still.
SETTLE_S: Final = 1.0
#: Missing ranges and gaps that are told of one symbol.
_TOLD: Final = 3
#: Characters of a line that is not shown on a terminal, and of one that has room for everything.
_WIDE: Final = 240
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


@dataclass(slots=True)
class Known:
    """What the ledger says of a symbol. `proof` "" says that nobody knows how a missing trade would show."""

    proof: str = ""
    first_id: int | None = None
    through_id: int | None = None
    open_gaps: list[Gap] = field(default_factory=list)
    gaps_closed: int = 0
    fills: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Row:
    """The audit of one symbol. What cannot be known is None: without counting ids nobody knows how many to expect."""

    exchange: str
    symbol: str
    proof: str
    stored: int = 0
    first_id: int | None = None
    last_id: int | None = None
    expected: int | None = None
    missing: int | None = None
    doubled: int = 0
    #: Rows from before the promise to be complete begins.
    earlier: int = 0
    gaps_open: int = 0
    gaps_closed: int = 0
    #: The first of what is missing, and of the open gaps.
    ranges: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    against: Verdict | None = None
    failure: str = ""

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, as far as anybody can tell."""
        wrong = self.missing or self.doubled or self.gaps_open or self.failure
        return not wrong and (self.against is None or self.against.equal)


def audit(
    exchange: Annotated[str | None, typer.Option(help="Only this one.", autocompletion=completion.exchanges)] = None,
    symbol: Annotated[
        str | None,
        typer.Option(help="Only this one, as the exchange names it.", autocompletion=completion.symbols),
    ] = None,
    against: Annotated[str | None, typer.Option(help="sim: compare with every trade the simulator made.")] = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Count what is stored of every symbol; exit status 1 when something is missing."""
    if against not in (None, "sim"):
        raise SettingsError(f"--against {against}: only the trades of the simulator are known, with --against sim")
    settings = load(data)
    stored = ColumnReader(settings.columns)
    wanted = _wanted(stored, exchange, symbol)
    made = None
    if against:
        root = settings.data / "simulator" / "columns"
        if not root.is_dir():
            raise SettingsError(f"nothing to compare with: {data} was never run on simulated exchanges")
        made = ColumnReader(root)
    running = _runs(data)
    until = {name: audit_files.newest(made, *name) for name in wanted} if made else {}
    if made and running:
        time.sleep(SETTLE_S)
    known = _known(data, running)
    rows = []
    with _progress() as progress:
        # Each symbol is read once to count and, where it is compared, once more beside what was made.
        passes = (stored,) if made is None else (stored, stored, made)
        total = sum(audit_files.stored_rows(reader, *name) for reader in passes for name in wanted)
        task = progress.add_task("", total=total)
        for name in wanted:
            progress.update(task, description=" ".join(name))
            ledger = known.get(name) or Known()
            ledger.proof = ledger.proof or _proof(settings, *name)
            rows.append(_row(stored, made, name, ledger, until.get(name), running, partial(progress.advance, task)))
    _show(rows, as_json, made is not None)
    if not all(row.whole for row in rows):
        raise typer.Exit(1)


def _row(
    stored: ColumnReader,
    made: ColumnReader | None,
    name: tuple[str, str],
    ledger: Known,
    until: Place | None,
    running: bool,
    progress: audit_files.Progress,
) -> Row:
    row = Row(*name, ledger.proof, gaps_open=len(ledger.open_gaps), gaps_closed=ledger.gaps_closed)
    row.gaps = [_gap(gap) for gap in ledger.open_gaps[:_TOLD]]
    try:
        if ledger.proof == "ids":
            found = audit_files.count_ids(stored, *name, ledger.first_id, ledger.through_id, ledger.fills, progress)
            row.stored, row.first_id, row.last_id = found.rows, found.first_id, found.last_id
            row.expected, row.missing, row.doubled = found.expected, found.missing, found.doubled
            row.earlier = found.earlier
            row.ranges = [f"{hole} ({hole.size:,})" for hole in found.holes[:_TOLD]]
            if len(found.holes) > _TOLD:
                row.ranges.append(f"{len(found.holes) - _TOLD:,} more ranges")
        else:
            counted = audit_files.count_rows(stored, *name, progress)
            row.stored, row.doubled = counted.rows, counted.doubled
            ends = (audit_files.oldest(stored, *name), audit_files.newest(stored, *name))
            row.first_id, row.last_id = (end.id if end else None for end in ends)
        since = audit_files.oldest(stored, *name)
        if made is not None and since is not None and until is not None:
            if ledger.first_id is not None:
                # What is older was asked for later.
                since = audit_files.place_of(made, *name, ledger.first_id) or since
            if not running:
                until = min(until, audit_files.newest(stored, *name) or until)
            row.against = audit_files.compare(stored, made, *name, since, until, progress)
    except (BeingRewritten, MissingColumn, OSError) as error:
        row.failure = f"cannot be read: {error}"
    return row


def _wanted(reader: ColumnReader, exchange: str | None, symbol: str | None) -> list[tuple[str, str]]:
    """The symbols to audit, and only those with trades. SettingsError when there are none."""
    found = [(name, one) for name, symbols in reader.symbols().items() for one in symbols]
    wanted = [one for one in found if exchange in (None, one[0]) and symbol in (None, one[1], one[1].replace("/", "_"))]
    if found and not wanted:
        named = " ".join(part for part in (exchange, symbol) if part)
        raise SettingsError(f"nothing is stored of {named}; there are {', '.join(sorted({one[0] for one in found}))}")
    return [one for one in wanted if audit_files.stored_rows(reader, *one)]


def _runs(data: Path) -> bool:
    running = Instance.read(data.absolute())
    return running is not None and running.details is not None


def _known(data: Path, running: bool) -> dict[tuple[str, str], Known]:
    """What the logs of the ledger say, and where it runs, what it knows now."""
    known = {name: _of_log(logged) for name, logged in read_ledgers(data / "ledger").items()}
    if not running:
        return known
    try:
        with supervisor(data) as ask:
            states, gaps = ask("integrity"), ask("gaps")
    except InstanceError as error:
        typer.echo(f"rayfeed: {error}; gaps are as the files have them", err=True)
        return known
    for logged in known.values():
        logged.open_gaps = []
    for state in states:
        one = known.setdefault((state["exchange"], state["symbol"]), Known())
        # None: its shard does not answer, or it has not traded yet.
        one.proof = state["proof"] or one.proof
        one.first_id = one.first_id if state["first_id"] is None else state["first_id"]
        one.gaps_closed = state["gaps_closed"] or one.gaps_closed
    for gap in (Gap(**row) for row in gaps):
        known.setdefault((gap.exchange, gap.symbol), Known()).open_gaps.append(gap)
    return known


def _of_log(logged: Logged) -> Known:
    known = Known(open_gaps=logged.open_gaps, gaps_closed=logged.gaps_closed, fills=logged.fills)
    if (checkpoint := logged.checkpoint) is not None:
        known.proof, known.first_id = checkpoint.proof, checkpoint.first_id
        known.through_id = checkpoint.through_id
    return known


def _proof(settings: Settings, exchange: str, symbol: str) -> str:
    """What the feed of the settings would say, where no ledger was written down yet; "" for no exchange of ours."""
    from actors.feeds.registry import FEEDS

    if exchange not in FEEDS:
        return ""
    return FEEDS[exchange]((symbol,), settings.exchange(exchange).websocket).proof


def _gap(gap: Gap) -> str:
    ids = "" if gap.first_id is None else f"ids {gap.first_id}..{gap.last_id}, "
    tried = f", tried {gap.attempts} times" if gap.attempts else ""
    said = f" ({gap.evidence})" if gap.evidence else ""
    return f"{ids}{text_of(gap.from_ns)} to {text_of(gap.to_ns)}: {gap.reason}{tried}{said}"


def _show(rows: Sequence[Row], as_json: bool, compared: bool) -> None:
    if as_json:
        said = [{**asdict(row), "whole": row.whole} for row in rows]
        typer.echo(json.dumps({"whole": all(row.whole for row in rows), "symbols": said}))
        return
    if not rows:
        typer.echo("no trades are stored")
        return
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    console.print(_counts(rows, console.width >= _ROOM))
    if compared:
        console.print()
        console.print(_comparisons(rows))
    for row in rows:
        for line in _told(row):
            typer.echo(f"{row.exchange} {row.symbol}: {line}")


def _counts(rows: Sequence[Row], with_ids: bool) -> Table:
    ids = ["first id", "last id"] if with_ids else []
    table = _table([*ids, "expected", "stored", "missing", "doubled", "open", "closed"])
    table.add_column("how it is known" if with_ids else "proof", no_wrap=True)
    for row in rows:
        counts = [row.expected, row.stored, row.missing, row.doubled, row.gaps_open, row.gaps_closed]
        cells = [str(end) if end is not None else "" for end in (row.first_id, row.last_id)] if with_ids else []
        cells += ["" if count is None else f"{count:,}" for count in counts]
        how = PROOFS.get(row.proof, "no ledger") if with_ids else row.proof
        table.add_row(row.exchange, row.symbol, *cells, how, style=None if row.whole else "red")
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


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
