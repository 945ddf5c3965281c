"""What clients of the live feed subscribe to: `topic:exchange:symbol:timeframe`, of which later parts may be left out
and `*` stands for anything.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple, Self

from actors.live_hub import WITHOUT_EXCHANGE, Wanted
from storage.timeframes import MINUTE, TIMEFRAMES

#: Topics, and how many updates a second of the same key a client gets that does not say (0: all of them).
TOPICS: Final = {
    "trades": 0.0,
    "quotes": 1.0,
    "book": 1.0,
    "bars": 1.0,
    "indicators": 1.0,
    "dashboard": 1.0,
    "alerts": 0.0,
    "integrity": 0.0,
}
#: Of one symbol: bars together with their indicators, as `/ws/{symbol}` tells them.
CHART: Final = "chart"
#: Topics whose updates belong to a timeframe.
WITH_TIMEFRAME: Final = frozenset({"bars", "indicators", CHART})
#: What is asked for by symbol; of other topics all symbols of an exchange come.
_BY_SYMBOL: Final = frozenset({"book", "bars"})
LONGEST: Final = 200
FASTEST: Final = 20.0
SLOWEST: Final = 0.1


class Channel(NamedTuple):
    """Where an update belongs. `exchange` and `timeframe` are "" where a topic has none."""

    topic: str
    exchange: str
    symbol: str
    timeframe: str


class InvalidTopic(Exception):
    """Says in one line what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A pattern of channels."""

    topic: str
    exchange: str = "*"
    symbol: str = "*"
    timeframe: str = "*"

    @classmethod
    def of(cls, text: str) -> Self:
        """What a client says. `InvalidTopic`."""
        if len(text) > LONGEST:
            raise InvalidTopic(f"A topic has {LONGEST} characters at most.")
        topic, _, rest = text.partition(":")
        if topic not in TOPICS:
            raise InvalidTopic(f"There is no topic {topic[:40]!r}; there are: {', '.join(TOPICS)}.")
        exchange = "*"
        if topic not in WITHOUT_EXCHANGE:
            exchange, _, rest = rest.partition(":")
        timeframe = ""
        if topic in WITH_TIMEFRAME:
            symbol, _, last = rest.rpartition(":")
            known = last in TIMEFRAMES or last == "*"
            # Names of symbols may have a colon; `*` alone is any symbol.
            rest, timeframe = (symbol, last) if symbol and known else (rest, MINUTE)
        return cls(topic, exchange or "*", rest or "*", timeframe)

    @property
    def wanted(self) -> frozenset[Wanted]:
        """What has to be followed for it."""
        topics = ("bars", "indicators") if self.topic == CHART else (self.topic,)
        return frozenset(
            Wanted(topic, self.exchange, self.symbol, self.timeframe)
            if topic in _BY_SYMBOL
            else Wanted(topic, self.exchange)
            for topic in topics
        )

    @property
    def channel(self) -> Channel | None:
        """The only one it covers, where that is so."""
        exchange = "" if self.topic in WITHOUT_EXCHANGE else self.exchange
        known = Channel(self.topic, exchange, self.symbol, self.timeframe)
        return None if any("*" in part for part in known) else known

    def covers(self, channel: Channel) -> bool:
        return (
            self.topic == channel.topic
            and (self.exchange in ("*", channel.exchange))
            and (self.timeframe in ("*", channel.timeframe))
            and bool(_pattern(self.symbol).fullmatch(channel.symbol))
        )

    def __str__(self) -> str:
        parts = [self.topic]
        if self.topic not in WITHOUT_EXCHANGE:
            parts.append(self.exchange)
        parts.append(self.symbol)
        if self.timeframe:
            parts.append(self.timeframe)
        return ":".join(parts)


def interval_of(topic: str, rate: float | None) -> float:
    """Seconds between two updates of the same key (0: all of them) at the rate a client asks for. `InvalidTopic`."""
    if rate is None:
        rate = TOPICS.get(topic, 1.0)
    if rate != 0 and not SLOWEST <= rate <= FASTEST:
        raise InvalidTopic(f"rate is 0 for every update, or between {SLOWEST:g} and {FASTEST:g} a second.")
    return 1 / rate if rate else 0.0


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)


def _pattern(symbol: str) -> re.Pattern[str]:
    if _compiled.cache_info().currsize > 10_000:
        _compiled.cache_clear()
    return _compiled(symbol)
