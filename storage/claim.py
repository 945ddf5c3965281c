"""Who may write: a process claims a name in a folder, or symbols one by one, so that two of them never write to the
same files. By which placement a symbol was handed over last is written down, so that who comes back from a long absence
finds that another one has it.
"""

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Final

import numpy as np

from storage.column_layout import folder_name
from storage.file_operations import sync_folder, write_new_file

#: A process that was killed a moment ago may need so long until it is gone.
PATIENCE_S: Final = 10.0
_LOOK_S: Final = 0.05
#: struct flock: kind, whence, start, length, pid.
_FLOCK: Final = Struct("@hhqqi4x")


class FolderInUse(RuntimeError):
    """Another process writes there. One line that names it."""


class Outdated(RuntimeError):
    """The symbol was handed over to somebody else since."""


class Claim:
    """`name` in `folder`, for this process until it ends, or `release`. `FolderInUse` when another one has it, and
    still does after `patience_s`; OSError."""

    def __init__(self, folder: Path, name: str, patience_s: float = PATIENCE_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # Locks of processes, not of descriptors: who was made anew in the same process goes on.
        self._descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait(lambda: _locked(self._descriptor), patience_s, folder, self._descriptor)
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        os.close(self._descriptor)


class SymbolClaims:
    """The symbols that this process writes, claimed in `folder` until it ends, or `leave`. One per process and folder:
    to close it lets go of all. Each symbol is a byte of one file, as a descriptor for each would be too many."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._descriptor = os.open(folder / "symbols", os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, exchange: str, symbol: str, version: int, patience_s: float = PATIENCE_S) -> None:
        """For who goes by a placement of this version. `FolderInUse`, `Outdated`; OSError."""
        place = _place(exchange, symbol)
        _wait(lambda: _locked(self._descriptor, place), patience_s, self._folder, self._descriptor, place)
        if (since := self.handed_over(exchange, symbol)) > version:
            self.leave(exchange, symbol)
            raise Outdated(f"{exchange} {symbol} was handed over by placement {since}; this is {version}")

    def leave(self, exchange: str, symbol: str) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _place(exchange, symbol))

    def hand_over(self, exchange: str, symbol: str, version: int) -> None:
        """Whoever goes by an older placement does not get it any more, also after a power cut. OSError."""
        path = self._path(exchange, symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        write_new_file(new, np.frombuffer(b"%d" % version, np.uint8))
        new.replace(path)
        sync_folder(path.parent)

    def handed_over(self, exchange: str, symbol: str) -> int:
        """The version of the placement by which that was done last; 0 where it never was."""
        with suppress(FileNotFoundError, ValueError):
            return int(self._path(exchange, symbol).read_bytes())
        return 0

    def close(self) -> None:
        os.close(self._descriptor)

    def _path(self, exchange: str, symbol: str) -> Path:
        return self._folder / folder_name(exchange) / f"{folder_name(symbol)}.version"


def _wait(locked: Callable[[], bool], patience_s: float, folder: Path, descriptor: int, place: int = 0) -> None:
    until = time.monotonic() + patience_s
    while not locked():
        if time.monotonic() >= until:
            holder = _holder(descriptor, place)
            raise FolderInUse(f"{folder.parent} is written to by another process ({holder}); end that one first")
        time.sleep(_LOOK_S)


def _locked(descriptor: int, place: int = 0) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(descriptor: int, place: int) -> str:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
    pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[4]
    return f"pid {pid}"


def _place(exchange: str, symbol: str) -> int:
    # Two symbols with one place, of a million million million, would be one shard's alone.
    name = f"{folder_name(exchange)}/{folder_name(symbol)}".encode()
    return int.from_bytes(blake2b(name, digest_size=7).digest())
