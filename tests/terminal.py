"""A command in a terminal of its own."""

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Terminal:
    """A command in a pty of 80x24; `seen` is all it has written."""

    def __init__(self, command: Sequence[str]) -> None:
        self.master, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (24, 80))
        # Not in a fork of ours, which may have threads; setsid makes the terminal the one that Ctrl-C comes from.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(terminal)
        self.seen = ""

    def shows(self, *texts: str, within_s: float = 60.0) -> bool:
        """Whether it writes all of these before it ends."""
        deadline = time.monotonic() + within_s
        while not all(text in self.seen for text in texts):
            left = deadline - time.monotonic()
            assert left > 0, self.seen[-3000:]
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    return all(text in self.seen for text in texts)
        return True

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ended(self) -> int:
        """Its exit status, once it has left the whole screen."""
        assert self.shows("\x1b[?1049l", within_s=15), self.seen[-3000:]
        return self.process.wait(15)


@contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    one = Terminal(command)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        os.close(one.master)
