"""`rayfeed replay`: captures and journals played through local servers in the exchanges' own protocol, for any client
that speaks it. Nothing of a running instance is needed or touched, Ray least of all.
"""

import asyncio
import json
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer
from rich.live import Live
from rich.table import Table
from websockets.exceptions import ConnectionClosed

from actors.simulator.captures import CaptureError, Recording, read_capture, read_captures, read_journals, recordings
from actors.simulator.replay import ReplayServer
from actors.simulator.replay_clock import shared_clocks
from cluster.terminal import terminal
from config import SettingsError
from storage.journal import SUFFIX

LOOK_S: Final = 0.25
_NS: Final = 1_000_000_000


class Replay:
    """The servers of all recorded exchanges, and what they have played."""

    def __init__(self, recorded: Sequence[Recording], speed: float) -> None:
        self._recordings = {one.exchange: one for one in recorded}
        self._clocks = shared_clocks(recorded, speed)
        self._servers = {one.exchange: ReplayServer(one, self._clocks[one.exchange]) for one in recorded}

    async def start(self) -> dict[str, dict[str, Any]]:
        """Listen; says by exchange where (`websocket`, `rest`) and what is recorded (`symbols`, `frames`, `first_ns`
        and `last_ns`)."""
        try:
            addresses = {name: await server.start() for name, server in self._servers.items()}
        except BaseException:
            await self.stop()
            raise
        opened = {}
        for name, (websocket, rest) in addresses.items():
            first, last = self._recordings[name].span
            opened[name] = {
                "websocket": websocket,
                "rest": rest,
                "symbols": list(self._recordings[name].symbols),
                "frames": self._servers[name].progress()["frames"],
                "first_ns": first,
                "last_ns": last,
            }
        return opened

    async def stop(self) -> None:
        """Close everything."""
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    def progress(self) -> dict[str, dict[str, Any]]:
        """By exchange what `ReplayServer.progress` says, and `recorded_ns`: the recorded time that was reached, None
        where everything is due at once."""
        said: dict[str, dict[str, Any]] = {}
        for name, server in self._servers.items():
            clock, (_, last) = self._clocks[name], self._recordings[name].span
            said[name] = {**server.progress(), "recorded_ns": min(clock.due_ns, last) if clock.speed else None}
        return said

    @property
    def finished(self) -> bool:
        """Whether of each exchange everything that was subscribed to has been sent."""
        return all(server.progress()["finished"] for server in self._servers.values())

    async def taken(self) -> None:
        """Wait until every client has read what was sent to it."""
        for server in self._servers.values():
            for connection in tuple(server.faults.connections):
                with suppress(ConnectionClosed):
                    # Its pong comes when it has read everything before the ping.
                    await (await connection.ping())


def run(sources: Sequence[Path], exchanges: str | None, speed: float, until_sent: bool, as_json: bool) -> None:
    """Play until Ctrl-C, or until clients have got everything. Raises SettingsError as `find_recordings` does."""
    recorded, skipped = find_recordings(sources, exchanges)
    for path in skipped:
        typer.echo(f"not played, of no known exchange: {path}", err=True)
    asyncio.run(_play(Replay(recorded, speed), until_sent, _Json() if as_json else _Text()))


def find_recordings(sources: Sequence[Path], exchanges: str | None = None) -> tuple[list[Recording], list[Path]]:
    """What there is to play in folders and files, by exchange, and the captures nobody can play.

    Raises SettingsError, with one line for the user, for what cannot be read or holds nothing of these `exchanges`.
    """
    captures, journals = [], []
    try:
        for path in sources:
            if path.is_dir():
                captures += read_captures(path)
            elif path.suffix == SUFFIX:
                journals.append(path)
            else:
                captures.append(read_capture(path))
        captures += read_journals(journals)
    except CaptureError as error:
        raise SettingsError(str(error)) from None
    found = recordings(captures)
    there = ", ".join(one.exchange for one in found)
    if not found:
        raise SettingsError(f"nothing to play in {', '.join(map(str, sources))}")
    if exchanges is not None:
        wanted = {name for part in exchanges.split(",") if (name := part.strip())}
        if absent := ", ".join(sorted(wanted - {one.exchange for one in found})) or ("" if wanted else exchanges):
            raise SettingsError(f"--exchanges: nothing is recorded of {absent}; there is {there}")
        found = [one for one in found if one.exchange in wanted]
    return found, [capture.path for capture in captures if capture.exchange is None]


async def _play(replay: Replay, until_sent: bool, output: "_Text | _Json") -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    output.opened(await replay.start())
    try:
        with output:
            while not stop.is_set() and not (until_sent and replay.finished):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await stop.wait()
                output.progress(replay.progress())
            if not stop.is_set():
                await _first(replay.taken, stop.wait)
        output.ended(replay.progress())
    finally:
        await replay.stop()


async def _first(*waits: Callable[[], Any]) -> None:
    tasks = [asyncio.ensure_future(wait()) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class _Text:
    """For people: addresses on stdout, progress on stderr while it is a terminal."""

    def __init__(self) -> None:
        self._live = Live(console=terminal(stderr=True), transient=True, auto_refresh=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def opened(self, exchanges: dict[str, dict[str, Any]]) -> None:
        for name, said in exchanges.items():
            seconds = (said["last_ns"] - said["first_ns"]) / _NS
            typer.echo(
                f"{name:<10} {said['websocket']}  {said['rest']}  {len(said['symbols'])} symbols, "
                f"{said['frames']:,} frames of {seconds:,.1f} s from {_time(said['first_ns'])}"
            )

    def progress(self, exchanges: dict[str, dict[str, Any]]) -> None:
        rows = Table(box=None, pad_edge=False)
        for heading in ("exchange", "sent", "of", "clients", "recorded time"):
            rows.add_column(heading, justify="right" if heading in ("sent", "of", "clients") else "left")
        for name, said in exchanges.items():
            at = "" if said["recorded_ns"] is None else _time(said["recorded_ns"])
            rows.add_row(name, f"{said['sent']:,}", f"{said['frames']:,}", str(said["connections"]), at)
        self._live.update(rows, refresh=True)

    def ended(self, exchanges: dict[str, dict[str, Any]]) -> None:
        for name, said in exchanges.items():
            typer.echo(f"{name:<10} sent {said['sent']:,} of {said['frames']:,} frames")


class _Json:
    """For programs: a line when it listens, one whenever something was sent, one at the end."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def opened(self, exchanges: dict[str, dict[str, Any]]) -> None:
        typer.echo(json.dumps({"listening": exchanges}))

    def progress(self, exchanges: dict[str, dict[str, Any]]) -> None:
        if exchanges != self._last:
            self._last = exchanges
            typer.echo(json.dumps({"progress": exchanges}))

    def ended(self, exchanges: dict[str, dict[str, Any]]) -> None:
        typer.echo(json.dumps({"ended": exchanges}))


def _time(t_ns: int) -> str:
    return f"{datetime.fromtimestamp(t_ns / _NS, UTC):%Y-%m-%d %H:%M:%S} UTC"
