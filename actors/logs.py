"""What processes log: one JSON object a line on their standard output, which Ray keeps in the files of its session and
shows in its dashboard. Who says it is in each line, and what is said again and again is summarised.
"""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog

from actors.metering import meters
from actors.repeats import Repeats
from config.log_settings import LogSettings

#: Lines that differ in other values say the same.
_KIND: Final = ("level", "event", "exchange")
#: Text is cut after so many characters.
MOST_CHARACTERS: Final = 4000
#: What the second part of an actor's name is.
_PARTS: Final = {"collector": "exchange", "shard": "shard", "poller": "provider"}

Line = MutableMapping[str, Any]


class Lines:
    """Writes the lines of a process to `stream`, what `repeats` lets through; `clock` is steady, in seconds."""

    def __init__(
        self, process: str, repeats: Repeats, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._process = process
        self._own = _who(process)
        self._repeats = repeats
        self._stream = stream
        self._clock = clock

    def __call__(self, logger: Any, method: str, line: Line) -> str:
        """The last processor of structlog: the line as text, or `structlog.DropEvent`."""
        said = {**self._own, **line}
        self.tell_repeated()
        if not self._repeats.admit(tuple(str(said.get(name, "")) for name in _KIND), self._clock()):
            raise structlog.DropEvent
        return _text(said)

    def tell_repeated(self) -> None:
        """Say what was said again, once its time is over."""
        for (level, event, exchange), count, seconds in self._repeats.over(self._clock()):
            said = {"level": level, "event": f"{event} ... {count} more times in {seconds:.0f} s", "repeated": count}
            self._stream.write(_text({**self._own, **({"exchange": exchange} if exchange else {}), **said}) + "\n")
            self._stream.flush()

    def samples(self) -> meters.Samples:
        """Asked every few seconds: so nothing that was said again waits for another line."""
        self.tell_repeated()
        return {("rayfeed_log_lines_repeated_total", (self._process,)): self._repeats.dropped}


class _Libraries(logging.Handler):
    """Hands lines of libraries on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        said: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            said["exception"] = logging.Formatter().formatException(record.exc_info)
        try:
            event = record.getMessage()
        except (TypeError, ValueError):
            event = str(record.msg)
        write = structlog.get_logger()
        (write.error if record.levelno >= logging.ERROR else write.warning)(event, **said)


def begin(process: str, settings: LogSettings, stream: TextIO | None = None) -> Lines:
    """Have this process, an actor or application of that name, log like that from now on, its libraries too (what is
    no less than a warning)."""
    # Serve puts a logger of its own in the place of its replicas' output, which keeps lines back.
    stream = stream or sys.__stdout__ or sys.stdout
    lines = Lines(process, Repeats(settings.alike, settings.window_s), stream)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, lines],
        wrapper_class=structlog.make_filtering_bound_logger(settings.level),
        # Not `print`, in whose place Serve puts one of its own that writes tuples.
        logger_factory=structlog.WriteLoggerFactory(stream),
        # Whoever has a logger already gets the new way too.
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    meters.watch(lines.samples)
    return lines


def _who(process: str) -> dict[str, str]:
    kind, _, one = process.partition(":")
    return {"actor": process, **({_PARTS[kind]: one} if one and kind in _PARTS else {})}


def _text(said: Line) -> str:
    time_ = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    cut = {name: value[:MOST_CHARACTERS] if isinstance(value, str) else value for name, value in said.items()}
    return msgspec.json.encode({"time": time_, **cut}, enc_hook=repr).decode()
