"""`rayfeed status --watch`: a screen that follows an instance, also over its end and its next start. Another process
asks: Ray hangs when its cluster goes, and what hangs there must not hold up the keys nor leave the terminal as it is.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from cluster.instance import Instance, InstanceError
from cluster.status_screen import Watched, screen

#: Keys and the size of the terminal are looked at this often.
_LOOK_S: Final = 0.1
#: An instance that does not answer is asked again after this long.
_AGAIN_S: Final = 1.0
#: Who asks waits while so many answers are not drawn.
_MOST_WAITING: Final = 8


def watch(data: Path, every_s: float) -> None:
    """Until q, Ctrl-C or SIGTERM; InstanceError where there is no terminal."""
    console = Console()
    if not console.is_terminal or not sys.stdin.isatty():
        raise InstanceError("--watch needs a terminal; with --json it prints a line each time instead")
    source, watched, drawn = _Source(data, every_s), Watched(), None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Who was started by a script may have been told to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    live = Live(console=console, screen=True, auto_refresh=False)
    with suppress(KeyboardInterrupt), source.running(), _keys() as pressed, live:
        while pressed(_LOOK_S) not in ("q", "Q", "\x03", "\x1b"):
            news = source.news()
            if news is not None:
                watched.hear(news, time.monotonic())
            # Drawn when something is new: a second, an answer, or another size.
            now, size = datetime.now(UTC), console.size
            shown = (now.second, size, watched.at, source.remark)
            if shown != drawn:
                drawn, clock = shown, f"{now:%H:%M:%S} UTC"
                said = screen(watched, time.monotonic(), clock, size.width, size.height, source.remark)
                live.update(said, refresh=True)


class _Source:
    """What `rayfeed status --watch --json` of another process says, started again whenever it has ended."""

    def __init__(self, data: Path, every_s: float) -> None:
        self._data = data
        self._command = [sys.executable, "-m", "cluster.cli", "status", "--watch", "--json", "--every", str(every_s)]
        self._said: queue.Queue[dict[str, Any]] = queue.Queue(_MOST_WAITING)
        self._over = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        #: Why nothing new is to be expected, "" while it is.
        self.remark = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            if (process := self._process) is not None:
                process.kill()
            thread.join(_AGAIN_S)

    def news(self) -> dict[str, Any] | None:
        """The newest answer, if there is one that was not taken yet."""
        newest = None
        with suppress(queue.Empty):
            while True:
                newest = self._said.get_nowait()
        return newest

    def _follow(self) -> None:
        while not self._over.is_set():
            self.remark = self._absent()
            if not self.remark:
                self._ask()
            self._over.wait(_AGAIN_S)

    def _absent(self) -> str:
        try:
            running = Instance.read(self._data.absolute())
        except InstanceError as error:
            return str(error)
        if running is None:
            return "it has stopped; waits for it to start"
        return "" if running.details else "it starts"

    def _ask(self) -> None:
        with subprocess.Popen(  # noqa: S603 - our own command line
            [*self._command, "--data", str(self._data)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C is for us alone.
            start_new_session=True,
        ) as process:
            self._process = process
            if self._over.is_set():
                process.kill()
            assert process.stdout is not None
            for line in process.stdout:
                # It may end in the middle of a line, or find that the instance has stopped since we looked.
                said = json.loads(line) if line.endswith("\n") else {"running": False}
                if said["running"]:
                    self.remark = ""
                    self._said.put(said)
        self.remark = "no answer, asks again"


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key and gives it, "" for none. Keys need no return and are not
    shown."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([terminal], [], [], seconds)
        if not ready:
            return ""
        read = os.read(terminal, 32)
        # An arrow key is a sequence that begins with escape; its end is the end of the terminal.
        return "q" if not read else read.decode(errors="replace") if len(read) == 1 else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
