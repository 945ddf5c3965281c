"""Who may write: a process claims its part of a folder, so that two of them never write to the same files."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

#: A process that was killed a moment ago may need so long until it is gone.
PATIENCE_S: Final = 10.0
_LOOK_S: Final = 0.05


class FolderInUse(RuntimeError):
    """Another process writes there. One line that names it."""


class Claim:
    """Part `index` of `parts` of `folder`, for this process until it ends, or `release`. `FolderInUse` when another one
    has it, or any part of another partition, and still does after `patience_s`; OSError."""

    def __init__(self, folder: Path, index: int, parts: int, patience_s: float = PATIENCE_S) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / f"{index}-of-{parts}"
        # Locks of processes, not of descriptors: who was made anew in the same process goes on.
        self._descriptor = os.open(own, os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + patience_s
        while (holder := self._holder(folder, own, parts)) is not None:
            if time.monotonic() >= until:
                os.close(self._descriptor)
                raise FolderInUse(f"{folder.parent} is written to by another process ({holder}); end that one first")
            time.sleep(_LOOK_S)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"pid {os.getpid()}".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)

    def _holder(self, folder: Path, own: Path, parts: int) -> str | None:
        """Who is in the way."""
        if not _locked(self._descriptor):
            return _said(own)
        for path in folder.iterdir():
            if path.name.endswith(f"-of-{parts}"):
                continue
            with path.open("r+b") as file:
                if not _locked(file.fileno()):
                    return _said(path)
                fcntl.lockf(file, fcntl.LOCK_UN)
        return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _said(path: Path) -> str:
    with suppress(OSError):
        return path.read_text() or path.name
    return path.name
