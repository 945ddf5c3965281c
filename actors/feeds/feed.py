"""What every feed is: a pure translation between one exchange's frames and Arrow batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class RejectedFrame:
    """A frame (or one event of it) that could not be used, and why."""

    frame: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a list of frames said. Rows keep the order of the frames."""

    #: Live trades, `storage.schema.TRADES`.
    trades: pa.RecordBatch
    #: Best bid/ask, `storage.schema.QUOTES`.
    quotes: pa.RecordBatch
    #: Trades from before the subscription, `storage.schema.TRADES`: evidence for gaps, in no file and no bar.
    history: pa.RecordBatch
    #: Symbols the exchange confirmed, and what it refused, in its own words.
    subscribed: frozenset[str]
    errors: tuple[str, ...]
    rejected: tuple[RejectedFrame, ...]
    #: Frames that are understood and carry nothing we store (heartbeats, acknowledgements, other channels).
    ignored: int


class Feed(Protocol):
    """One exchange's wire protocol for a set of symbols. Holds no socket and reads no clock."""

    exchange: ClassVar[str]
    #: Host names this exchange has used, to recognise its recordings.
    hosts: ClassVar[frozenset[str]]

    def __init__(self, symbols: Sequence[str]) -> None: ...

    def url(self, endpoint: str) -> str:
        """The address to connect to; `endpoint` is scheme, host and port from the settings."""

    def subscribe(self) -> list[str]:
        """The messages to send after connecting; empty where the address subscribes."""

    def decode(self, frames: Sequence[bytes], ts_recv: np.ndarray[Any, np.dtype[np.int64]]) -> Decoded:
        """Translate frames received at `ts_recv` (int64 ns, same length).

        Never raises for what a frame holds: what cannot be used is in `rejected` with the reason.
        """
