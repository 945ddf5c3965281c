"""What is stored where, and for how long."""

from typing import Annotated, Literal

from pydantic import Field

from config.part import Part, Positive


class ColumnSettings(Part):
    """What becomes of the column files of days that are over; `keep_days` by row type."""

    seal_after_h: Annotated[float, Field(gt=0, le=8760)]
    archive_after_days: Positive | None
    archive: str | None
    keep_days: dict[Literal["TRADES", "MD"], Positive | None]


class SinkSettings(Part):
    max_pending: Positive
    spool_bytes: Annotated[int, Field(ge=2**20)]
    quotes: bool


#: Tables in ClickHouse whose rows may be kept for some days only.
# fmt: off
AgeingTable = Literal[
    "trades", "quotes", "bars", "indicators", "features", "derivatives", "liquidations",
    "gaps", "quality", "arbitrage", "alerts", "audit_log",
]
# fmt: on
Days = Annotated[int, Field(ge=1, le=36500)]


class RedisSettings(Part):
    """What is kept in Redis, see docs/redis.md."""

    #: Put before every key and channel, with a colon.
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,50}$")]
    memory_bytes: Annotated[int, Field(ge=2**24)]
    stream_bytes: Annotated[int, Field(ge=2**16)]
    stream_entries: Positive
    waiting_bytes: Positive

    @property
    def prefix(self) -> str:
        return f"{self.namespace}:" if self.namespace else ""


class BackupSettings(Part):
    """Every day at `hour_utc`, to a folder or URI (None: DATA/backups); so many of the newest days, weeks and months
    are kept."""

    enabled: bool
    hour_utc: Annotated[int, Field(ge=0, le=23)]
    to: str | None = Field(min_length=1, repr=False)
    daily: Positive
    weekly: Annotated[int, Field(ge=0)]
    monthly: Annotated[int, Field(ge=0)]
