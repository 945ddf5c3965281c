"""Where symbols are: the placement, kept in a file and published, and the moves that a change of it takes. What is half
done when whoever has this dies is gone on with from the file.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
import structlog

from actors import directory
from actors.handover import Bundle
from actors.nodes import Nodes
from actors.placement import MOST_SHARDS, Placement, Series, decoded, encoded, spread
from config import Settings, SettingsError
from storage.file_operations import sync_folder, write_new_file

#: So many symbols move at the same time.
AT_ONCE: Final = 50
#: A move that failed is tried again after this time.
RETRY_S: Final = 1.0
#: An answer that a move waits for takes no longer, or the move is tried again.
STEP_S: Final = 120.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Progress:
    """Of the change of the placement that is under way, or was last: symbols that had to move and have moved, seconds
    that the last ones were held, at most and in the mean, and why the last try failed."""

    shards: int = 0
    symbols: int = 0
    moved: int = 0
    held_most_s: float = 0.0
    held_mean_s: float = 0.0
    error: str = ""


class Places:
    """Of one instance. `start_shard` makes the shard of a number on a node, or finds it, and `end_shard` ends one that
    has no symbols; `collectors` gives the handles of all by exchange, `known` every symbol there is."""

    def __init__(
        self,
        settings: Settings,
        start_shard: Callable[[int, str], Any],
        end_shard: Callable[[int], Awaitable[None]],
        collectors: Callable[[], Mapping[str, Any]],
        known: Callable[[], Awaitable[Iterable[Series]]],
    ) -> None:
        self._settings = settings
        self._path = settings.data / "placement.json"
        self._start_shard = start_shard
        self._end_shard = end_shard
        self._collectors = collectors
        self._known = known
        self._nodes = Nodes(settings)
        self.placement = Placement.first(settings.shards)
        self.shards: dict[int, Any] = {}
        self._held: list[Series] = []
        self._progress = Progress()
        self._task: asyncio.Task[None] | None = None
        #: Held while the placement is another than a moment ago.
        self._changing = asyncio.Lock()

    async def begin(self) -> None:
        """Have a placement, and the shards that it needs. `SettingsError` for a file that is none."""
        disks = await self._nodes.look()
        there = _read(self._path)
        if there is None:
            there = Placement.first(self._settings.shards, [*disks])
        self._decide(there)
        self._start_shards(disks)

    async def go_on(self) -> None:
        """Let collectors go by the placement, and move what is still to move. The setting `shards` counts when it is
        another than the placement was made for."""
        await self._tell_collectors()
        if self.placement.configured != self._settings.shards:
            await self.scale(self._settings.shards, configured=True)
        else:
            self._set_out()

    async def scale(self, count: int, configured: bool = False) -> dict[str, Any]:
        """Have so many shards, evenly over the nodes there are; returns what that takes, while symbols move. See
        `progress`. `SettingsError`."""
        if not 1 <= count <= MOST_SHARDS:
            raise SettingsError(f"there can be 1 to {MOST_SHARDS} shards")
        async with self._changing:
            disks = await self._nodes.look()
            wanted = spread(self.placement, count, [*disks])
            made_for = count if configured else None
            if tuple(wanted) != self.placement.shards or configured:
                self._decide(self.placement.towards(wanted, await self._known(), made_for))
            self._start_shards(disks)
            await self._tell_collectors()
        to_move = sum(map(len, self.placement.to_move.values()))
        self._progress = Progress(shards=count, symbols=to_move)
        self._set_out()
        return self.progress()

    def progress(self) -> dict[str, Any]:
        """See `Progress`; `done` once everything is where it belongs."""
        return {**asdict(self._progress), "done": not self.placement.elsewhere and not self._is_moving}

    def status(self) -> dict[str, Any]:
        """How many symbols are still to move."""
        return {"version": self.placement.version, "to_move": sum(map(len, self.placement.to_move.values()))}

    async def introduce(self, exchange: str) -> None:
        """Tell a collector that is about to start, and that may be another process than it was."""
        collector = self._collectors()[exchange]
        await collector.place.remote(self.shards, self.placement)
        if held := [symbol for name, symbol in self._held if name == exchange]:
            await collector.hold.remote(held)

    async def end(self) -> None:
        """Move nothing any more; nothing is held."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await asyncio.gather(self._tell_collectors(), return_exceptions=True)

    @property
    def _is_moving(self) -> bool:
        return self._task is not None and not self._task.done()

    def _decide(self, placement: Placement) -> None:
        """Once it is in the file it counts."""
        new = self._path.with_suffix(".new")
        write_new_file(new, np.frombuffer(encoded(placement), np.uint8))
        new.replace(self._path)
        sync_folder(self._path.parent)
        self.placement = placement
        directory.publish(placement)

    def _start_shards(self, disks: Mapping[str, str]) -> None:
        for number in self.placement.running:
            if number not in self.shards and (node := disks.get(self.placement.disks[number])) is not None:
                self.shards[number] = self._start_shard(number, node)

    async def _tell_collectors(self) -> None:
        told = [collector.place.remote(self.shards, self.placement) for collector in self._collectors().values()]
        await asyncio.gather(*told, return_exceptions=True)

    def _set_out(self) -> None:
        if not self._is_moving:
            self._task = asyncio.create_task(self._move_all())

    async def _move_all(self) -> None:
        while self.placement.elsewhere:
            try:
                async with self._changing:
                    await self._move_some()
                self._progress.error = ""
            except (TimeoutError, OSError, ray.exceptions.RayError) as error:
                self._progress.error = str(error).strip().rpartition("\n")[2]
                log.warning("symbols cannot be moved now", error=repr(error))
                await asyncio.sleep(RETRY_S)
        async with self._changing:
            for number in sorted(self.shards.keys() - set(self.placement.running)):
                del self.shards[number]
                await self._end_shard(number)
            await self._tell_collectors()

    async def _move_some(self) -> None:
        """Those of one shard that go to the same other one."""
        source, target, symbols = self._next_move()
        began = time.monotonic()
        self._held = symbols
        try:
            await _answer(asyncio.gather(*(collector.hold.remote(own) for collector, own in self._of(symbols))))
            bundle: Bundle = await _answer(self.shards[source].release.remote(symbols))
            try:
                await _answer(self.shards[target].prepare.remote(bundle))
                self._decide(self.placement.moved(symbols))
            except BaseException:
                await _answer(self.shards[source].adopt.remote(bundle, self.placement))
                raise
            # From here on it is the target's; who is restarted finds that by itself.
            await _answer(self.shards[source].place.remote(self.placement))
            await _answer(self.shards[target].adopt.remote(bundle, self.placement))
        finally:
            self._held = []
            await self._tell_collectors()
        took = time.monotonic() - began
        done = self._progress
        done.held_most_s = max(done.held_most_s, round(took, 3))
        done.held_mean_s = round((done.held_mean_s * done.moved + took * len(symbols)) / (done.moved + len(symbols)), 3)
        done.moved += len(symbols)
        await _answer(self.shards[source].forget.remote(symbols, self.placement))

    def _next_move(self) -> tuple[int, int, list[Series]]:
        for (source, target), symbols in self.placement.to_move.items():
            if source in self.shards and target in self.shards:
                return source, target, symbols[:AT_ONCE]
        raise OSError("the node of a shard that symbols move from, or to, is not there")

    def _of(self, symbols: Iterable[Series]) -> list[tuple[Any, list[str]]]:
        """The collectors that have them, each with its own."""
        collectors = self._collectors()
        own: dict[str, list[str]] = {}
        for exchange, symbol in symbols:
            own.setdefault(exchange, []).append(symbol)
        # Of an exchange that is switched off nothing comes.
        return [(collectors[exchange], names) for exchange, names in own.items() if exchange in collectors]


async def _answer(answer: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(answer, STEP_S)


def _read(path: Path) -> Placement | None:
    try:
        return decoded(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SettingsError(f"{path} is no placement of symbols: {error}") from None
