"""`rayfeed backup`, `verify` and `restore`. A backup is made by the running instance, or here where nothing runs;
checked and restored it is here, where no instance is needed.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from cluster.asking import Ask, supervisor
from cluster.instance import Instance, InstanceError
from cluster.options import AsJson, Data
from cluster.terminal import terminal
from config import SettingsError, load
from storage.backup_manifest import BackupError, described

LOOK_S: Final = 0.5
_DRAW_S: Final = 0.1
_INTERRUPTED: Final = 130

#: A backup, as `storage.backup_manifest.described` says it.
Made = dict[str, Any]

To = Annotated[str | None, typer.Option("--to", help="A folder or URI (s3://bucket/folder); else as in the settings.")]

app = typer.Typer(help="Make a backup; works with and without a running instance.", invoke_without_command=True)


@app.callback()
def backup(
    context: typer.Context,
    to: To = None,
    journal: Annotated[bool, typer.Option("--journal", help="With the raw journal.")] = False,
    with_secrets: Annotated[bool, typer.Option("--with-secrets", help="With DATA/secrets and DATA/tls.")] = False,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Copy what has changed since the last backup; Ctrl-C leaves it to a running instance. Exit status 1 when the data
    of a host is not in it."""
    if context.invoked_subcommand is not None:
        return
    if not data.is_dir():
        raise SettingsError(f"there is no data folder {data}; say which with --data")
    target = None if to is None else _absolute(to)
    running = Instance.read(data.absolute())
    make = _made_here if running is None else _made_there
    made = make(data, target, journal, with_secrets)
    if as_json:
        typer.echo(json.dumps(made))
    else:
        new = decimal(made["written"])
        typer.echo(f"backup {made['backup']} in {made['to']}: {_summary(made)}; {new} had to be written")
    for line in made["lacks"]:
        typer.echo(f"rayfeed: NOT in it: {line}", err=True)
    if with_secrets:
        typer.echo("secrets are in it: keep it where nobody else can read it", err=True)
    if made["lacks"]:
        raise typer.Exit(1)


@app.command("list")
def listed(to: To = None, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every backup there is, oldest first."""
    from storage.backup_store import open_store

    store = open_store(_absolute(to) if to else load(data).backups)
    rows: list[dict[str, Any]] = []
    for name in store.names():
        try:
            rows.append(described(name, store.manifest(name)))
        except BackupError as error:
            rows.append({"backup": name, "failure": str(error)})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo(f"no backups in {store.shown}")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("backup", "files", "rows", "size", "new", "remarks"):
        table.add_column(heading, justify="left" if heading in ("backup", "remarks") else "right", no_wrap=True)
    for row in rows:
        if "failure" in row:
            table.add_row(row["backup"], "", "", "", "", row["failure"], style="red")
        else:
            sizes = (decimal(row[what]) for what in ("size", "written"))
            table.add_row(
                row["backup"],
                f"{row['files']:,}",
                f"{row['rows']:,}",
                *sizes,
                "; ".join(["lacks: " + line for line in row["lacks"]]),
            )
    terminal().print(table)


def verify(
    backup: Annotated[str | None, typer.Argument(help="As rayfeed backup list names it, or latest.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every backup there is.")] = False,
    to: To = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Read all column files, or all of a backup; exit status 1 when anything is missing, cut off or changed."""
    if backup is None and not every:
        _verify_live(data, as_json)
        return
    from storage.backup import found_backup
    from storage.backup_store import open_store
    from storage.backup_verify import Verifying

    store = open_store(_absolute(to) if to else load(data).backups)
    latest = found_backup(store, backup or "latest")
    names = store.names() if every else [latest]
    checking = Verifying(store)
    with _bar(lambda: checking.progress):
        wrong = {name: checking.run(name) for name in names}
    whole = not any(wrong.values())
    if as_json:
        found = [{"backup": name, "whole": not lines, "wrong": lines} for name, lines in wrong.items()]
        typer.echo(json.dumps({"whole": whole, "backups": found}))
    else:
        for name, lines in wrong.items():
            typer.echo(
                "\n".join(lines)
                if lines
                else f"backup {name} is whole: {_summary(described(name, store.manifest(name)))}"
            )
    if not whole:
        raise typer.Exit(1)


def restore(
    backup: Annotated[str, typer.Argument(help="As rayfeed backup list names it, or latest.")],
    source: Annotated[str | None, typer.Option("--from", help="A folder or URI; else data/backups.")] = None,
    data: Annotated[Path, typer.Option("--data", help="A new folder, which gets the name once all is there.")] = Path(
        "data"
    ),
    as_json: AsJson = False,
) -> None:
    """Put a backup into a new data folder and an empty database, checking all of it."""
    from storage.backup import found_backup
    from storage.backup_restore import Restoring
    from storage.backup_store import open_store
    from storage.clickhouse import ClickHouse, open_clickhouse

    def database(folder: Path) -> ClickHouse:
        # The restored settings, and CLICKHOUSE_URL, say which one.
        settings = load(folder)
        return open_clickhouse(settings.clickhouse_url, folder / "clickhouse", settings.clickhouse_cluster)

    store = open_store(_absolute(source) if source else load().backups)
    name = found_backup(store, backup)
    restoring = Restoring(store, name, data.absolute(), database)
    with _bar(lambda: restoring.progress):
        manifest = restoring.run()
    restored = described(name, manifest)
    for line in manifest.lacks:
        typer.echo(f"rayfeed: was not in the backup: {line}", err=True)
    if as_json:
        typer.echo(json.dumps({**restored, "data": str(data.absolute())}))
    else:
        typer.echo(f"restored {_summary(restored)} to {data}; start it with: rayfeed up --data {data}")


def _verify_live(data: Path, as_json: bool) -> None:
    """The column files of the data folder itself, and of a running instance's other hosts."""
    from cluster.other_disks import HostAway, disks_beside
    from storage.column_verify import Summary, Verified, summary

    if not data.is_dir():
        raise SettingsError(f"there is no data folder {data}; say which with --data")
    settings, progress = load(data), _Days()

    def told(one: Verified) -> None:
        progress.doing = f"{one.exchange} {one.symbol} {one.day}"
        progress.done, progress.read = progress.done + 1, progress.read + one.size

    found: list[tuple[str, Summary]] = []
    not_verified: list[str] = []
    with _bar(lambda: progress), disks_beside(settings, data) as beside:
        others = beside.disks
        found.append((beside.host, summary(settings.columns, told)))
        for other in others:
            progress.doing = other.host
            try:
                found.append((other.host, other.verify()))
            except HostAway as error:
                not_verified.append(str(error))
    wrong = [(host, one) for host, its in found for one in its.wrong]
    days, sealed = sum(its.days for _, its in found), sum(its.sealed for _, its in found)
    rows, size = sum(its.rows for _, its in found), sum(its.size for _, its in found)
    whole = not wrong and not not_verified
    if as_json:
        told_days = [{**asdict(one), "host": host} for host, one in wrong]
        counts = {"days": days, "sealed": sealed, "rows": rows}
        typer.echo(json.dumps({"whole": whole, **counts, "wrong": told_days, "not_verified": not_verified}))
    else:
        for line in not_verified:
            typer.echo(f"not verified: {line}")
        for host, one in wrong:
            where = f"{host}: " if others else ""
            for what in one.wrong:
                typer.echo(f"{where}{one.exchange} {one.symbol} {one.row_type} {one.day}: {what}")
        if whole:
            hosts = f" on {len(found)} disks" if others else ""
            typer.echo(
                f"{days:,} days with {rows:,} rows{hosts} are whole: {sealed:,} sealed ones byte by byte, "
                f"the others in their order ({decimal(size)})"
            )
    if not whole:
        raise typer.Exit(1)


@dataclass(slots=True)
class _Days:
    """How far it is; nobody knows how much there is."""

    doing: str = ""
    done: int = 0
    read: int = 0
    sections: int = 0


def _made_there(data: Path, target: str | None, journal: bool, secrets: bool) -> Made:
    """By the running instance."""
    with supervisor(data) as ask:
        number = ask("backup", target, journal, secrets)
        try:
            job = _watched(ask, number)
        except KeyboardInterrupt:
            typer.echo(f"it goes on; look with: rayfeed status --data {data}", err=True)
            raise typer.Exit(_INTERRUPTED) from None
    if job["state"] != "done":
        raise InstanceError(f"no backup was made: {job['error']}")
    return {what: job[what] for what in job if what not in ("job", "state", "error")}


def _watched(ask: Ask, number: int) -> dict[str, Any]:
    """The job once it has ended."""
    from storage.backup import Progress

    progress = Progress()
    with _bar(lambda: progress):
        while True:
            job: dict[str, Any] = ask("backup_job")
            if job["job"] != number:
                raise InstanceError("no backup was made: its process was restarted; try again, it goes on from there")
            if job["state"] != "running":
                return job
            for what in ("doing", "sections", "done", "read", "written"):
                setattr(progress, what, job.get(what, getattr(progress, what)))
            time.sleep(LOOK_S)


def _made_here(data: Path, target: str | None, journal: bool, secrets: bool) -> Made:
    """With the data folder to ourselves."""
    from actors.other_disks import lacking
    from storage.backup import Copying, Extras
    from storage.backup_sources import finish_merges
    from storage.backup_store import open_store
    from storage.clickhouse import open_clickhouse

    instance = Instance.claim(data.absolute())
    try:
        settings = load(data)
        finish_merges(settings.data)
        database = None
        if settings.clickhouse_url is not None or (settings.data / "clickhouse").is_dir():
            database = open_clickhouse(
                settings.clickhouse_url, settings.data / "clickhouse", settings.clickhouse_cluster
            )
        try:
            store = open_store(target or settings.backups)
            query, extras = database.query if database else None, Extras(journal, secrets)
            copying = Copying(store, settings.data, query, extras, disks=lacking(settings))
            with _bar(lambda: copying.progress):
                return described(*copying.run(time.time_ns)) | {"to": store.shown}
        finally:
            if database is not None:
                database.close()
    finally:
        instance.release()


@contextmanager
def _bar(progress: Callable[[], Any]) -> Iterator[None]:
    """Show how far it is, while the work goes on in this thread."""
    console, ended = terminal(stderr=True), threading.Event()
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[read]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )

    def draw() -> None:
        while not ended.wait(_DRAW_S):
            now = progress()
            read = f"{decimal(now.read)} read"
            bar.update(task, description=now.doing[:40], completed=now.done, total=now.sections or None, read=read)

    with bar:
        task = bar.add_task("", total=None, read="")
        drawing = threading.Thread(target=draw, daemon=True)
        drawing.start()
        try:
            yield
        finally:
            ended.set()
            drawing.join()


def _absolute(target: str) -> str:
    return target if "://" in target else str(Path(target).absolute())


def _summary(made: Made) -> str:
    return f"{made['files']:,} files, {len(made['tables'])} tables with {made['rows']:,} rows, {decimal(made['size'])}"
