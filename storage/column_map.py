"""Files as arrays where they lie, for readers: maps that reach beyond the end of a file that grows.

Python's own mmap keeps a descriptor open for each map and refuses to reach beyond the end of the file.
"""

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from storage.column_layout import Column

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


class _Map:
    """Undone when the last array over it goes."""

    def __init__(self, descriptor: int, dtype: np.dtype[Any], rows: int) -> None:
        self._size = rows * dtype.itemsize
        self._address = _libc.mmap(None, self._size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if self._address == ctypes.c_void_p(-1).value:
            self._address = None
            raise OSError(ctypes.get_errno(), f"a column file cannot be mapped: {os.strerror(ctypes.get_errno())}")
        self.__array_interface__ = {
            "version": 3,
            "data": (self._address, True),
            "shape": (rows,),
            "typestr": dtype.str,
        }

    def __del__(self, munmap: Callable[[int, int], int] = _libc.munmap) -> None:
        if self._address is not None:
            munmap(self._address, self._size)


def mapped_column(descriptor: int, dtype: np.dtype[Any], rows: int) -> Column:
    """The first `rows` values of a file, read-only; of those beyond its end none may be touched. OSError."""
    return np.asarray(_Map(descriptor, dtype, rows))


def in_memory(values: Column) -> bool:
    """Whether nobody who reads these values (contiguous ones) waits for a disk."""
    address: int = values.ctypes.data
    begin = address - address % mmap.PAGESIZE
    size = address + values.nbytes - begin
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    # Only the lowest bit of each says anything.
    return _libc.mincore(begin, size, pages) == 0 and bool((np.frombuffer(pages, np.uint8) & 1).all())
