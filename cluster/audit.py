"""`rayfeed audit`: what is stored of every symbol, what is missing, and how that is known; with or without a running
instance, which adds what its shards know now and the disks of its other hosts, each audited where it is.
`--against sim` holds each trade against the one that was made.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from actors.placed_disks import placed
from actors.placement import Series
from cluster import completion
from cluster.asking import Ask, supervisor
from cluster.audit_report import gap_line, show
from cluster.instance import Instance, InstanceError
from cluster.options import AsJson, Data
from cluster.other_disks import HostAway, OtherDisk, away, disks_beside
from cluster.terminal import terminal
from config import Settings, SettingsError, load
from config.node_folder import disk_of
from storage import audit_files
from storage.audit_files import OnDisk, Place, Side
from storage.audit_symbol import TOLD, Known, Row, count
from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.ledger_log import Gap, Record
from storage.ledger_reading import read_ledgers, records_of, together

#: Trades made within this before the audit may be on their way still.
SETTLE_S: Final = 1.0
#: Symbols that moved meanwhile are audited again, so often.
_ROUNDS: Final = 4
_HOSTS_AT_ONCE: Final = 16


@dataclass(slots=True)
class _Disks:
    """Where symbols are: `mine` is the disk of this host, which is called `host`; the others by their disk. Without
    others everything there is belongs here."""

    settings: Settings
    mine: str = ""
    host: str | None = None
    others: dict[str, OtherDisk] = field(default_factory=dict)
    #: Those of others that were lost, and may have what belongs elsewhere.
    lost: Collection[str] = ()
    ask: Ask | None = None

    def now(self) -> Callable[[Series], OtherDisk | None]:
        """By what is decided now, who has a symbol: None is this host."""
        placement = placed(self.settings) if self.others else None
        if placement is None:
            return lambda _: None

        def owner(name: Series) -> OtherDisk | None:
            disk = placement.disk_of(*name)
            return None if disk in ("", self.mine) else self.others.get(disk) or away(disk)

        return owner


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
    made = None
    if against:
        root = settings.data / "simulator" / "columns"
        if not root.is_dir():
            raise SettingsError(f"nothing to compare with: {data} was never run on simulated exchanges")
        made = ColumnReader(root)
    running = _runs(data)
    with _disks(settings, data) as disks:
        audited = _Audit(settings, disks, made, running)
        rows = audited.run(data, exchange, symbol)
    show(rows, audited.not_audited, as_json, made is not None)
    if audited.not_audited or not all(row.whole for row in rows):
        raise typer.Exit(1)


@contextmanager
def _disks(settings: Settings, data: Path) -> Iterator[_Disks]:
    """Those to audit; one whose host does not answer too."""
    with disks_beside(settings, data) as beside:
        placement = placed(settings) if beside.disks else None
        if placement is None:
            yield _Disks(settings)
        else:
            others = {one.disk: one for one in beside.disks}
            yield _Disks(settings, disk_of(settings.data), beside.host, others, placement.away, beside.ask)


class _Audit:
    """Of all disks; `not_audited` says which are not in it, and why."""

    def __init__(self, settings: Settings, disks: _Disks, made: ColumnReader | None, running: bool) -> None:
        self._settings = settings
        self._disks = disks
        self._made = made
        self._running = running
        self._stored = ColumnReader(settings.columns)
        self._known: dict[Series, Known] = {}
        self._until: dict[Series, Place | None] = {}
        self._away: set[str] = set()
        self.not_audited: list[str] = []

    def run(self, data: Path, exchange: str | None, symbol: str | None) -> list[Row]:
        """A row for each symbol that has trades, by exchange and symbol. SettingsError when none is meant."""
        counts, records = self._ask_all()
        wanted = _wanted(counts, exchange, symbol)
        if self._made is not None:
            self._until = {name: audit_files.newest(self._made, *name) for name in wanted}
            if self._running:
                time.sleep(SETTLE_S)
        self._known = _known(data, self._running, records, self._disks.ask)
        rows: dict[Series, Row] = {}
        with _progress() as progress:
            # Each symbol is read once to count and, where it is compared, once more beside what was made.
            total = sum(counts[name] for name in wanted)
            if self._made is not None:
                total += total + sum(audit_files.stored_rows(self._made, *name) for name in wanted)
            task = progress.add_task("", total=total)
            for _ in range(_ROUNDS):
                owner = self._disks.now()
                rows |= self._round(wanted, owner, partial(progress.update, task))
                after = self._disks.now()
                # Whoever moved meanwhile may have been read where half of it was gone.
                wanted = [name for name in wanted if _disk(owner(name)) != _disk(after(name))]
                if not wanted:
                    break
        for name in wanted:
            rows[name].failure = "it went from disk to disk meanwhile: audit again once rayfeed scale is done"
        rows |= {name: self._missed(name, host) for name, host in self._silent(exchange, symbol) if name not in rows}
        return [rows[name] for name in sorted(rows)]

    def _ask_all(self) -> tuple[dict[Series, int], list[Record]]:
        """How many trades there are of which symbol, where it belongs now, and what other hosts' ledgers say."""
        owner = self._disks.now()
        here = [(exchange, one) for exchange, symbols in self._stored.symbols().items() for one in symbols]
        counts = {name: audit_files.stored_rows(self._stored, *name) for name in here if owner(name) is None}
        strays = [(name, self._disks.host) for name in here if owner(name) is not None]
        records: list[Record] = []
        for one in self._disks.others.values():
            try:
                stored = one.trade_counts()
                there = {name: trades for name, trades in stored.items() if _disk(owner(name)) == one.disk}
                records += one.ledger(list(there))
                counts |= there
                strays += [(name, one.host) for name, trades in stored.items() if trades and name not in there]
                if one.disk in self._disks.lost and len(stored) > len(there):
                    self.not_audited.append(f"{one.host} was lost, and what it has goes to the others now")
            except HostAway as error:
                self._is_away(one, error)
        for name, host in strays:
            # Copies that are left behind are with their owner too; while that is away its symbols are named anyway.
            if name not in counts and _disk(owner(name)) not in self._away:
                self.not_audited.append(f"{host} has trades of {' '.join(name)}, which belongs elsewhere")
        return counts, records

    def _round(
        self, names: Sequence[Series], owner: Callable[[Series], OtherDisk | None], told: Callable[..., None]
    ) -> dict[Series, Row]:
        """Every disk by itself: here one symbol after another, and at the same time so on each other host."""
        here: list[Series] = []
        there: dict[str, list[tuple[OtherDisk, Series]]] = {}
        for name in names:
            if (other := owner(name)) is None:
                here.append(name)
            else:
                there.setdefault(other.disk, []).append((other, name))

        def all_of(those: Sequence[tuple[OtherDisk, Series]]) -> list[tuple[Series, Row]]:
            return [(name, self._row_there(other, name, lambda rows: told(advance=rows))) for other, name in those]

        with ThreadPoolExecutor(_HOSTS_AT_ONCE, thread_name_prefix="audit") as pool:
            far = [pool.submit(all_of, those) for those in there.values()]
            rows = {}
            for name in here:
                told(description=" ".join(name))
                rows[name] = self._row_here(name, lambda read: told(advance=read))
            for one in far:
                rows.update(one.result())
        return rows

    def _row_here(self, name: Series, progress: audit_files.Progress) -> Row:
        ledger = self._ledger(name)
        row = count(self._stored, *name, ledger, progress)
        return self._finished(row, OnDisk(self._stored), name, ledger, self._disks.host, progress)

    def _row_there(self, other: OtherDisk, name: Series, progress: audit_files.Progress) -> Row:
        if other.disk in self._away:
            # To find that out again takes a while, for each symbol.
            return self._missed(name, other.host)
        ledger = self._ledger(name)
        try:
            row = other.count(*name, ledger)
            progress(row.stored)
            return self._finished(row, other, name, ledger, other.host, progress)
        except HostAway as error:
            self._is_away(other, error)
            return self._missed(name, other.host)

    def _finished(
        self, row: Row, side: Side, name: Series, ledger: Known, host: str | None, progress: audit_files.Progress
    ) -> Row:
        row.host = host
        row.gaps = [gap_line(gap) for gap in ledger.open_gaps[:TOLD]]
        until = self._until.get(name)
        if self._made is None or until is None or row.failure:
            return row
        try:
            since = side.oldest(*name)
            if since is not None:
                if ledger.first_id is not None:
                    # What is older was asked for later.
                    since = audit_files.place_of(self._made, *name, ledger.first_id) or since
                if not self._running:
                    until = min(until, side.newest(*name) or until)
                row.against = audit_files.compare_sides(side, OnDisk(self._made), *name, since, until, progress)
        except (BeingRewritten, MissingColumn, OSError) as error:
            # What another host says has its trace before it.
            row.failure = f"cannot be read: {getattr(error, 'cause', error)}"
        return row

    def _is_away(self, other: OtherDisk, error: HostAway) -> None:
        if other.disk not in self._away:
            self._away.add(other.disk)
            self.not_audited.append(str(error))

    def _ledger(self, name: Series) -> Known:
        ledger = self._known.get(name) or Known()
        ledger.proof = ledger.proof or _proof(self._settings, *name)
        kept_since = max(_kept_since_ns(self._settings), ledger.kept_from * NANOS_PER_DAY)
        if ledger.first_ns is not None and ledger.first_ns < kept_since:
            # The first days went by the policy, and are not missing: what counts begins with what is stored.
            ledger.first_id = None
        return ledger

    def _silent(self, exchange: str | None, symbol: str | None) -> Iterator[tuple[Series, str]]:
        """The symbols, as far as anybody knows them, of hosts that do not answer."""
        owner = self._disks.now()
        for name in self._known:
            other = owner(name)
            if other is not None and other.disk in self._away and _is_meant(name, exchange, symbol):
                yield name, other.host

    def _missed(self, name: Series, host: str) -> Row:
        return Row(*name, self._ledger(name).proof, failure=f"not audited: {host} does not answer", host=host)


def _disk(other: OtherDisk | None) -> str | None:
    return None if other is None else other.disk


def _wanted(counts: Mapping[Series, int], exchange: str | None, symbol: str | None) -> list[Series]:
    """The symbols to audit, and only those with trades. SettingsError when there are none."""
    wanted = [name for name in sorted(counts) if _is_meant(name, exchange, symbol)]
    if counts and not wanted:
        named = " ".join(part for part in (exchange, symbol) if part)
        raise SettingsError(f"nothing is stored of {named}; there are {', '.join(sorted({one for one, _ in counts}))}")
    return [name for name in wanted if counts[name]]


def _is_meant(name: Series, exchange: str | None, symbol: str | None) -> bool:
    return exchange in (None, name[0]) and symbol in (None, name[1], name[1].replace("/", "_"))


def _runs(data: Path) -> bool:
    running = Instance.read(data.absolute())
    return running is not None and running.details is not None


def _known(data: Path, running: bool, records: Sequence[Record], connected: Ask | None) -> dict[Series, Known]:
    """What the logs of the ledger say, those `records` of other hosts too, and where it runs, what it knows now."""
    here = read_ledgers(data / "ledger")
    logs = (
        here
        if not records
        else together([*(record for name, logged in here.items() for record in records_of(*name, logged)), *records])
    )
    known = {name: Known.of_log(logged) for name, logged in logs.items()}
    if not running:
        return known
    try:
        with supervisor(data) if connected is None else nullcontext(connected) as ask:
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


def _kept_since_ns(settings: Settings) -> int:
    """Column files of trades of days before it may be gone, by the policy."""
    policy = settings.columns_policy
    days = [kept for kept in (policy.archive_after_days, policy.keep_days.get("TRADES")) if kept is not None]
    return time.time_ns() - min(days) * NANOS_PER_DAY if days else 0


def _proof(settings: Settings, exchange: str, symbol: str) -> str:
    """What the feed of the settings would say, where no ledger was written down yet; "" for no exchange of ours."""
    from actors.feeds.registry import FEEDS

    if exchange not in FEEDS:
        return ""
    return FEEDS[exchange]((symbol,), settings.exchange(exchange).websocket).proof


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=terminal(stderr=True),
        transient=True,
    )
