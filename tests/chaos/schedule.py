"""What goes wrong in a campaign, and when: a seed gives the same plan every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from actors.simulator.fault_kinds import KINDS, Fault, drawn

#: Exchanges whose books have checksums.
CHECKED: Final = frozenset(("kraken", "okx", "bitfinex"))

#: What is killed without a warning (SIGKILL): `kill_everything` are all collectors and shards.
KILLS: Final = ("kill_collector", "kill_shard", "kill_everything")
#: The same for all processes of an instance, which is started again.
KILL_TREE: Final = "kill_tree"
#: The same for the sinks of an instance on Ray.
SINK_KILLS: Final = ("kill_database", "kill_redis")
#: REST of all exchanges at once.
REST_AWAY: Final = "outage_rest"
#: What does not answer for a while.
OUTAGES: Final = ("outage_redis", "outage_clickhouse", REST_AWAY)


@dataclass(frozen=True, slots=True)
class Kill:
    """`kind` is one of `KILLS`, `SINK_KILLS` or `KILL_TREE`; `shard` counts from 0."""

    kind: str
    shard: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.shard}" if self.kind == "kill_shard" else self.kind


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is one of `OUTAGES`."""

    kind: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} seconds={self.seconds:g}"


@dataclass(frozen=True, slots=True)
class Planned:
    """`at` seconds after the beginning; a kill or an outage of more than one exchange has none."""

    at: float
    exchange: str
    what: Fault | Kill | Outage

    @property
    def kind(self) -> str:
        return self.what.kind

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.exchange or '-':9} {self.what}"


def plan(
    seed: int,
    faults: int,
    seconds: float,
    symbols: Mapping[str, Sequence[str]],
    shards: int,
    others: Sequence[str] = KILLS,
    longest_s: float = 10.0,
    outage_s: float = 10.0,
    kinds_of_exchanges: Sequence[str] = tuple(KINDS),
) -> list[Planned]:
    """So many faults within `seconds`, in the order of time: every kind as often as the others (and of `others`: kills
    and outages, those that are named twice twice as often), at every exchange of `symbols` as often as at the others
    where it can be. No fault lasts longer than `longest_s`, and outages last `outage_s`."""
    random = Random(seed)
    kinds = _dealt(random, [*kinds_of_exchanges, *others], faults)
    exchanges = _dealt(random, sorted(symbols), faults)
    checked = _dealt(random, sorted(CHECKED & symbols.keys()), faults)
    planned = []
    for number in range(faults):
        kind, exchange = kinds[number], exchanges[number]
        # Spread evenly, and never in step.
        at = round((number + random.random()) * seconds / faults, 3)
        if kind in (*KILLS, *SINK_KILLS, KILL_TREE):
            owner = exchange if kind == "kill_collector" else ""
            planned.append(Planned(at, owner, Kill(kind, random.randrange(shards) if kind == "kill_shard" else 0)))
        elif kind in OUTAGES:
            planned.append(Planned(at, "", Outage(kind, outage_s)))
        else:
            if kind == "checksum" and checked:
                exchange = checked[number]
            fault = drawn(random, symbols[exchange], [kind], longest_s)
            planned.append(Planned(at, exchange, fault))
    return sorted(planned, key=lambda one: one.at)


def _dealt(random: Random, cards: Sequence[str], count: int) -> list[str]:
    """So many cards from packs that are mixed one by one."""
    dealt: list[str] = []
    while cards and len(dealt) < count:
        dealt += random.sample(cards, len(cards))
    return dealt[:count]
