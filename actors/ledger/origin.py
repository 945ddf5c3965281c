"""Where a batch comes from: which run of a collector, its place in that run, and what proves that trades follow."""

from dataclasses import dataclass

from actors.feeds.feed import Proof


@dataclass(frozen=True, slots=True)
class Origin:
    #: ns when this collector process began to deliver; a new one every time.
    epoch: int
    #: Of this shard's batches in that epoch, from 0 without holes.
    sequence: int
    proof: Proof
    #: The version of the placement that the collector goes by.
    placement: int = 0
