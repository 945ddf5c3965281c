"""`rayfeed report`: publish reports, list and remove them, and have one made of a day. While the instance runs its
actor is asked, otherwise the same is done on the data folder, which nobody can start meanwhile.
"""

import json
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from cluster.asking import Ask, running_actor, wherever
from cluster.moments import text_of
from cluster.options import AsJson, Data, operator
from cluster.terminal import terminal
from config import SettingsError

app = typer.Typer(no_args_is_help=True, help="Reports: publish, list and remove them, and make one of a day.")

#: A file with more has pages that are refused anyway.
_MOST_BYTES: Final = 16 << 20
_NEWEST: Final = 20


@app.command()
def publish(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON, as docs/reports.md says.")],
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Publish reports; one with the key of another takes its place."""
    from actors.report_book import keyed

    given = [_read(file) for file in files]
    with _reports(data) as ask:
        for one in given:
            _say(ask("publish", keyed(one), operator()), as_json)


@app.command("list")
def list_reports(
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="The newest so many.")] = _NEWEST,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """The newest reports."""
    with _reports(data) as ask:
        listed = ask("newest", count)
    from actors.reports import shown

    rows = [shown(report) for report in listed.reports]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no reports; make one with: rayfeed report generate")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "version", "published (UTC)", "by", "title"):
        table.add_column(heading, no_wrap=heading != "title")
    for row in rows:
        created = text_of(row["created_at"])
        table.add_row(str(row["id"]), str(row["version"]), created, row["author"], row["title_en"])
    terminal().print(table)


@app.command()
def remove(
    report_ids: Annotated[list[int], typer.Argument(metavar="ID...")],
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Remove reports."""
    with _reports(data) as ask:
        for report_id in report_ids:
            ask("remove", report_id)
            if not as_json:
                typer.echo(f"{report_id}: removed")
    if as_json:
        typer.echo(json.dumps({"removed": report_ids}))


@app.command()
def generate(
    day: Annotated[str | None, typer.Option(help="As in 2026-01-31 (UTC); today by default.")] = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make the report of a day from what the running instance has stored, and publish it; again for the same day: its
    next version."""
    chosen = _day(day)
    from serve_apps.daily_report import BARS_SQL, GAPS_SQL, SYMBOLS_SQL, daily_report, span_of

    start, end = span_of(chosen)
    from actors.directory import DATABASE, REPORTS

    with running_actor(data, DATABASE) as ask:
        bars, gaps = (ask("query", sql, {"start": start, "end": end}) for sql in (BARS_SQL, GAPS_SQL))
        instruments = ask("query", SYMBOLS_SQL, {})
    given = daily_report(chosen, bars, gaps, instruments)
    with running_actor(data, REPORTS) as ask:
        _say(ask("publish", given, operator()), as_json)


def _say(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(report))
        return
    typer.echo(
        f"report {report['id']}, version {report['version']}: {report['title_en']} (/crypto_report/{report['id']})"
    )
    for warning in report["warnings"]:
        typer.echo(f"  {warning}", err=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = file.read_bytes() if file.stat().st_size <= _MOST_BYTES else None
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    if content is None:
        raise SettingsError(f"{file} is too large for a report")
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        raise SettingsError(f"{file} is no JSON; docs/reports.md says how a report is written") from None
    if not isinstance(given, dict):
        raise SettingsError(f"{file}: a report is a JSON object; docs/reports.md says how it is written")
    return given


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--day: {text!r} is no day: expected one like 2026-01-31") from None


def _reports(data: Path) -> AbstractContextManager[Ask]:
    from actors.directory import REPORTS
    from actors.reports import Reports

    return wherever(data, REPORTS, Reports)
