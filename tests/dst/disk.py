"""A disk that remembers what was synced: real files, of which a power cut takes what nobody waited for; that can be
full or read-only; and on which whoever writes can be killed before, in the middle of and after any write.
"""

# It stands in for `os`, which a `Path` would call again.
# ruff: noqa: PTH104, PTH112, PTH116, PTH120, PTH123

import errno
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from unittest.mock import patch

from actors import durability
from storage import column_archive, day_commits, file_operations
from tests.dst.clock import Clock
from tests.dst.process import CURRENT, Killed, Process

#: The kernel's clock for times of files ticks this often.
_TICK_NS: Final = 4_000_000

_REAL: Final = {
    name: getattr(os, name)
    for name in (
        "open", "close", "pwrite", "ftruncate", "truncate", "replace", "unlink", "mkdir", "fsync", "fdatasync", "sync",
        "posix_fallocate",
    )
}  # fmt: skip

When = Literal["before", "torn", "after"]
State = Literal["works", "full", "read-only"]


@dataclass(slots=True)
class _File:
    """What of a file a power cut cannot take: its first `synced` bytes, or `base` where those were changed since.
    `pending` are writes (offset, bytes, ns) and lengths (size, None, ns) since then, in order."""

    path: str
    synced: int
    synced_ns: int
    base: bytes | None = None
    pending: list[tuple[int, bytes | None, int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Name:
    """A change of a name that was not synced: the inode it meant before (0: none). `folder` where it is one."""

    parent: str
    name: str
    before: int = 0
    folder: bool = False
    #: Of a file that took another name: both happen, or neither.
    moved_from: str = ""


@dataclass(slots=True, eq=False)
class Crash:
    """Armed: at the `countdown`-th write from now on (of processes called so and of that name, if any), `happens` is
    called."""

    countdown: int
    when: When
    happens: Callable[[Process], None]
    of: str = ""
    name: str = ""

    def meets(self, process: Process, name: str) -> bool:
        return process.name.startswith(self.of) and self.name in ("", name)


class Disk:
    """Below `root`. Only what runs in a `Process` is watched."""

    def __init__(self, root: Path, clock: Clock, chance: random.Random) -> None:
        self._root = str(root)
        self._graves = f"{root}.graves"
        root.mkdir(parents=True)
        Path(self._graves).mkdir()
        self._clock = clock
        self._chance = chance
        #: By inode.
        self._files: dict[int, _File] = {}
        self._names: list[_Name] = []
        #: By descriptor: path, inode and process.
        self._opened: dict[int, tuple[str, int, Process]] = {}
        self.state: State = "works"
        self.armed: list[Crash] = []
        self.writes = 0
        self.refused = 0
        #: Crashes by the place in the code that wrote.
        self.sites: Counter[str] = Counter()
        self.synced: Callable[[], None] = lambda: None
        self._starts = 1

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as patched:
            for name in _REAL:
                patched.enter_context(patch.object(os, name, getattr(self, name)))
            for module in (file_operations, durability, column_archive):
                patched.enter_context(patch.object(module, "sync_filesystem", lambda _: self.sync()))
            patched.enter_context(patch.object(day_commits, "machine_start", lambda: self._starts.to_bytes(16, "big")))
            yield

    def let_go(self, process: Process) -> None:
        """Close what a process that is gone had open."""
        for descriptor in [one for one, (_, _, owner) in self._opened.items() if owner is process]:
            del self._opened[descriptor]
            _REAL["close"](descriptor)

    # ---- a power cut

    def cut_power(self) -> str:
        """Leave what was synced, and of the rest what chance leaves; call it when everybody is dead. Says what was
        lost."""
        changed = [file for file in self._files.values() if file.pending]
        chance, names = self._chance, self._names
        # How much the system had written by itself.
        whole = chance.choice((0.0, 0.5, 0.9, 1.0))
        torn = sum(self._cut_file(file, whole) for file in changed)
        if chance.random() < whole:
            lost = []
        elif chance.random() < 0.5:
            lost = names[chance.randrange(len(names) + 1) :]
        else:
            # Each folder by itself.
            lost = []
            for folder in dict.fromkeys(one.parent for one in names):
                mine = [one for one in names if one.parent == folder]
                lost += mine[chance.randrange(len(mine) + 1) :]
            lost = [one for one in names if one in lost]
        for change in reversed(lost):
            self._undo(change)
        self._files.clear()
        names.clear()
        self._starts += 1
        return f"of {len(changed)} files {torn} lost writes; {len(lost)} names were lost"

    def _cut_file(self, file: _File, whole: float) -> bool:
        chance, pending = self._chance, file.pending
        kept = len(pending) if chance.random() < whole else chance.randrange(len(pending) + 1)
        with open(file.path, "rb") as there:
            content = bytearray(there.read(file.synced) if file.base is None else file.base)
            changed_ns = file.synced_ns
            for offset, data, at_ns in pending[:kept]:
                _apply(content, offset, data)
                changed_ns = at_ns
            if kept < len(pending):
                offset, data, at_ns = pending[kept]
                if data and chance.random() < 0.5:
                    _apply(content, offset, data[: chance.randrange(len(data) + 1)])
                    changed_ns = at_ns
        if len(content) > file.synced and chance.random() < 0.5:
            hole = chance.randrange(file.synced, len(content))
            size = min(chance.randrange(1, 512), len(content) - hole)
            content[hole : hole + size] = bytes(size)
        # In another file: who is dead may have mapped this one.
        with open(f"{self._graves}/cut", "wb") as cut:
            cut.write(content)
        os.utime(cut.name, ns=(changed_ns, changed_ns))
        _REAL["replace"](cut.name, file.path)
        return kept < len(pending)

    def _undo(self, change: _Name) -> None:
        path = f"{change.parent}/{change.name}"
        if not os.path.isdir(change.parent):
            return  # lost itself
        if change.folder:
            shutil.rmtree(path, ignore_errors=True)
            return
        if os.path.lexists(path):
            if change.moved_from:
                os.rename(path, change.moved_from)
            else:
                _REAL["unlink"](path)
        if change.before:
            os.link(f"{self._graves}/{change.before}", path)
        self._stamp(change.parent)

    # ---- what happens at each write

    def _enter(
        self, path: str, name: str, grows: bool = True, write: tuple[int, Any, int] | None = None
    ) -> Process | None:
        """Who does this, if it is watched; `write` is the descriptor, what is written, and where."""
        process = CURRENT.get()
        if process is None or not path.startswith(self._root):
            return None
        if not process.alive:
            raise Killed
        self.writes += 1
        for crash in tuple(self.armed):
            if crash.meets(process, name):
                crash.countdown -= 1
                if crash.countdown < 0 and crash.when != "after":
                    if crash.when == "torn" and write is not None:
                        descriptor, content, offset = write
                        data = memoryview(content).tobytes()
                        self._write(descriptor, data[: self._chance.randrange(len(data) + 1)], offset)
                    self._crash(crash, process, name)
        if self.state == "read-only" or (self.state == "full" and grows):
            self.refused += 1
            number = errno.ENOSPC if self.state == "full" else errno.EROFS
            if write is not None and self.state == "full" and self._chance.random() < 0.3:
                descriptor, content, offset = write
                data = memoryview(content).tobytes()
                self._write(descriptor, data[: self._chance.randrange(len(data) + 1)], offset)
            raise OSError(number, os.strerror(number))
        return process

    def _leave(self, process: Process | None, name: str) -> None:
        for crash in tuple(self.armed) if process is not None else ():
            if crash.meets(process, name) and crash.countdown < 0:
                self._crash(crash, process, name)

    def _crash(self, crash: Crash, process: Process, name: str) -> None:
        self.armed.remove(crash)
        self.sites[f"{_site()} {name} {crash.when}"] += 1
        # Not as one of those who die of it.
        Context().run(crash.happens, process)
        raise Killed

    def _now(self) -> int:
        return self._clock.now_ns // _TICK_NS * _TICK_NS

    def _stamp(self, path: str | int) -> None:
        now = self._now()
        os.utime(path, ns=(now, now))

    def _file(self, path: str, inode: int) -> _File:
        file = self._files.get(inode)
        if file is None:
            status = os.stat(path)
            file = self._files[inode] = _File(path, status.st_size, status.st_mtime_ns)
        return file

    def _change(self, path: str, inode: int, offset: int, data: bytes | None) -> None:
        """Note a change that is about to be made."""
        file = self._file(path, inode)
        if file.base is None and offset < file.synced:
            with open(file.path, "rb") as there:
                file.base = there.read(file.synced)
        file.pending.append((offset, data, self._now()))

    def _write(self, descriptor: int, data: bytes, offset: int) -> int:
        if (known := self._opened.get(descriptor)) is not None and data:
            path, inode, _ = known
            self._change(path, inode, offset, data)
        written: int = _REAL["pwrite"](descriptor, data, offset)
        if known is not None:
            self._stamp(descriptor)
        return written

    def _bury(self, path: str) -> int:
        """Keep the file of this name although it loses it; its inode, 0 where there is none."""
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            return 0
        grave = f"{self._graves}/{inode}"
        if not os.path.lexists(grave):
            os.link(path, grave)
        if inode in self._files:
            self._files[inode].path = grave
        return inode

    def _named(self, path: str, **change: Any) -> None:
        parent, _, name = path.rpartition("/")
        self._names.append(_Name(parent, name, **change))
        self._stamp(parent)

    # ---- what `os` does

    def open(self, path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        place = os.fspath(path)
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        process, new = CURRENT.get(), False
        watched = process is not None and isinstance(place, str) and place.startswith(self._root)
        if watched and writes:
            new = bool(flags & os.O_CREAT) and not os.path.lexists(place)
            if new or flags & os.O_TRUNC:
                process = self._enter(place, "open")
            elif self.state == "read-only":
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            if flags & os.O_TRUNC and not new:
                self._change(place, os.stat(place).st_ino, 0, None)
        elif watched and process is not None and not process.alive:
            raise Killed
        descriptor: int = _REAL["open"](path, flags, mode, **named)
        if watched and process is not None:
            inode = os.fstat(descriptor).st_ino
            self._opened[descriptor] = (place, inode, process)
            if new:
                self._files[inode] = _File(place, 0, self._now())
                self._stamp(descriptor)
                self._named(place)
            if new or (writes and flags & os.O_TRUNC):
                self._leave(process, "open")
        return descriptor

    def close(self, descriptor: int) -> None:
        process = CURRENT.get()
        if process is not None and not process.alive:
            return  # the system has closed it
        self._opened.pop(descriptor, None)
        _REAL["close"](descriptor)

    def pwrite(self, descriptor: int, content: Any, offset: int, *flags: int) -> int:
        path = self._opened[descriptor][0] if descriptor in self._opened else ""
        process = self._enter(path, "pwrite", write=(descriptor, content, offset))
        if process is None:
            return int(_REAL["pwrite"](descriptor, content, offset))
        written = self._write(descriptor, memoryview(content).tobytes(), offset)
        self._leave(process, "pwrite")
        return written

    def ftruncate(self, descriptor: int, size: int) -> None:
        path, inode, _ = self._opened.get(descriptor, ("", 0, None))
        process = self._enter(path, "ftruncate", grows=False)
        if process is not None:
            self._change(path, inode, size, None)
        _REAL["ftruncate"](descriptor, size)
        if process is not None:
            self._stamp(descriptor)
        self._leave(process, "ftruncate")

    def truncate(self, path: Any, size: int) -> None:
        place = os.fspath(path)
        process = self._enter(place, "truncate", grows=False)
        if process is not None:
            self._change(place, os.stat(place).st_ino, size, None)
        _REAL["truncate"](path, size)
        if process is not None:
            self._stamp(place)
        self._leave(process, "truncate")

    def replace(self, source: Any, target: Any, **named: Any) -> None:
        here, there = os.fspath(source), os.fspath(target)
        process = self._enter(there, "replace", grows=False)
        if process is None:
            _REAL["replace"](source, target, **named)
            return
        inode = os.stat(here).st_ino
        before = self._bury(there)
        _REAL["replace"](source, target)
        if inode in self._files:
            self._files[inode].path = there
        for descriptor, (_, opened, owner) in self._opened.items():
            if opened == inode:
                self._opened[descriptor] = (there, inode, owner)
        self._named(there, before=before, moved_from=here)
        self._leave(process, "replace")

    def unlink(self, path: Any, **named: Any) -> None:
        place = os.fspath(path)
        process = self._enter(place, "unlink", grows=False) if os.path.lexists(place) else None
        before = 0 if process is None else self._bury(place)
        _REAL["unlink"](path, **named)
        if process is not None:
            self._named(place, before=before)
        self._leave(process, "unlink")

    def mkdir(self, path: Any, mode: int = 0o777, **named: Any) -> None:
        place = os.fspath(path)
        possible = os.path.isdir(os.path.dirname(place)) and not os.path.lexists(place)
        process = self._enter(place, "mkdir") if possible else None
        _REAL["mkdir"](path, mode, **named)
        if process is not None:
            self._stamp(place)
            self._named(place, folder=True)
        self._leave(process, "mkdir")

    def fsync(self, descriptor: int) -> None:
        path, inode, _ = self._opened.get(descriptor, ("", 0, None))
        process = self._enter(path, "fsync", grows=False)
        if process is None:
            return
        if os.path.isdir(path):
            self._names = [change for change in self._names if change.parent != path]
        else:
            self._files.pop(inode, None)
        self._leave(process, "fsync")

    def fdatasync(self, descriptor: int) -> None:
        self.fsync(descriptor)

    def sync(self) -> None:
        process = self._enter(self._root, "sync", grows=False)
        self._files.clear()
        self._names.clear()
        self.synced()
        self._leave(process, "sync")

    def posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        path = self._opened[descriptor][0] if descriptor in self._opened else ""
        grows = os.fstat(descriptor).st_size < offset + size
        self._enter(path, "posix_fallocate", grows=grows)
        _REAL["posix_fallocate"](descriptor, offset, size)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if data is not None:
        content[offset : offset + len(data)] = data


def _site() -> str:
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not any(part in file for part in ("/tests/dst/", "/file_operations.py", "/lib/python3", "<frozen")):
            return f"{Path(file).stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "unknown"
