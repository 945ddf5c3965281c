"""`rayfeed record`: a running instance writes what it receives to its journal while this runs.

However this ends, short of being killed, the journal is switched off again, except where the setting `journal` holds.
A collector that is restarted meanwhile is told again; the time it missed is counted as an interruption.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.filesize import decimal
from rich.live import Live
from rich.table import Table

from cluster import completion
from cluster.asking import supervisor
from cluster.options import AsJson, Data
from cluster.terminal import terminal
from config import SettingsError

LOOK_S: Final = 0.5
_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Calls a method of the supervisor: `record(on, exchanges)` or `journals()`. Both say by exchange what its journal has
#: taken since it was switched on: `on`, `path`, `frames`, `bytes`, and `lost` and `failure` where the disk refused.
Journals = Callable[..., dict[str, dict[str, Any]]]


@dataclass(slots=True)
class Taken:
    """What the journal of one exchange has taken during one recording."""

    frames: int = 0
    bytes: int = 0
    lost: int = 0
    #: How often the journal was found switched off.
    interruptions: int = 0
    frames_per_second: float = 0.0
    on: bool = True
    path: str = ""
    failure: str = ""


class Recording:
    """Switches the journals on when made and off at `end`; `taken` holds what was written between, by exchange."""

    def __init__(
        self, ask: Journals, exchanges: Sequence[str] | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises SettingsError for an exchange (None: all) that the instance does not collect."""
        self._ask = ask
        self._clock = clock
        said = ask("journals")
        if exchanges is None:
            exchanges = list(said)
        if unknown := ", ".join(name for name in exchanges if name not in said):
            there = f"there are {', '.join(sorted(said))}" if said else "nor any other"
            raise SettingsError(f"--exchanges: no exchange called {unknown} runs here; {there}")
        self.taken = {name: Taken() for name in sorted(exchanges)}
        #: What each journal said last; one that is off begins from nothing.
        self._before = {name: said[name] if said[name]["on"] else {} for name in self.taken}
        self._began = self._looked = clock()
        said = self._switch(True, list(self.taken))
        for name, taken in self.taken.items():
            taken.on = said[name]["on"]

    @property
    def seconds(self) -> float:
        return self._looked - self._began

    def look(self) -> None:
        """Ask what was taken meanwhile."""
        said = self._ask("journals")
        was_on = {name for name, taken in self.taken.items() if taken.on}
        self._add(said)
        if off := [name for name in self.taken if not said[name]["on"]]:
            for name in was_on.intersection(off):
                self.taken[name].interruptions += 1
            again = self._switch(True, off)
            for name in off:
                self.taken[name].on, self.taken[name].failure = again[name]["on"], again[name].get("failure", "")

    def end(self) -> None:
        """Switch the journals off and note what they took to the last; rates are those of the whole recording now."""
        self._add(self._switch(False, list(self.taken)))
        for taken in self.taken.values():
            taken.frames_per_second = taken.frames / self.seconds if self.seconds > 0 else 0.0

    def _switch(self, on: bool, exchanges: list[str]) -> dict[str, dict[str, Any]]:
        return self._ask("record", on, exchanges)

    def _add(self, said: dict[str, dict[str, Any]]) -> None:
        now = self._clock()
        passed, self._looked = now - self._looked, now
        for name, taken in self.taken.items():
            new, before = said[name], self._before[name]
            # A journal that was begun anew counts from nothing.
            begun = new["frames"] < before.get("frames", 0)
            frames, size, lost = (
                new.get(what, 0) - (0 if begun else before.get(what, 0)) for what in ("frames", "bytes", "lost")
            )
            taken.frames, taken.bytes, taken.lost = taken.frames + frames, taken.bytes + size, taken.lost + lost
            taken.frames_per_second = frames / passed if passed > 0 else 0.0
            taken.on, taken.path, taken.failure = new["on"], new["path"], new.get("failure", "")
            self._before[name] = new

    def table(self) -> Table:
        rows = Table(box=None, pad_edge=False, caption=f"{self.seconds:.0f} s", caption_justify="left")
        rows.add_column("exchange")
        for heading in ("frames", "written", "frames/s"):
            rows.add_column(heading, justify="right", min_width=10)
        rows.add_column("remarks", style="red")
        for name, taken in self.taken.items():
            rows.add_row(
                name, f"{taken.frames:,}", decimal(taken.bytes), f"{taken.frames_per_second:,.0f}", _remarks(taken)
            )
        return rows


def record(
    data: Data = Path("data"),
    exchanges: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", autocompletion=completion.exchanges)
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop after this long; else at Ctrl-C.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write every frame a running instance receives to its journal, until Ctrl-C."""
    names = None if exchanges is None else [name for part in exchanges.split(",") if (name := part.strip())]
    if names == []:
        raise SettingsError("--exchanges: expected names separated by commas")
    folder = data / "journal"
    sizes = _sizes(folder)
    with supervisor(data) as ask, _signalled() as stop:
        recording = _record(ask, names, seconds, stop)
    files = {str(path): size for path, size in sorted(_sizes(folder).items()) if size != sizes.get(path)}
    if as_json:
        typer.echo(json.dumps(_report(recording, files)))
    else:
        terminal().print(recording.table())
        for file, size in files.items():
            typer.echo(f"{file}  {decimal(size)}")
        if files:
            typer.echo(f"play it with: rayfeed replay {folder}")
        if on := ", ".join(name for name, taken in recording.taken.items() if taken.on):
            typer.echo(f"goes on, as the setting journal says: {on}")
    if any(taken.lost or taken.failure for taken in recording.taken.values()):
        raise typer.Exit(1)


def _record(ask: Journals, names: Sequence[str] | None, seconds: float | None, stop: threading.Event) -> Recording:
    recording = Recording(ask, names)
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        with Live(recording.table(), console=terminal(stderr=True), transient=True, auto_refresh=False) as shown:
            while not stop.wait(LOOK_S if deadline is None else max(0.0, min(LOOK_S, deadline - time.monotonic()))):
                recording.look()
                shown.update(recording.table(), refresh=True)
                if deadline is not None and time.monotonic() >= deadline:
                    break
    finally:
        recording.end()
    return recording


def _report(recording: Recording, files: dict[str, int]) -> dict[str, Any]:
    return {
        "seconds": round(recording.seconds, 3),
        "files": files,
        "exchanges": {name: asdict(taken) for name, taken in recording.taken.items()},
    }


def _remarks(taken: Taken) -> str:
    remarks = [
        taken.failure,
        f"{taken.lost:,} events lost" if taken.lost else "",
        f"interrupted {taken.interruptions} times" if taken.interruptions else "",
    ]
    return "; ".join(remark for remark in remarks if remark)


def _sizes(folder: Path) -> dict[Path, int]:
    # Not `journal_files`: an instance that has never recorded has no such folder.
    return {path: path.stat().st_size for path in folder.glob("*.journal")}


@contextmanager
def _signalled() -> Iterator[threading.Event]:
    """An event that is set by what usually ends a process."""
    event = threading.Event()
    before = {number: signal.signal(number, lambda *_: event.set()) for number in _ENDS}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
