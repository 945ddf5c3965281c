"""Reads captures: files of one JSON object a line that hold what an exchange sent, over WebSocket and REST.

Each line has `t_ns` (when it was received or sent, int64 ns UTC), `conn` (which connection), `kind` (`open`,
`send`, `recv` or `rest`), `url` and `data` (the exact text). The exchange is recognised by the host of the URLs.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from actors.feeds import FEEDS
from actors.simulator.binance import BinanceSession
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.session import Session, UnknownTarget

#: The exchanges that can be played.
SESSIONS: Final[dict[str, type[Session]]] = {"binance": BinanceSession, "coinbase": CoinbaseSession}

_HOSTS: Final = {host: name for name, feed in FEEDS.items() if name in SESSIONS for host in feed.hosts}


class CaptureError(ValueError):
    """A capture that cannot be read or a folder without one; the message is one line for the user."""


@dataclass(slots=True)
class CapturedConnection:
    """The frames of one WebSocket connection in the order they came; `times` (ns) has the same length."""

    times: list[int] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Capture:
    """One file, without the lines of hosts nobody knows; `exchange` is None where there are no others. `rest`
    holds the first body of each path and query (`/path?query`). `symbols` are those the recorded client had
    subscribed to."""

    path: Path
    exchange: str | None
    symbols: tuple[str, ...]
    connections: dict[str, CapturedConnection]
    rest: dict[str, bytes]
    first_t_ns: int | None


@dataclass(frozen=True, slots=True)
class Recording:
    """All captures of one exchange, merged by time; each connection keeps its own order.

    `times` (int64 ns, one per frame) is what was recorded and may step back where a connection's clock did.
    """

    exchange: str
    symbols: tuple[str, ...]
    times: NDArray[np.int64]
    frames: list[bytes]
    rest: dict[str, bytes]


class _Line(msgspec.Struct, gc=False):
    t_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    conn: str
    kind: Literal["open", "send", "recv", "rest"]
    url: str
    data: str | None


_decode_line: Final = msgspec.json.Decoder(_Line).decode


def read_captures(folder: Path) -> list[Capture]:
    """The captures (`*.jsonl`) of a folder by name; `CaptureError` when there is nothing in it to play."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".jsonl" and path.is_file())
    except OSError as error:
        raise CaptureError(f"the captures in {folder} cannot be read: {error.strerror}") from None
    if not paths:
        raise CaptureError(f"{folder} holds no capture: expected files named *.jsonl")
    captures = [read_capture(path) for path in paths]
    if not any(map(_has_frames, captures)):
        names = ", ".join(path.name for path in paths)
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
    return [_merged(exchange, own) for exchange, own in sorted(by_exchange.items()) if any(map(_has_frames, own))]


def _has_frames(capture: Capture) -> bool:
    return any(one.frames for one in capture.connections.values())


def _merged(exchange: str, captures: Sequence[Capture]) -> Recording:
    connections = [one for capture in captures for one in capture.connections.values()]
    in_order = heapq.merge(*(zip(one.times, one.frames, strict=True) for one in connections), key=itemgetter(0))
    times, frames = zip(*in_order, strict=True)
    rest: dict[str, bytes] = {}
    for capture in sorted(captures, key=lambda capture: capture.first_t_ns or 0):
        rest = capture.rest | rest
    symbols = tuple(dict.fromkeys(symbol for capture in captures for symbol in capture.symbols))
    return Recording(exchange, symbols, np.array(times, np.int64), list(frames), rest)


def _capture(path: Path, lines: Iterable[bytes]) -> Capture:
    exchange: str | None = None
    connections: dict[str, CapturedConnection] = {}
    rest: dict[str, bytes] = {}
    targets: dict[str, str] = {}
    sent: list[tuple[str, str]] = []
    first_t_ns: int | None = None
    for number, line, url in _lines(path, lines):
        first_t_ns = line.t_ns if first_t_ns is None else min(first_t_ns, line.t_ns)
        host_exchange = _HOSTS.get(url.hostname or "")
        if host_exchange is None:
            continue
        if exchange not in (None, host_exchange):
            raise CaptureError(f"{path} line {number}: {host_exchange} in a capture of {exchange}")
        exchange = host_exchange
        target = url._replace(scheme="", netloc="").geturl()
        if line.kind == "rest":
            rest.setdefault(target, (line.data or "").encode())
            continue
        targets.setdefault(line.conn, target)
        connection = connections.setdefault(line.conn, CapturedConnection())
        if line.kind == "recv":
            connection.times.append(line.t_ns)
            connection.frames.append((line.data or "").encode())
        elif line.kind == "send":
            sent.append((line.conn, line.data or ""))
    symbols = tuple(_symbols(SESSIONS[exchange], targets, sent)) if exchange else ()
    return Capture(path, exchange, symbols, connections, rest, first_t_ns)


def _lines(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, _Line, SplitResult]]:
    for number, text in enumerate(lines, 1):
        if text.isspace():
            continue
        try:
            text.decode()
            line = _decode_line(text)
            if line.kind != "open" and line.data is None:
                raise msgspec.ValidationError(f"`data` is null in a line of kind {line.kind}")
            url = urlsplit(line.url)
        except UnicodeDecodeError as error:
            raise CaptureError(f"{path} line {number}: not UTF-8 at byte {error.start + 1}") from None
        except msgspec.ValidationError as error:
            raise CaptureError(f"{path} line {number}: {error}") from None
        except msgspec.DecodeError as error:
            raise CaptureError(f"{path} line {number}: not JSON ({error})") from None
        except ValueError as error:
            raise CaptureError(f"{path} line {number}: `url` is not a URL ({error})") from None
        yield number, line, url


def _symbols(session_of: type[Session], targets: dict[str, str], sent: Iterable[tuple[str, str]]) -> dict[str, None]:
    """Every symbol the recorded client was subscribed to at some time."""
    sessions: dict[str, Session] = {}
    symbols: dict[str, None] = {}
    for name, target in targets.items():
        try:
            sessions[name] = session_of(target)
        except UnknownTarget:
            continue
        symbols |= dict.fromkeys(sorted(sessions[name].symbols))
    for name, message in sent:
        if name in sessions:
            sessions[name].receive(message)
            symbols |= dict.fromkeys(sorted(sessions[name].symbols))
    return symbols
