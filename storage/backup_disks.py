"""A backup of an instance whose symbols are on the disks of several hosts: what each disk has to give, and how another
host's files come in pieces. What belongs to another disk, as it has just moved there, is left to that one; so a file
is in a backup once.
"""

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final, NamedTuple, Protocol

from storage.backup_manifest import BackupError, File, Files
from storage.backup_sources import Begun, Group, Source, column_sources, copied, folder_source, key_of
from storage.column_layout import folder_name

#: What other disks have, but columns: logs of ledgers come before what they speak of, archived days after it.
FIRST: Final = ("ledger", "quality", "bars")
LAST: Final = "archive"
#: Called by the number of a shard, and so maybe the same on several disks.
_BY_SHARD: Final = frozenset(("ledger", "quality"))
_BY_SYMBOL: Final = frozenset(("columns", "archive", "bars"))
#: One answer has about so many bytes, and no more folders than these.
_ANSWER_BYTES: Final = 8 << 20
_ANSWER_FOLDERS: Final = 4096
#: Copies that are under way at once, and how long one may wait to be gone on with.
_MOST_COPIES: Final = 32
_OPEN_S: Final = 900.0

#: Exchange and symbol.
Named = tuple[str, str]
#: Those, as their folders are called, whose files on a disk belong to another one.
Foreign = frozenset[Named]


class SymbolsMoved(BackupError):
    """What was copied is not all of one time: some of it may be missing or there twice."""


class Elsewhere(Protocol):
    """The disk of another host. Everything may raise BackupError once its host does not answer any more."""

    disk: str
    host: str

    def symbols(self) -> list[Named]:
        """All that have column files."""
        ...

    def sections(self) -> list[str]:
        """A name for each symbol that has column files."""
        ...

    def copied(self, section: str, foreign: Foreign, before: Sequence[Files]) -> Iterator[Begun | bytes]:
        """See `storage.backup_sources.copied`."""
        ...


@dataclass(slots=True)
class Disks:
    """All of an instance. `owner` says which disk has a symbol, `mine` being this one, and `version` is not `began` any
    more once one of them may have another. `lacks` says, a line each, whose data is not in the backup."""

    mine: str = ""
    others: Sequence[Elsewhere] = ()
    owner: Callable[[Named], str] = lambda _: ""
    version: Callable[[], int] = lambda: 0
    began: int = 0
    lacks: list[str] = field(default_factory=list)

    def foreign(self, here: Callable[[], Collection[Named]]) -> Mapping[str, Foreign]:
        """By disk; `here` gives the symbols that have column files on this one."""
        if not self.others:
            return {self.mine: frozenset()}
        known = set(here()).union(*(other.symbols() for other in self.others))
        disks = [self.mine, *(other.disk for other in self.others)]
        return {
            disk: frozenset((folder_name(one[0]), folder_name(one[1])) for one in known if self.owner(one) != disk)
            for disk in disks
        }


def is_foreign(folder: str, name: str, foreign: Foreign) -> bool:
    """Whether a file belongs to a symbol of another disk."""
    parts = (*PurePath(folder).parts, name)
    if not foreign or len(parts) < 3 or parts[0] not in _BY_SYMBOL:
        return False
    return (parts[1], parts[2].removesuffix(".arrow") if parts[0] == "bars" else parts[2]) in foreign


def section_name(section: str, disk: str) -> str:
    """What a section of another disk is called; a symbol's is the same wherever it is."""
    return section if section.startswith("columns/") else f"{section} of {disk}"


#: Closed when it is let go of, with all its files.
_Stream = Generator[Begun | bytes]


class _Copy(NamedTuple):
    stream: _Stream
    turn: int
    asked: float


class Copies:
    """What is being copied from this disk to a backup that is made elsewhere: begun once, then asked for piece by
    piece. One that nobody goes on with is let go of."""

    def __init__(self, data: Path, disk: str) -> None:
        self._data = data
        self._disk = disk
        self._numbers = itertools.count(time.time_ns())
        self._open: OrderedDict[int, _Copy] = OrderedDict()

    def sections(self) -> list[str]:
        """See `Elsewhere`."""
        return [source.name for source in column_sources(self._data)]

    def begin(self, section: str, foreign: Foreign, before: Sequence[Files]) -> int:
        """The number of the copy."""
        number = next(self._numbers)
        self._open[number] = _Copy(self._stream(section, foreign, before), 0, time.monotonic())
        while len(self._open) > _MOST_COPIES or time.monotonic() - next(iter(self._open.values())).asked > _OPEN_S:
            with suppress(ValueError):  # a thread reads it: who asks is told then
                self._open.popitem(last=False)[1].stream.close()
        return number

    def more(self, number: int, turn: int) -> list[Begun | bytes]:
        """What comes next, nothing behind the last. `turn` counts up from 0. LookupError when it was let go of, or was
        asked for this already."""
        copy = self._open.get(number)
        if copy is None or copy.turn != turn:
            raise LookupError("the copy was let go of")
        self._open[number] = _Copy(copy.stream, turn + 1, time.monotonic())
        self._open.move_to_end(number)
        answer: list[Begun | bytes] = []
        size = 0
        for one in copy.stream:
            answer.append(one)
            size += 0 if isinstance(one, Begun) else len(one)
            if size >= _ANSWER_BYTES or len(answer) >= _ANSWER_FOLDERS:
                return answer
        if not answer:
            del self._open[number]
        return answer

    def _stream(self, section: str, foreign: Foreign, before: Sequence[Files]) -> _Stream:
        source = self._source(section)
        if source is None:
            raise LookupError(f"there is no section {section}")
        known = {key_of(one.folder, one.files): one for one in before}
        by_shard = section in _BY_SHARD
        for one in copied(own_groups(source, foreign), known if not by_shard else {}):
            if isinstance(one, Begun):
                yield Begun(one.folder, [self._renamed(file) for file in one.files], one.same) if by_shard else one
            else:
                yield bytes(one)

    def _source(self, section: str) -> Source | None:
        if section in (*FIRST, LAST):
            return folder_source(self._data, section)
        return next((source for source in column_sources(self._data) if source.name == section), None)

    def _renamed(self, file: File) -> File:
        path = PurePath(file.name)
        return File(f"{path.stem}.{self._disk[:12]}{path.suffix}", file.size, file.changed_ns, file.inode)


def own_groups(source: Source, foreign: Foreign) -> Iterator[Group]:
    """Those that do not belong to another disk."""
    return (one for one in source.groups() if not (one.names and is_foreign(one.folder, one.names[0], foreign)))
