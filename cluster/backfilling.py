"""`rayfeed backfill`: past trades of a range of time, fetched over REST by the running collector. The job belongs to
the collector, is kept in the data folder and goes on after a restart; this command starts it, or finds it, and looks.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from cluster import completion
from cluster.asking import Ask, supervisor
from cluster.moments import moment, text_of
from cluster.options import AsJson, Data
from cluster.terminal import terminal
from config import SettingsError

LOOK_S: Final = 0.5
#: What has ended: well, or not.
DONE: Final = "done"
ENDED: Final = frozenset((DONE, "failed", "cancelled"))
_FIRST_NS: Final = 946_684_800_000_000_000  # 2000-01-01: older trades no file can hold
_INTERRUPTED: Final = 130
_TO_THE_MINUTE: Final = 16
#: '2h ago' of a command that is given again is a little later.
_SAME_NS: Final = 60_000_000_000

#: One job, as `Collector.backfills` says it, with its exchange.
Job = dict[str, Any]


def backfill(
    exchange: Annotated[
        str | None,
        typer.Argument(help="As in the settings: binance, kraken, ...", autocompletion=completion.exchanges),
    ] = None,
    symbols: Annotated[
        list[str] | None,
        typer.Argument(metavar="SYMBOL...", help="As the exchange names them.", autocompletion=completion.symbols),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="UTC: 2026-01-31, 2026-01-31T12:00 or '2h ago'.")] = None,
    until: Annotated[str, typer.Option("--to", help="The same; a day counts to its end.")] = "now",
    cancel: Annotated[bool, typer.Option("--cancel", help="End the jobs of these symbols.")] = False,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Fetch the trades of a range of time; Ctrl-C leaves it running. Without arguments: what runs.

    Exit status 1 when a job failed or was cancelled.
    """
    if exchange is None:
        with supervisor(data) as ask:
            _show(ask("backfills"), as_json)
        return
    if not symbols:
        raise SettingsError(f"which symbols of {exchange}? rayfeed backfill {exchange} SYMBOL... --from TIME")
    if cancel:
        with supervisor(data) as ask:
            _show(cancelled(ask, exchange, symbols), as_json)
        return
    if since is None:
        raise SettingsError("--from is missing: since when? For example --from '2h ago' or --from 2026-01-31")
    from_ns, to_ns = span(since, until, time.time_ns())
    with supervisor(data) as ask:
        started = start(ask, exchange, symbols, from_ns, to_ns)
        try:
            jobs = watch(ask, exchange, started)
        except KeyboardInterrupt:
            again = f"rayfeed backfill {exchange} {' '.join(symbols)} --cancel --data {data}"
            typer.echo(f"it goes on; look with: rayfeed backfill --data {data}, end it with: {again}", err=True)
            raise typer.Exit(_INTERRUPTED) from None
    _show(jobs, as_json)
    if any(job["state"] != DONE for job in jobs):
        raise typer.Exit(1)


def span(since: str, until: str, now_ns: int) -> tuple[int, int]:
    """From and to, ns, both ends included. SettingsError for what is no time, no span, or not the past."""
    try:
        from_ns, to_ns = moment(since, now_ns), min(moment(until, now_ns, end=True), now_ns)
    except (ValueError, OverflowError) as error:
        raise SettingsError(str(error)) from None
    if from_ns >= now_ns:
        raise SettingsError(f"--from {since} has not been yet: only past trades can be fetched")
    if from_ns >= to_ns:
        raise SettingsError(f"--from {since} is not before --to {until}")
    if from_ns < _FIRST_NS:
        raise SettingsError(f"--from {since} is before the year 2000")
    return from_ns, to_ns


def start(ask: Ask, exchange: str, symbols: Sequence[str], from_ns: int, to_ns: int) -> set[int]:
    """Start what does not run yet; the jobs. One that was begun with the same span, as a command that was ended and is
    given again does, is that one: `now` may have moved on meanwhile."""
    running = {
        job["symbol"]: job["job"]
        for job in ask("backfills")
        if job["exchange"] == exchange
        and job["state"] not in ENDED
        and abs(job["from_ns"] - from_ns) < _SAME_NS
        and abs(job["to_ns"] - to_ns) < _SAME_NS
    }
    return {
        running[symbol] if symbol in running else ask("backfill", exchange, symbol, from_ns, to_ns)
        for symbol in dict.fromkeys(symbols)
    }


def cancelled(ask: Ask, exchange: str, symbols: Sequence[str]) -> list[Job]:
    """End every job of these symbols that runs; what they are afterwards. SettingsError when none runs."""
    found = [
        job["job"]
        for job in ask("backfills")
        if job["exchange"] == exchange and job["symbol"] in symbols and job["state"] not in ENDED
    ]
    if not found:
        raise SettingsError(f"no backfill of {', '.join(symbols)} on {exchange} runs")
    for job in found:
        ask("cancel_backfill", exchange, job)
    return _of(ask("backfills"), exchange, set(found))


def watch(ask: Ask, exchange: str, jobs: set[int]) -> list[Job]:
    """Show the jobs until all have ended; what they were at last."""
    from actors.feeds.registry import HISTORIES

    progress = Progress(HISTORIES[exchange].forwards)
    with Live(console=terminal(stderr=True), transient=True, auto_refresh=False) as shown:
        while True:
            said = _of(ask("backfills"), exchange, jobs)
            shown.update(progress.table(said, time.monotonic()), refresh=True)
            if all(job["state"] in ENDED for job in said):
                return said
            time.sleep(LOOK_S)


class Progress:
    """How fast jobs are and when they will be done, from what they said since the first look."""

    def __init__(self, forwards: bool) -> None:
        self._forwards = forwards
        #: By job: when it was looked at first, how much was done and how many rows there were.
        self._first: dict[int, tuple[float, float, int]] = {}

    def fraction(self, job: Job) -> float:
        """How much of its span is done, 0 to 1."""
        if job["state"] == DONE:
            return 1.0
        if job["reached_ns"] is None:
            return 0.0
        passed: int = job["reached_ns"] - job["from_ns"] if self._forwards else job["to_ns"] - job["reached_ns"]
        whole: int = job["to_ns"] - job["from_ns"]
        return min(1.0, max(0.0, passed / whole))

    def speed(self, job: Job, now_s: float) -> tuple[float, float | None]:
        """Trades per second, and seconds until it is done (None: not known yet)."""
        done = self.fraction(job)
        began, before, rows = self._first.setdefault(job["job"], (now_s, done, job["rows"]))
        passed = now_s - began
        if not passed or done <= before:
            return 0.0, None
        return (job["rows"] - rows) / passed, (1 - done) * passed / (done - before)

    def table(self, jobs: Sequence[Job], now_s: float) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for job in jobs:
            rate, left = self.speed(job, now_s)
            done = self.fraction(job)
            table.add_row(
                job["symbol"],
                ProgressBar(total=1.0, completed=done, width=30),
                f"{done:4.0%}",
                f"{job['rows']:,} trades",
                f"{rate:,.0f}/s" if rate else "",
                f"{_duration(left)} left" if left is not None and job["state"] not in ENDED else job["state"],
                job["error"],
            )
        return table


def _show(jobs: Sequence[Job], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(jobs))
        return
    if not jobs:
        typer.echo("no backfills")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("exchange", "symbol", "from (UTC)", "to", "trades", "new", "state"):
        table.add_column(heading, justify="right" if heading in ("trades", "new") else "left", no_wrap=True)
    for job in jobs:
        style = {DONE: None, "failed": "red", "cancelled": "yellow"}.get(job["state"], "cyan")
        ends = (text_of(job[end])[:_TO_THE_MINUTE] for end in ("from_ns", "to_ns"))
        counts = (f"{job[count]:,}" for count in ("rows", "new"))
        table.add_row(job["exchange"], job["symbol"], *ends, *counts, job["state"], style=style)
    terminal().print(table)
    for job in jobs:
        if job["error"]:
            typer.echo(f"{job['exchange']} {job['symbol']}: {job['error']}")


def _of(jobs: Sequence[Job], exchange: str, wanted: set[int]) -> list[Job]:
    return [job for job in jobs if job["exchange"] == exchange and job["job"] in wanted]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
