"""What a seed chooses: how much is traded where and when, and what goes wrong."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tests.dst.disk import When
from tests.dst.network import Weather

Kind = Literal[
    "kill shard", "kill collector", "kill database", "kill all", "power cut",
    "shard dies at a write", "database dies at a write", "collector dies at a write", "power cut at a write",
    "connection cut", "exchange silent", "exchange refuses", "REST away",
    "disk full", "disk read-only", "ClickHouse away", "ClickHouse mumbles", "calls doubled", "shard restarted",
]  # fmt: skip

_KINDS: Final[dict[Kind, int]] = {
    "kill shard": 3, "kill collector": 2, "kill database": 2, "kill all": 1, "power cut": 3,
    "shard dies at a write": 6, "database dies at a write": 2, "collector dies at a write": 1,
    "power cut at a write": 5, "connection cut": 2, "exchange silent": 1, "exchange refuses": 1, "REST away": 2,
    "disk full": 3, "disk read-only": 1, "ClickHouse away": 3, "ClickHouse mumbles": 1, "calls doubled": 2,
    "shard restarted": 1,
}  # fmt: skip

#: Some are rare, and worth a crash of their own.
_WRITES: Final = ("", "", "", "", "replace", "replace", "fsync", "unlink", "ftruncate")

_SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
#: 2024-03-01 12:00:00 UTC, and the next midnight.
_NOON_NS: Final = 1_709_294_400_000_000_000
_MIDNIGHT_NS: Final = _NOON_NS + 43_200_000_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """`after` writes (of that name, if any) from then on, `when` at that write."""

    at_s: float
    kind: Kind
    lasts_s: float
    shard: int
    after: int
    when: When
    name: str

    def __str__(self) -> str:
        at_write = f", {self.when} {self.name or 'write'} {self.after}" if self.kind.endswith("at a write") else ""
        lasts = (
            f" for {self.lasts_s:.1f} s" if self.kind.startswith(("exchange", "REST", "disk", "Click", "calls")) else ""
        )
        return f"{self.kind}{lasts}{at_write}"


@dataclass(frozen=True, slots=True)
class Plan:
    """`load_s` seconds with so many `trades`; all files are flushed every `flush_s`, logs made short every
    `compact_s`."""

    seed: int
    symbols: tuple[str, ...]
    shards: int
    begin_ns: int
    load_s: float
    trades: int
    weather: Weather
    flush_s: float
    compact_s: float
    recent_bars: int
    faults: tuple[Fault, ...]


def plan(seed: int, only: Sequence[tuple[Kind, str]] = ()) -> Plan:
    """`only` these faults, and writes of that name, where there are any: for what is rare."""
    chance = random.Random(seed)
    load_s = chance.uniform(1.0, 3.6)
    begin_ns = _NOON_NS
    if chance.random() < 0.35:
        begin_ns = _MIDNIGHT_NS - int(chance.uniform(0, load_s) * 1e9)
    weather = Weather()
    if chance.random() < 0.7:
        for name in ("lost", "doubled", "overtaken", "rest_lost"):
            if chance.random() < 0.6:
                setattr(weather, name, chance.choice((0.02, 0.06, 0.2)))
    kinds = chance.choices(list(_KINDS), list(_KINDS.values()), k=chance.choice((1, 2, 2, 3, 3, 4)))
    shards = chance.choice((1, 1, 2))
    faults = []
    for number, kind in enumerate(kinds):
        name = chance.choice(_WRITES)
        if only:
            kind, name = only[number % len(only)]
        # Merges are rare, and each has ten of them.
        at_s = chance.uniform(0.0, load_s * (0.3 if name == "replace" else 1.0))
        fault = Fault(
            at_s,
            kind,
            chance.uniform(0.5, 3.0),
            chance.randrange(shards),
            int(chance.expovariate(1 / 8 if name else 1 / 30)),
            chance.choice(("before", "torn", "after")),
            name,
        )
        faults.append(fault)
        if kind == "ClickHouse away" and chance.random() < 0.5:
            # What waits is then on the disk alone.
            faults.append(replace(fault, kind="kill database", at_s=at_s + fault.lasts_s * chance.random()))
    return Plan(
        seed,
        _SYMBOLS[: chance.choice((1, 1, 1, 2, 2, 3))],
        shards,
        begin_ns,
        load_s,
        int(chance.uniform(3, 12)),
        weather,
        chance.uniform(0.6, 3.5),
        chance.choice((0.8, 0.8, 600.0)),
        chance.choice((8, 60)),
        tuple(sorted(faults, key=lambda fault: fault.at_s)),
    )
