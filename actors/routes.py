"""To which shard the rows of a symbol go: what a collector goes by, until the supervisor tells it another placement."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.placement import Placement


class Routes:
    """Of `exchange`'s symbols to `shards`, handles by the shard's number, as `placement` says; of a sequence of shards
    each has its place as number, and symbols are spread over all."""

    def __init__(
        self, exchange: str, shards: Mapping[int, Any] | Sequence[Any], placement: Placement | None = None
    ) -> None:
        self._exchange = exchange
        self.shards: dict[int, Any] = {}
        self.lead(
            shards if isinstance(shards, Mapping) else dict(enumerate(shards)),
            placement or Placement.first(len(shards)),
        )

    def lead(self, shards: Mapping[int, Any], placement: Placement) -> None:
        """Go by this placement from now on."""
        self.shards = dict(shards)
        self.placement = placement
        #: The shard that has everything, if one has; not every shard need be there yet.
        self.only = placement.running[0] if len(placement.running) == 1 else None
        self._known: dict[str, int] = {}

    def number(self, symbol: str) -> int:
        """The shard of a symbol."""
        if (shard := self._known.get(symbol)) is None:
            shard = self._known[symbol] = self.placement.shard_of(self._exchange, symbol)
        return shard

    def shard(self, symbol: str) -> Any:
        """Its handle."""
        return self.shards[self.number(symbol)]
