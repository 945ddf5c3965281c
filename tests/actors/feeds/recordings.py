"""The recordings, read plainly: nothing of the project is used, so a feed can be compared with this reading.

    recording = read_recording("kraken")                 # skips the test where the file is absent
    book = recording.connections["ws-50"]                # one WebSocket connection, as a feed sees it
    book.frames, book.ts_recv, book.messages, book.sent, book.url
    recording.rest["/0/public/AssetPairs"]               # answers (bytes) by path and query

`connection` is a recording's only connection. A fixture named `<exchange>_recording` gives each exchange's.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest

FOLDER = Path(os.environ.get("RAYFEED_RECORDINGS") or Path(__file__).parents[4] / "shared" / "recordings")


@dataclass(frozen=True)
class RecordedConnection:
    """What one connection received, `messages` being the frames as `json.loads` reads them, and sent."""

    url: str
    frames: list[bytes]
    ts_recv: npt.NDArray[np.int64]
    messages: list[Any]
    sent: list[str]


@dataclass(frozen=True)
class Recording:
    connections: dict[str, RecordedConnection]
    rest: dict[str, bytes]

    @property
    def connection(self) -> RecordedConnection:
        (only,) = self.connections.values()
        return only


@cache
def read_recording(exchange: str) -> Recording:
    path = FOLDER / f"{exchange}.jsonl"
    if not path.is_file():
        pytest.skip(f"no recording {path}: set RAYFEED_RECORDINGS to the folder that holds it")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    rest: dict[str, bytes] = {}
    of_connection: dict[str, list[Any]] = {}
    for line in lines:
        if line["kind"] == "rest":
            target = urlsplit(line["url"])._replace(scheme="", netloc="").geturl()
            rest.setdefault(target, line["data"].encode())
        else:
            of_connection.setdefault(line["conn"], []).append(line)
    return Recording({name: _connection(own) for name, own in of_connection.items()}, rest)


def _connection(lines: list[Any]) -> RecordedConnection:
    received = [line for line in lines if line["kind"] == "recv"]
    return RecordedConnection(
        url=lines[0]["url"],
        frames=[line["data"].encode() for line in received],
        ts_recv=np.array([line["t_ns"] for line in received], np.int64),
        messages=[json.loads(line["data"]) for line in received],
        sent=[line["data"] for line in lines if line["kind"] == "send"],
    )
