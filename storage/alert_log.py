"""What must not be forgotten about alerts: what they are, how far each has looked, what fired and who was told.

One log (`storage.record_log`) in a folder that only its owner can read, because addresses of webhooks are secrets.
Whoever reads it from the beginning knows the state: the last record of an alert counts, what fired waits for its
channels until an attempt says that one was told or given up.
"""

from pathlib import Path
from typing import Final, Literal

import msgspec

from storage.record_log import RecordLog

#: Where an event lies in its series: its time (ns) and, of trades, its id.
Place = tuple[int, int]


class Targets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the channels of an alert lead. Never shown in a log or a message: the addresses are secrets."""

    email: str | None = None
    webhook_url: str | None = None
    slack_webhook_url: str | None = None

    def __repr__(self) -> str:
        return "Targets(...)"


class Alert(msgspec.Struct, kw_only=True, tag="alert"):
    """What a user wants to be told, and how far that is. Times are ns since the epoch, UTC; those of events are
    event times. `timeframe` is null for prices, `threshold` where the condition has none."""

    alert_id: str
    exchange: str
    symbol: str
    timeframe: str | None
    condition: str
    threshold: float | None
    channels: tuple[str, ...]
    metadata: Targets
    cooldown_seconds: int
    one_time: bool
    note: str
    created_at: int
    is_active: bool = True
    last_triggered_at: int | None = None
    trigger_count: int = 0
    #: Whether the condition held at the last event; null before the first.
    holds: bool | None = None
    #: The last event it has looked at; none before or at it is looked at again.
    seen: Place = (0, 0)
    #: It fires no more before this event time.
    quiet_until: int = 0


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """What those are told that an alert is for. `value` is what was compared with the threshold, `price` that of the
    trade or the close of the bar, `ts_event` the time of the trade or of the end of the bar."""

    alert_id: str
    exchange: str
    symbol: str
    timeframe: str | None
    condition: str
    threshold: float | None
    value: float
    price: float | None
    ts_event: int
    fired_at: int
    message: str
    note: str

    @property
    def delivery_id(self) -> str:
        """The same however often it is sent: who has it already may drop it."""
        return f"{self.alert_id}:{self.ts_event}"


class Fired(msgspec.Struct, frozen=True, tag="fired"):
    """An alert right after it fired, and what it says; `channels` are to be told."""

    alert: Alert
    firing: Firing
    channels: tuple[str, ...]


class Waiting(msgspec.Struct, tag="waiting"):
    """Of something that fired: the channels that are not told yet, and how often each was tried."""

    firing: Firing
    left: dict[str, int]


class Attempt(msgspec.Struct, frozen=True, kw_only=True, tag="attempt"):
    """One try to tell one channel. `code` is what the receiver answered (HTTP, SMTP), `next_at` when it is tried again;
    times are ns of the wall clock."""

    delivery_id: str
    alert_id: str
    channel: str
    attempt: int
    status: Literal["delivered", "retrying", "failed"]
    code: int | None
    error: str
    began: int
    ended: int
    next_at: int | None = None


class Removed(msgspec.Struct, frozen=True, tag="removed"):
    alert_id: str


Record = Alert | Fired | Waiting | Attempt | Removed

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Record).decode


class AlertLog(RecordLog[Record]):
    """The log of an instance in `folder`; one process writes it. OSError when the disk fails."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(folder / "alerts.log", _encode, _decoded)


def _decoded(content: bytes) -> Record | None:
    try:
        record: Record = _decode(content)
    except msgspec.DecodeError:
        return None
    return record
