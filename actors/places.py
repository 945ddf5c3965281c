"""Where symbols are: the placement, kept in a file and published, and the moves that a change of it takes. What is half
done when whoever has this dies is gone on with from the file.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import ray
import structlog

from actors import directory
from actors.handover import Bundle, merged
from actors.nodes import Nodes
from actors.placed_disks import file_of, placed
from actors.placement import MOST_SHARDS, Placement, Series, encoded, spread
from config import Settings, SettingsError
from storage.file_operations import sync_folder, write_new_file

#: So many symbols move at the same time.
AT_ONCE: Final = 50
#: A move that failed is tried again after this time.
RETRY_S: Final = 1.0
#: Nodes are looked for this often.
LOOK_S: Final = 2.0
#: Readers find within this that rows are on another disk; until then they have those that were left behind.
LEFT_S: Final = 5.0
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
    """Of one instance. `start_shard` makes the shard of a number on a node, or finds it, `start_node` who reads a disk
    there (`DataNode`), and `end` ends an actor by its name; `collectors` gives the handles of all by exchange, `known`
    every symbol there is."""

    def __init__(
        self,
        settings: Settings,
        start_shard: Callable[[int, str], Any],
        start_node: Callable[[str, str], Any],
        end: Callable[[str], Awaitable[None]],
        collectors: Callable[[], Mapping[str, Any]],
        known: Callable[[], Awaitable[Iterable[Series]]],
    ) -> None:
        self._settings = settings
        self._path = file_of(settings)
        self._start_shard = start_shard
        self._start_node = start_node
        self._end = end
        self._collectors = collectors
        self._known = known
        self._lost_after_s = settings.placement.lost_after_s
        self._nodes = Nodes(settings)
        self.placement = Placement.first(settings.shards)
        self.shards: dict[int, Any] = {}
        #: The node of each.
        self._on: dict[int, str] = {}
        #: Who reads each disk, where there are several, and on which node; and since when one is not there.
        self._readers: dict[str, Any] = {}
        self._reading_on: dict[str, str] = {}
        self._missing: dict[str, float] = {}
        self._watch: asyncio.Task[None] | None = None
        self._held: list[Series] = []
        #: Files of symbols that have moved, by the disk and who reads it.
        self._left: list[tuple[str, Any, Series]] = []
        self._progress = Progress()
        self._task: asyncio.Task[None] | None = None
        #: Held while the placement is another than a moment ago.
        self._changing = asyncio.Lock()

    def node_of(self, number: int) -> str | None:
        """Where the collector of the exchange of that number is to be, which is where shards are: they share what
        comes evenly, collectors follow. None while that node is not there."""
        shards = self.placement.shards
        node = self._on.get(shards[number % len(shards)])
        return node if node in self._nodes.there else None

    async def begin(self) -> None:
        """Have a placement, and the shards that it needs. `SettingsError` for a file that is none."""
        disks = await self._nodes.look()
        there = placed(self._settings)
        if there is None:
            there = Placement.first(self._settings.shards, [*disks])
        self._decide(there)
        await self._start_actors(disks)

    async def go_on(self) -> None:
        """Let collectors go by the placement, and move what is still to move. The setting `shards` counts when it is
        another than the placement was made for."""
        await self._tell_collectors()
        if self.placement.configured != self._settings.shards:
            await self.scale(self._settings.shards, configured=True)
        else:
            self._set_out()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_forever())

    async def scale(self, count: int, configured: bool = False, without: Iterable[str] = ()) -> dict[str, Any]:
        """Have so many shards, evenly over the nodes there are but those `without` (addresses of hosts, or nodes as Ray
        names them); returns what that takes, while symbols move. See `progress`. `SettingsError`."""
        if not 1 <= count <= MOST_SHARDS:
            raise SettingsError(f"there can be 1 to {MOST_SHARDS} shards")
        async with self._changing:
            disks = await self._nodes.look()
            wanted = spread(self.placement, count, self._spared(disks, without))
            made_for = count if configured else None
            if tuple(wanted) != self.placement.shards or configured:
                try:
                    known = await self._known()
                except ray.exceptions.RayError:
                    raise SettingsError("a shard does not say which symbols it has; ask again in a moment") from None
                self._decide(self.placement.towards(wanted, known, made_for))
            await self._start_actors(disks)
            await self._tell_collectors()
        to_move = sum(map(len, self.placement.to_move.values()))
        self._progress = Progress(shards=count, symbols=to_move)
        self._set_out()
        return self.progress()

    def _spared(self, disks: Iterable[str], without: Iterable[str]) -> list[str]:
        left = list(disks)
        for host in without:
            if given_up := [disk for disk in self.placement.away if len(host) >= 8 and disk.startswith(host)]:
                self._decide(self.placement.without_away(given_up[0]))
                continue
            if not (its := self._nodes.disks_of(host)):
                raise SettingsError(f"no host {host} is in the cluster: rayfeed status names them")
            left = [disk for disk in left if disk not in its]
        if not left:
            raise SettingsError("no host is left that could have the symbols")
        return left

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
        tasks = [task for task in (self._watch, self._task) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
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

    async def _start_actors(self, disks: Mapping[str, str]) -> bool:
        """Those that do not run yet, or whose node is another than it was; whether there were any shards among them."""
        before = dict(self._on)
        if len(disks) > 1:
            for disk, node in disks.items():
                if disk not in self._readers:
                    self._readers[disk] = self._start_node(disk, node)
                    self._reading_on[disk] = node
        for number in self.placement.running:
            there = disks.get(self.placement.disks[number])
            if there is None or self._on.get(number) == there:
                continue
            if number in self.shards:
                # The node has come back as another one.
                await self._end(directory.shard_name(number))
            self.shards[number] = self._start_shard(number, there)
            self._on[number] = there
        return self._on != before

    async def _tell_collectors(self) -> None:
        told = [collector.place.remote(self.shards, self.placement) for collector in self._collectors().values()]
        await asyncio.gather(*told, return_exceptions=True)

    def _set_out(self) -> None:
        if not self._is_moving:
            self._task = asyncio.create_task(self._move_all())

    async def _move_all(self) -> None:
        while True:
            while self.placement.elsewhere:
                try:
                    async with self._changing:
                        await self._move_some()
                    self._progress.error = ""
                except Exception as error:  # noqa: BLE001 - it is tried again, and who waits for it is told why
                    self._progress.error = (str(error) or repr(error)).strip().rpartition("\n")[2]
                    log.warning("symbols cannot be moved now", error=repr(error))
                    await asyncio.sleep(RETRY_S)
            if self._left:
                await asyncio.sleep(LEFT_S)
                await self._clear()
                continue
            async with self._changing:
                if self.placement.elsewhere:
                    continue
                for number in sorted(self.shards.keys() - set(self.placement.running)):
                    del self.shards[number]
                    self._on.pop(number, None)
                    await self._end(directory.shard_name(number))
                await self._tell_collectors()
                return

    async def _clear(self) -> None:
        """Take away what was left behind; what cannot be now is brought home later, of which nothing is left then."""
        left, self._left = self._left, []
        async with self._changing:
            gone = [reader.remove.remote(*one) for disk, reader, one in left if self.placement.disk_of(*one) != disk]
            try:
                await _answer(asyncio.gather(*gone))
            except (TimeoutError, OSError, ray.exceptions.RayError) as error:
                log.warning("files of symbols that have moved are left behind", error=repr(error))

    async def _move_some(self) -> None:
        """Those of one shard that go to the same other one."""
        source, target, symbols = self._next_move()
        # A new one takes seconds to start, which nobody need wait for.
        await _answer(self.shards[target].status.remote())
        there, here = (self.placement.disks[shard] for shard in (source, target))
        travels = self._readers[there] if there != here else None
        if travels is not None:
            # Most of it while everything goes on.
            for _ in range(2):
                await _answer(self.shards[target].fetch.remote(symbols, travels, False))
        began = time.monotonic()
        self._held = symbols
        try:
            await _answer(asyncio.gather(*(collector.hold.remote(own) for collector, own in self._of(symbols))))
            bundle: Bundle = await _answer(self.shards[source].release.remote(symbols))
            try:
                if travels is not None:
                    await _answer(self.shards[target].fetch.remote(symbols, travels, True))
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
        if travels is not None:
            self._left += [(there, travels, one) for one in symbols]

    async def _watch_forever(self) -> None:
        """Notice nodes that come and go."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - there is a next look, and nobody else would notice a lost node
                log.error("the nodes cannot be looked at now", error=repr(error))

    async def _look(self) -> None:
        disks = await self._nodes.look()
        now = time.monotonic()
        for disk in [disk for disk in self._readers if disks.get(disk) != self._reading_on[disk]]:
            # One that comes back has another reader, also where its node has come back as another one meanwhile.
            del self._readers[disk]
            await self._end(directory.node_name(disk))
        if await self._start_actors(disks):
            await self._tell_collectors()
        gone = set(self.placement.disks.values()) - disks.keys()
        self._missing = {disk: self._missing.get(disk, now) for disk in gone}
        lost = {disk for disk, since in self._missing.items() if now - since >= self._lost_after_s}
        if lost:
            async with self._changing:
                await self._lose(lost)
        elif not self._is_moving:
            for disk, reader in self._readers.items():
                await self._bring_home(disk, reader)

    async def _lose(self, disks: set[str]) -> None:
        """Let other shards have the symbols of these disks."""
        numbers = [number for number, disk in self.placement.disks.items() if disk in disks]
        try:
            placement = self.placement.without(numbers)
        except ValueError:
            return  # there is no other shard: wait
        log.error("a node is lost, others have its symbols from now on", shards=numbers)
        self._decide(placement)
        for number in numbers:
            self._on.pop(number, None)
            if self.shards.pop(number, None) is not None:
                await self._end(directory.shard_name(number))
        await self._tell_collectors()
        self._set_out()

    async def _bring_home(self, disk: str, reader: Any) -> None:
        """What a disk has of symbols that another one has now, as it was away or something was cut short, goes to the
        shards that have them, and in among what they have."""
        stored: dict[str, list[str]] = await _answer(reader.symbols.remote())
        left = [
            (exchange, symbol)
            for exchange, symbols in stored.items()
            for symbol in symbols
            if self.placement.disk_of(exchange, symbol) != disk
        ]
        if not left and disk in self.placement.away:
            async with self._changing:
                self._decide(self.placement.without_away(disk))
        for one in left:
            async with self._changing:
                owner = self.shards.get(self.placement.shard_of(*one))
                if owner is None or self.placement.disk_of(*one) == disk or self.placement.elsewhere:
                    return
                await self._merge(one, reader, owner)

    async def _merge(self, one: Series, reader: Any, owner: Any) -> None:
        await _answer(reader.recover.remote(*one))
        await _answer(owner.fetch.remote([one], reader, True))
        records = await _answer(reader.ledger.remote([one]))
        self._held = [one]
        try:
            await _answer(asyncio.gather(*(collector.hold.remote(own) for collector, own in self._of([one]))))
            bundle: Bundle = await _answer(owner.release.remote([one]))
            try:
                await _answer(owner.prepare.remote(Bundle([one], merged(records, bundle.records))))
            finally:
                await _answer(owner.adopt.remote(bundle, self.placement))
        finally:
            self._held = []
            await self._tell_collectors()
        await _answer(reader.remove.remote(*one))
        log.info("what another disk had of a symbol is where it belongs", exchange=one[0], symbol=one[1])

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
