"""Following the live feed through broken connections: what to say after each, and what to give to who follows. Pure."""

from collections.abc import Sequence
from typing import Any, Final

#: What is given to who follows; all else is between the feed and the client.
GIVEN: Final = frozenset(("snapshot", "update"))
#: The feed has lost something: it is to be asked for a snapshot.
LOST: Final = "gap"
#: The feed does not know who asks.
UNKNOWN_USER: Final = 4001
#: What an update is of.
_CHANNEL: Final = ("topic", "exchange", "symbol", "timeframe")


class FeedError(Exception):
    """The live feed does not give what was asked for, and says why."""


class Following:
    """Topics as the feed knows them (`trades:binance:BTCUSDT`), from now on."""

    def __init__(self, topics: Sequence[str], rate: float | None) -> None:
        if not topics:
            raise ValueError("name at least one topic, for example trades:binance:BTCUSDT")
        self._topics = list(topics)
        self._rate = rate
        #: Everything up to this number was given; None while that is not known.
        self.seq: int | None = None
        #: Nothing at all for so long means that nobody is there any more.
        self.silence_s = 60.0
        self._hellos = 0
        #: Before, a number says nothing of topics that have not begun yet on this connection.
        self._begun = False
        self._welcome_seq = 0
        #: By channel the number of its newest update, and those that have it.
        self._given: dict[tuple[Any, ...], tuple[int, list[dict[str, Any]]]] = {}

    def hello(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What to say on each connection, and when something was lost: after the first, what was missed is asked for.
        The answer to the second comes once all topics have begun."""
        self._hellos, self._begun = self._hellos + 1, False
        said: dict[str, Any] = {"type": "subscribe", "topics": self._topics}
        if self._rate is not None:
            said["rate"] = self._rate
        if self.seq is not None:
            said["since"] = self.seq
        return said, {"type": "ping", "id": self._hellos}

    def take(self, message: dict[str, Any]) -> bool:
        """Whether the message is for who follows. `FeedError` when the topics cannot be followed."""
        kind = message.get("type")
        if kind == "welcome":
            self.silence_s = 3 * float(message.get("heartbeat_s", self.silence_s / 3))
            self._welcome_seq = int(message["seq"])
        if kind == "error" and message.get("code") == "invalid_topic":
            raise FeedError(str(message.get("message")))
        if kind == "pong" and message.get("id") == self._hellos:
            self._begun, self.seq = True, self._welcome_seq
        if kind == LOST:
            self.seq = None
        if kind not in GIVEN:
            return False
        seq = int(message["seq"])
        if kind == "update" and not self._is_new(message, seq):
            return False
        if self._begun:
            # Another update may share its number.
            self.seq = seq - 1
        return True

    def _is_new(self, update: dict[str, Any], seq: int) -> bool:
        """Whether it was not given before the connection broke."""
        channel = tuple(update.get(name) for name in _CHANNEL)
        newest, same = self._given.get(channel, (-1, []))
        if not self._begun and (seq < newest or update in same):
            return False
        if seq >= newest:
            self._given[channel] = seq, [*(same if seq == newest else ()), update]
        return True
