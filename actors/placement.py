"""Where each symbol belongs: to one of the shards, and each shard to a disk. Nobody computes that alone: all go by one
placement, which has a version that only grows.

A symbol's home is the shard that weighs most for it (rendezvous hashing): another shard takes an even share of the
symbols from all others, and one that goes leaves its own to all others; no other symbol moves.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec.structs import replace

#: Exchange and symbol.
Series = tuple[str, str]

#: As many shards as there may be in all: a shard's number says nothing more.
MOST_SHARDS: Final = 256


class Placement(msgspec.Struct, frozen=True):
    """`shards` are those that symbols belong to, ascending; `disks` says where each shard is that there is, "" for the
    one disk of an instance that has no others. `configured` is the setting `shards` they were made for."""

    version: int
    configured: int
    shards: tuple[int, ...]
    disks: dict[int, str]
    #: By exchange and symbol, the shard of those that have not moved home yet.
    elsewhere: dict[str, dict[str, int]] = {}
    #: Disks that were lost with what they have, until that has come home.
    away: tuple[str, ...] = ()

    @classmethod
    def first(cls, shards: int, disks: Sequence[str] = ("",)) -> "Placement":
        """Of an instance that has stored nothing, evenly over these disks."""
        numbers = tuple(range(shards))
        return cls(1, shards, numbers, {number: disks[number % len(disks)] for number in numbers})

    def shard_of(self, exchange: str, symbol: str) -> int:
        """The shard that has a symbol now."""
        if self.elsewhere and (shard := self.elsewhere.get(exchange, {}).get(symbol)) is not None:
            return shard
        return home(exchange, symbol, self.shards)

    def disk_of(self, exchange: str, symbol: str) -> str:
        """Where its files are."""
        return self.disks[self.shard_of(exchange, symbol)]

    @property
    def running(self) -> tuple[int, ...]:
        """The shards that have symbols or get some."""
        return tuple(sorted({*self.shards, *(shard for own in self.elsewhere.values() for shard in own.values())}))

    @property
    def to_move(self) -> dict[tuple[int, int], list[Series]]:
        """Symbols that are to move, by the shard that has them and the one they go to."""
        found: dict[tuple[int, int], list[Series]] = {}
        for exchange, own in sorted(self.elsewhere.items()):
            for symbol, shard in sorted(own.items()):
                found.setdefault((shard, home(exchange, symbol, self.shards)), []).append((exchange, symbol))
        return found

    def towards(self, shards: Mapping[int, str], known: Iterable[Series], configured: int | None = None) -> "Placement":
        """Symbols are to belong to these shards, on these disks; `known` are all that are stored or collected, which
        stay where they are until they have `moved`."""
        numbers = tuple(sorted(shards))
        staying: dict[str, dict[str, int]] = {}
        for exchange, symbol in known:
            now = self.shard_of(exchange, symbol)
            if now != home(exchange, symbol, numbers):
                staying.setdefault(exchange, {})[symbol] = now
        changed = replace(
            self,
            version=self.version + 1,
            configured=self.configured if configured is None else configured,
            shards=numbers,
            elsewhere=staying,
        )
        return replace(changed, disks={number: {**self.disks, **shards}[number] for number in changed.running})

    def without(self, lost: Iterable[int]) -> "Placement":
        """These shards are gone, with their disks: their symbols are at home with the others at once, without what was
        stored of them. ValueError when no other is left."""
        gone = set(lost)
        left = tuple(shard for shard in self.shards if shard not in gone)
        if not left:
            raise ValueError("no shard is left")
        staying: dict[str, dict[str, int]] = {}
        for exchange, own in self.elsewhere.items():
            for symbol, shard in own.items():
                if shard not in gone and shard != home(exchange, symbol, left):
                    staying.setdefault(exchange, {})[symbol] = shard
        away = tuple(sorted({*self.away, *(self.disks[shard] for shard in gone if shard in self.disks)}))
        changed = replace(self, version=self.version + 1, shards=left, elsewhere=staying, away=away)
        return replace(changed, disks={number: self.disks[number] for number in changed.running})

    def without_away(self, disk: str) -> "Placement":
        """What a lost disk has is with others now, or given up."""
        return replace(self, version=self.version + 1, away=tuple(one for one in self.away if one != disk))

    def moved(self, symbols: Iterable[Series]) -> "Placement":
        """These are at home now."""
        left = {exchange: dict(own) for exchange, own in self.elsewhere.items()}
        for exchange, symbol in symbols:
            left.get(exchange, {}).pop(symbol, None)
        changed = replace(self, version=self.version + 1, elsewhere={name: own for name, own in left.items() if own})
        return replace(changed, disks={number: self.disks[number] for number in changed.running})


def home(exchange: str, symbol: str, shards: tuple[int, ...]) -> int:
    """The shard, of these, that a symbol belongs to; the same in every process."""
    return shards[0] if len(shards) == 1 else _heaviest(exchange, symbol, shards)


def shard_of(exchange: str, symbol: str, shards: int) -> int:
    """The same of so many shards from 0 on."""
    return home(exchange, symbol, tuple(range(shards)))


def spread(now: Placement, count: int, disks: Sequence[str]) -> dict[int, str]:
    """The disk of each of `count` shards: evenly over these disks, and of those there are as many stay as can. A shard
    whose disk is not among these goes first."""
    if not 1 <= count <= MOST_SHARDS or not disks:
        raise ValueError(f"there can be 1 to {MOST_SHARDS} shards, and they need a disk")
    mine = {disk: [shard for shard in now.shards if now.disks[shard] == disk] for disk in disks}
    fullest = sorted(disks, key=lambda disk: -len(mine[disk]))
    quota = {disk: count // len(disks) + (place < count % len(disks)) for place, disk in enumerate(fullest)}
    kept = {shard: disk for disk in disks for shard in mine[disk][: quota[disk]]}
    for disk, wanted in quota.items():
        # One that is about to end has its symbols still; another disk's may have files there.
        again = [shard for shard, its in now.disks.items() if its == disk and shard not in kept]
        free = (number for number in range(2 * MOST_SHARDS) if number not in now.disks and number not in kept)
        for number in [*again, *islice(free, wanted)][: wanted - min(wanted, len(mine[disk]))]:
            kept[number] = disk
    return dict(sorted(kept.items()))


def decoded(content: bytes) -> Placement:
    """ValueError for what is no placement."""
    return msgspec.json.decode(content, type=Placement)


def encoded(placement: Placement) -> bytes:
    return msgspec.json.encode(placement)


@lru_cache(maxsize=65_536)
def _heaviest(exchange: str, symbol: str, shards: tuple[int, ...]) -> int:
    own = hashlib.blake2b(f"{exchange}:{symbol}".encode(), digest_size=16)

    def weight(shard: int) -> bytes:
        mixed: Any = own.copy()
        mixed.update(b"|%d" % shard)
        digest: bytes = mixed.digest()
        return digest

    return max(shards, key=weight)
