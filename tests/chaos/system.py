"""What a campaign has to know of those who collect, and what it does to them."""

from pathlib import Path
from typing import Any, Final, Protocol

from storage.ledger_log import Gap
from tests.chaos.schedule import Kill, Outage

SHARDS: Final = 2
#: Settings of the collectors: who is refused, delisted or silent for seconds is asked again within seconds. Of halted
#: exchanges every book is stale some time.
COLLECTOR: Final = {"list_interval_s": 3.0, "list_retry_s": 1.0, "stale_s": 8.0}


class System(Protocol):
    """All that collects from the exchanges."""

    #: Root of the column files.
    columns: Path
    #: Kills and outages that are possible here.
    harms: tuple[str, ...]

    async def kill(self, what: Kill, exchange: str) -> bool:
        """Without a warning; what died has been started again. False where nothing was there to be killed."""

    async def outage(self, what: Outage) -> bool:
        """Returns when it is over; False where nothing was there."""

    async def gaps(self) -> list[Gap]:
        """Open and closed."""

    async def integrity(self) -> list[dict[str, Any]]:
        """A row per symbol with `exchange`, `symbol`, `first_id`."""

    async def ill(self) -> dict[str, str]:
        """By exchange why not all is well there: a symbol is not subscribed, a book not synced, or a gap open that can
        be repaired."""

    async def on_its_way(self) -> str:
        """What the exchanges said and is not stored yet; "" when it is."""

    async def behind(self) -> list[str]:
        """What a database has other than the files."""

    async def looked_twice(self, seconds: float) -> bool:
        """Whether all trades that want a second look got one within the last `seconds`: where only that tells what was
        lost."""

    async def depths(self, exchange: str) -> list[dict[str, Any]]:
        """`symbol`, `state`, `bids` and `asks` (as `storage.schema.DEPTH`) of every book."""

    def memory(self) -> dict[str, int]:
        """Bytes, by what uses them."""
