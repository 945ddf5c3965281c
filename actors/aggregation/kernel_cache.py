"""Compiled kernels that are made of functions from several files."""

from pathlib import Path
from types import ModuleType
from typing import Any


def compile_anew_with(kernels: list[Any], modules: list[ModuleType]) -> None:
    """Let changes of these modules count as changes of the kernels.

    numba looks for changes only in the file a kernel is in, and would go on with the old version of a function that
    it took in from another.
    """
    files = [Path(str(module.__file__)).stat() for module in modules]
    stamp = tuple((file.st_mtime, file.st_size) for file in files)
    for kernel in kernels:
        cache = kernel._cache._cache_file
        cache._source_stamp = (cache._source_stamp, stamp)
