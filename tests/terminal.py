"""A command in a terminal of its own."""

import os
import pty
import select
import signal
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Terminal:
    """A command in a pty of 80x24."""

    def __init__(self, *command: str) -> None:
        pid, self.master = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(command[0], command)
        self.pid, self.seen, self.code = pid, "", None
        termios.tcsetwinsize(self.master, (24, 80))

    def shows(self, *texts: str, within_s: float = 60.0) -> bool:
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
        """Its exit status."""
        self.shows("\x1b[?1049l", within_s=15)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)


@contextmanager
def terminal(*command: str) -> Iterator[Terminal]:
    one = Terminal(*command)
    try:
        yield one
    finally:
        if one.pid:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)
        os.close(one.master)
