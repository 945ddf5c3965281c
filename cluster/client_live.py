"""Following the live feed through broken connections: what to say after each, and what to give to who follows. Pure."""

from collections.abc import Sequence
from typing import Any, Final

#: What is given to who follows; all else is between the feed and the client.
GIVEN: Final = frozenset(("snapshot", "update"))
#: The feed does not know who asks.
UNKNOWN_USER: Final = 4001


class FeedError(Exception):
    """The live feed does not give what was asked for, and says why."""


class Following:
    """Topics as the feed knows them (`trades:binance:BTCUSDT`), from now on."""

    def __init__(self, topics: Sequence[str], rate: float | None) -> None:
        if not topics:
            raise ValueError("name at least one topic, for example trades:binance:BTCUSDT")
        self._topics = list(topics)
        self._rate = rate
        #: Number of the newest update.
        self.seq: int | None = None
        #: Nothing at all for so long means that nobody is there any more.
        self.silence_s = 60.0

    @property
    def hello(self) -> dict[str, Any]:
        """What to say on each connection: after the first, what was missed is asked for."""
        said: dict[str, Any] = {"type": "subscribe", "topics": self._topics}
        if self._rate is not None:
            said["rate"] = self._rate
        if self.seq is not None:
            said["since"] = self.seq
        return said

    def take(self, message: dict[str, Any]) -> bool:
        """Whether the message is for who follows. `FeedError` when the topics cannot be followed."""
        kind = message.get("type")
        if kind == "welcome":
            self.silence_s = 3 * float(message.get("heartbeat_s", self.silence_s / 3))
        if kind == "error" and message.get("code") == "invalid_topic":
            raise FeedError(str(message.get("message")))
        if kind not in GIVEN:
            return False
        self.seq = max(self.seq or 0, int(message["seq"]))
        return True
