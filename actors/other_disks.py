"""What of the disks of an instance's other hosts goes into a backup that is made on this one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import ray

from actors import directory
from actors.placed_disks import called, names_of_others, others_in, placed
from actors.placement import Placement
from config import Settings
from config.node_folder import disk_of
from storage.backup_disks import Disks, Foreign, Named
from storage.backup_manifest import BackupError, Files
from storage.backup_sources import Begun

#: Who reads a disk says within this that it is there, and gives a piece within the other.
LOOK_S: Final = 10.0
PIECE_S: Final = 120.0

_AWAY: Final = (TimeoutError, ValueError, ray.exceptions.RayError)


def find_reader(disk: str) -> Any:
    """Who reads it; ValueError."""
    return directory.find_actor(directory.node_name(disk))


async def disks_to_back_up(settings: Settings, reader: Callable[[str], Any] = find_reader) -> Disks:
    """All disks as they are now; those that do not answer are lacking."""
    placement, mine = placed(settings), disk_of(settings.data)
    if placement is None:
        return Disks()
    now = placement
    found = Disks(
        mine,
        owner=lambda name: now.disk_of(*name) or mine,
        version=lambda: _version(placed(settings), mine),
        began=_version(placement, mine),
    )
    others, loop = [], asyncio.get_running_loop()
    for disk in others_in(placement, mine):
        try:
            handle = await asyncio.to_thread(reader, disk)
            symbols = await asyncio.wait_for(handle.symbols.remote(), LOOK_S)
        except _AWAY:
            found.lacks.append(f"{called(disk)} does not answer")
            continue
        others.append(_Elsewhere(disk, handle, loop))
        if disk in placement.away and any(symbols.values()):
            found.lacks.append(f"{called(disk)} was lost, and what it has goes to the others now")
    found.others = others
    return found


def lacking(settings: Settings) -> Disks:
    """The same where nobody can be asked."""
    why = "cannot be asked while nothing runs"
    return Disks(lacks=[f"{called(disk)} {why}" for disk in names_of_others(settings)])


class _Elsewhere:
    """See `storage.backup_disks.Elsewhere`; asked by threads, while the loop goes on."""

    def __init__(self, disk: str, reader: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.disk = disk
        self.host = called(disk)
        self._reader = reader
        self._loop = loop

    def symbols(self) -> list[Named]:
        stored: dict[str, list[str]] = self._ask("symbols")
        return [(exchange, symbol) for exchange, symbols in stored.items() for symbol in symbols]

    def sections(self) -> list[str]:
        found: list[str] = self._ask("sections_to_copy")
        return found

    def copied(self, section: str, foreign: Foreign, before: Sequence[Files]) -> Iterator[Begun | bytes]:
        number, turn = self._ask("begin_copy", section, foreign, before), 0
        while True:
            answer: list[Begun | bytes] = self._ask("go_on_copying", number, turn)
            if not answer:
                return
            yield from answer
            turn += 1

    def _ask(self, method: str, *arguments: Any) -> Any:
        answer = _answered(getattr(self._reader, method).remote, arguments)
        try:
            return asyncio.run_coroutine_threadsafe(answer, self._loop).result()
        except LookupError:
            raise BackupError(f"{self.host} was started again meanwhile; try again, it goes on from there") from None
        except _AWAY:
            raise BackupError(f"{self.host} does not answer any more; try again, it goes on from there") from None


async def _answered(ask: Callable[..., Awaitable[Any]], arguments: Sequence[Any]) -> Any:
    try:
        return await asyncio.wait_for(ask(*arguments), PIECE_S)
    except ray.exceptions.RayTaskError as error:
        # What was said there, without the trace.
        raise error.cause from None


def _version(placement: Placement | None, mine: str) -> int:
    """On one disk alone nothing goes from disk to disk, whichever shard has it."""
    return placement.version if placement is not None and others_in(placement, mine) else 0
