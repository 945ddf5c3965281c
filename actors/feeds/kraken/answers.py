"""What both versions of Kraken's protocol say besides rows, and what they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from actors.feeds.columns import NO_CHECKSUM
from actors.feeds.feed import Channel, Refusal

#: What Kraken calls our channels, in the order they are subscribed.
CHANNELS: Final[dict[str, Channel]] = {"trade": "trades", "ticker": "quotes", "book": "book"}

#: Levels of a book on each side, of 10, 25, 100, 500 and 1000: what falls out of it is never removed by a message.
DEPTH: Final = 1000


#: A CRC-32, which is unsigned here; a signed one would be the same bits.
Checksum = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**32)]


def unsigned(checksum: int | None) -> int:
    return NO_CHECKSUM if checksum is None else checksum & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """That a channel of a symbol is on now, or off."""

    channel: str
    symbol: str
    on: bool


@dataclass(slots=True)
class Answers:
    """In the order they came; `ignored` counts the frames that say nothing of this."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    #: States of the trading engine: online, maintenance, cancel_only, post_only.
    system: list[str] = field(default_factory=list)
    ignored: int = 0

    def refuse(self, symbols: Sequence[str], reason: str) -> None:
        """An empty name is none."""
        self.refused.append(Refusal(frozenset(symbols) - {""}, reason or "refused without a reason"))
