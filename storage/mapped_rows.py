"""Rows of a fixed size that live in a file and are written as memory is: nothing has to be saved, and a killed process
leaves them as they were at that moment. A power cut leaves each part of the file as the system last wrote it.
"""

import mmap
import os
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

Rows = np.ndarray[Any, np.dtype[Any]]

#: The file begins with so many bytes that say what its rows are.
_HEADER: Final = 64


class MappedRows:
    """The rows of dtype `kind` in the file `path`, at least `count`; further ones are zeros. One process writes them. A
    file of other rows begins anew. OSError when the disk fails or is full: its blocks are taken before they are written
    to, as a write to memory could not fail."""

    def __init__(self, path: Path, kind: "np.dtype[Any]", count: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._kind = kind
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        there = _count(self._descriptor, kind)
        if there is None:
            os.ftruncate(self._descriptor, 0)
        self.rows = self.grow(max(count, there or 0))
        if there is None:
            os.pwrite(self._descriptor, _header(kind), 0)

    def grow(self, count: int) -> Rows:
        """At least `count` rows, the first ones as they are; to be used instead of those there were."""
        size = _HEADER + count * self._kind.itemsize
        os.posix_fallocate(self._descriptor, 0, size)
        # What was mapped before is let go with the last array of it.
        self.rows = np.frombuffer(mmap.mmap(self._descriptor, size), self._kind, count, _HEADER)
        return self.rows

    def close(self) -> None:
        """Make them survive a power cut, and let go of the file."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def read_rows(path: Path, kind: "np.dtype[Any]") -> Rows:
    """A copy of somebody else's rows; none where the file has other ones. OSError when it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        count = _count(descriptor, kind) or 0
        return np.frombuffer(bytearray(os.pread(descriptor, count * kind.itemsize, _HEADER)), kind)
    finally:
        os.close(descriptor)


def _count(descriptor: int, kind: "np.dtype[Any]") -> int | None:
    """How many rows a file has; None when they are none of this kind."""
    if os.pread(descriptor, _HEADER, 0) != _header(kind):
        return None
    return (os.fstat(descriptor).st_size - _HEADER) // kind.itemsize


def _header(kind: "np.dtype[Any]") -> bytes:
    return f"rows {zlib.crc32(repr(kind).encode()):08x} {kind.itemsize}".encode().ljust(_HEADER)
