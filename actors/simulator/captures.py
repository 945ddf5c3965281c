"""Reads recordings: captures (files of one JSON object a line) and journals, which hold what exchanges sent.

Each line of a capture has `t_ns` (when it was received or sent, int64 ns UTC), `conn` (which connection), `kind`
(`open`, `send`, `recv` or `rest`), `url` and `data` (the exact text). The exchange is recognised by the host of the
URLs. A journal says the same (`storage.journal`), and names the exchange.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from actors.feeds.registry import FEEDS
from actors.simulator.session import UnknownTarget
from actors.simulator.sessions import SESSIONS, session_at
from storage.journal import SUFFIX, JournalError, journal_files, read_journal

_HOSTS: Final = {host: name for name, feed in FEEDS.items() if name in SESSIONS for host in feed.hosts}


class CaptureError(ValueError):
    """A recording that cannot be read or a folder without one; the message is one line for the user."""


@dataclass(slots=True)
class CapturedConnection:
    """One WebSocket connection to `target` (path and query): the frames in the order they came, `times` (ns, same
    length), and what the client sent."""

    target: str
    times: list[int] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Capture:
    """One file, or all journals of an exchange, without the lines of hosts nobody knows; `exchange` is None where
    there are no others. `rest` holds the bodies of each path and query (`/path?query`) with their times (ns).

    A name that is opened again is another connection.
    """

    path: Path
    exchange: str | None = None
    connections: list[CapturedConnection] = field(default_factory=list)
    rest: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    _open: dict[str, CapturedConnection] = field(default_factory=dict)

    def add(self, t_ns: int, connection: str, kind: str, target: str, data: bytes) -> None:
        """Take the next event."""
        if kind == "rest":
            self.rest.setdefault(target, []).append((t_ns, data))
            return
        if kind == "open" or connection not in self._open:
            self._open[connection] = CapturedConnection(target)
            self.connections.append(self._open[connection])
        if kind == "recv":
            self._open[connection].times.append(t_ns)
            self._open[connection].frames.append(data)
        elif kind == "send":
            self._open[connection].sent.append(data)

    def playable(self) -> list[CapturedConnection]:
        """The connections that hold frames of a protocol we speak."""
        return [one for one in self.connections if one.frames and self._is_spoken(one.target)]

    def symbols(self) -> dict[str, None]:
        """Every symbol the recorded client asked for at some time."""
        symbols: dict[str, None] = {}
        for connection in self.connections:
            if self.exchange is None or not self._is_spoken(connection.target):
                continue
            session = session_at(self.exchange, connection.target)(connection.target)
            symbols |= dict.fromkeys(sorted(session.symbols))
            for message in connection.sent:
                session.receive(message)
                symbols |= dict.fromkeys(sorted(session.symbols))
        return symbols

    def _is_spoken(self, target: str) -> bool:
        try:
            return self.exchange is not None and bool(session_at(self.exchange, target)(target))
        except UnknownTarget:
            return False


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything of one exchange that can be played; `rest` holds the bodies of each path and query by time (ns).

    `endpoint` is the path an endpoint setting needs for the protocol of the newest connection.
    """

    exchange: str
    symbols: tuple[str, ...]
    connections: Sequence[CapturedConnection]
    rest: dict[str, list[tuple[int, bytes]]]
    endpoint: str = ""

    @property
    def span(self) -> tuple[int, int]:
        """Time (ns) of the first and of the last frame."""
        times = [t_ns for one in self.connections for t_ns in one.times]
        return min(times), max(times)


class _Line(msgspec.Struct, gc=False):
    t_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    conn: str
    kind: Literal["open", "send", "recv", "rest"]
    url: str
    data: str | None


_decode_line: Final = msgspec.json.Decoder(_Line).decode


def read_captures(folder: Path) -> list[Capture]:
    """The captures (`*.jsonl`) of a folder by name, and its journals by exchange; `CaptureError` when there is nothing
    in it to play."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.is_file())
        journals = journal_files(folder)
    except OSError as error:
        raise CaptureError(f"the captures in {folder} cannot be read: {error.strerror}") from None
    except JournalError as error:
        raise CaptureError(str(error)) from None
    if not paths and not journals:
        raise CaptureError(f"{folder} holds no capture: expected files named *.jsonl or *{SUFFIX}")
    captures = [*map(read_capture, paths), *read_journals(journals)]
    if not any(capture.playable() for capture in captures):
        names = ", ".join(path.name for path in (*paths, *journals)[:10])
        raise CaptureError(f"{folder} holds no frames of {' or '.join(sorted(SESSIONS))} (looked in {names})")
    return captures


def read_capture(path: Path) -> Capture:
    """Read one file; `CaptureError` names the file and the line that cannot be read."""
    try:
        with path.open("rb") as file:
            return _capture(path, file)
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror}") from None


def recordings(captures: Iterable[Capture]) -> list[Recording]:
    """What there is to play, one recording per exchange, by name."""
    by_exchange: dict[str, list[Capture]] = {}
    for capture in captures:
        if capture.exchange is not None:
            by_exchange.setdefault(capture.exchange, []).append(capture)
    playable = [(exchange, own) for exchange, own in sorted(by_exchange.items()) if any(one.playable() for one in own)]
    return [_recording(exchange, own) for exchange, own in playable]


def _recording(exchange: str, captures: Sequence[Capture]) -> Recording:
    connections = [one for capture in captures for one in capture.playable()]
    bodies = {target: [capture.rest.get(target, []) for capture in captures] for one in captures for target in one.rest}
    rest = {target: list(heapq.merge(*lists, key=itemgetter(0))) for target, lists in bodies.items()}
    symbols = tuple(dict.fromkeys(symbol for capture in captures for symbol in capture.symbols()))
    newest = max(connections, key=lambda one: one.times[0])
    endpoint = session_at(exchange, newest.target).endpoint(newest.target)
    return Recording(exchange, symbols, connections, rest, endpoint)


def _capture(path: Path, lines: Iterable[bytes]) -> Capture:
    capture = Capture(path)
    for number, line in _lines(path, lines):
        try:
            host, target = _address(line.url)
        except ValueError as error:
            raise CaptureError(f"{path} line {number}: `url` is not a URL ({error})") from None
        exchange = _HOSTS.get(host)
        if exchange is None:
            continue
        if capture.exchange not in (None, exchange):
            raise CaptureError(f"{path} line {number}: {exchange} in a capture of {capture.exchange}")
        capture.exchange = exchange
        capture.add(line.t_ns, line.conn, line.kind, target, (line.data or "").encode())
    return capture


def _lines(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, _Line]]:
    for number, text in enumerate(lines, 1):
        if text.isspace():
            continue
        try:
            text.decode()
            line = _decode_line(text)
            if line.kind != "open" and line.data is None:
                raise msgspec.ValidationError(f"`data` is null in a line of kind {line.kind}")
        except UnicodeDecodeError as error:
            raise CaptureError(f"{path} line {number}: not UTF-8 at byte {error.start + 1}") from None
        except msgspec.ValidationError as error:
            raise CaptureError(f"{path} line {number}: {error}") from None
        except msgspec.DecodeError as error:
            raise CaptureError(f"{path} line {number}: not JSON ({error})") from None
        yield number, line


def read_journals(paths: Sequence[Path]) -> list[Capture]:
    """A connection may go on from one segment to the next, so all of an exchange are read together."""
    captures: dict[str, Capture] = {}
    for path in paths:
        try:
            for event in read_journal(path):
                known = event.exchange if event.exchange in SESSIONS else None
                capture = captures.setdefault(event.exchange, Capture(path, known))
                capture.add(event.t_ns, event.connection, event.kind, _address(event.url)[1], event.data)
        except JournalError as error:
            raise CaptureError(str(error)) from None
        except ValueError as error:
            raise CaptureError(f"{path}: an event's url is not a URL ({error})") from None
    return list(captures.values())


@lru_cache(maxsize=1024)
def _address(url: str) -> tuple[str, str]:
    """Host, and path with query; ValueError for what is no URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts._replace(scheme="", netloc="").geturl()
