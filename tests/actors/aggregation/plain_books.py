"""Order books as plain dicts, and an exchange that sends them: what the compiled books are held against."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any, Final

import pyarrow as pa

from actors.feeds.feed import BookRules
from storage.schema import BOOK_MESSAGES, BROKEN, CHANGE, SNAPSHOT

BID: Final = 0
ASK: Final = 1

#: Side, price and size as the exchange writes them.
Text = tuple[int, str, str]


@dataclass(frozen=True)
class Message:
    symbol: str
    kind: int = CHANGE
    levels: tuple[Text, ...] = ()
    first: int | None = None
    sequence: int | None = None
    previous: int | None = None
    checksum: int | None = None
    ts: int = 1

    @property
    def row(self) -> dict[str, Any]:
        return {
            "ts_event": self.ts,
            "ts_recv": self.ts,
            "kind": self.kind,
            "first_sequence": self.first,
            "sequence": self.sequence,
            "previous_sequence": self.previous,
            "checksum": self.checksum,
            "levels": [
                {
                    "side": side,
                    "price": float(price),
                    "size": float(size),
                    "price_decimals": decimals(price),
                    "size_decimals": decimals(size),
                }
                for side, price, size in self.levels
            ],
        }


def decimals(text: str) -> int:
    return -1 if "e" in text else len(text.partition(".")[2])


def batch(messages: Iterable[Message]) -> pa.RecordBatch:
    """`storage.schema.BOOK_MESSAGES`."""
    messages = list(messages)
    names = sorted({message.symbol for message in messages})
    codes = pa.array([names.index(message.symbol) for message in messages], pa.int32())
    columns: list[Any] = [pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))]
    rows = [message.row for message in messages]
    columns += [
        pa.array([row[name] for row in rows], BOOK_MESSAGES.field(name).type) for name in BOOK_MESSAGES.names[1:]
    ]
    return pa.RecordBatch.from_arrays(columns, schema=BOOK_MESSAGES)


def pieces(messages: list[Message], random: Random) -> list[list[Message]]:
    """The messages cut anywhere, with empty pieces too."""
    cuts = sorted(random.choices(range(len(messages) + 1), k=random.randrange(6)))
    return [messages[a:b] for a, b in zip([0, *cuts], [*cuts, len(messages)], strict=True)]


@dataclass
class Levels:
    """Both sides of a book: (price, size) as text, by price."""

    sides: tuple[dict[Decimal, Text], dict[Decimal, Text]] = field(default_factory=lambda: ({}, {}))
    unknown_removals: int = 0

    def set(self, levels: Iterable[Text], depth: int | None = None) -> None:
        for side, price, size in levels:
            if Decimal(size):
                self.sides[side][Decimal(price)] = (side, price, size)
            elif self.sides[side].pop(Decimal(price), None) is None:
                self.unknown_removals += 1
        for side in (BID, ASK):
            for _, price, _ in self.best(side)[depth:] if depth else []:
                del self.sides[side][Decimal(price)]

    def best(self, side: int) -> list[Text]:
        return [self.sides[side][price] for price in sorted(self.sides[side], reverse=side == BID)]

    @property
    def crossed(self) -> bool:
        bids, asks = self.sides
        return bool(bids) and bool(asks) and max(bids) >= min(asks)

    def numbers(self, side: int, levels: int | None = None) -> list[dict[str, float]]:
        """As a side of `storage.schema.DEPTH` is read."""
        return [{"price": float(price), "size": float(size)} for _, price, size in self.best(side)[:levels]]

    def checksum(self, rule: str) -> int:
        bids, asks = self.best(BID), self.best(ASK)
        if rule == "kraken":
            top = [*asks[:10], *bids[:10]]
            digits = [number.replace(".", "").lstrip("0") for level in top for number in level[1:]]
            return zlib.crc32("".join(digits).encode())
        sign = "-" if rule == "bitfinex" else ""
        words = []
        for place in range(25):
            words += [f"{price}:{size}" for _, price, size in bids[place : place + 1]]
            words += [f"{price}:{sign}{size}" for _, price, size in asks[place : place + 1]]
        return zlib.crc32(":".join(words).encode())


@dataclass
class PlainBook:
    """A book whose snapshots come with the stream."""

    rules: BookRules
    levels: Levels = field(default_factory=Levels)
    state: str = "syncing"
    epoch: int = 0
    gaps: int = 0
    messages: int = 0
    unknown_removals: int = 0
    last: int | None = None

    def take(self, message: Message) -> None:
        good = message.kind != BROKEN
        if message.kind == BROKEN:
            self.last = None
        elif message.kind == SNAPSHOT:
            self.levels = Levels()
            self.levels.set((level for level in message.levels if Decimal(level[2])), self.rules.depth)
            self.state, self.last = "synced", message.sequence
            self.epoch += 1
            self.messages += 1
        elif message.kind == CHANGE and not self._repeats(message):
            expected, came = {
                "none": (None, None),
                "previous": (self.last, message.previous),
                "range": (None if self.last is None else self.last + 1, message.first),
                "next": (None if self.last is None else self.last + 1, message.sequence),
            }[self.rules.chain]
            good = expected is None or came is None or expected == came
            self.last = message.sequence
            if good and self.state == "synced":
                self.levels.set(message.levels, self.rules.depth)
                self.messages += 1
        if good and self.state == "synced" and message.checksum is not None and self.rules.checksum != "none":
            good = self.levels.checksum(self.rules.checksum) == message.checksum
        if not good and self.state == "synced":
            self.state = "gapped"
            self.gaps += 1
        self.unknown_removals += self.levels.unknown_removals
        self.levels.unknown_removals = 0

    def _repeats(self, message: Message) -> bool:
        """Binance tells to pass over what is not behind the last update heard."""
        if self.rules.chain != "range" or self.last is None or message.sequence is None:
            return False
        return message.sequence <= self.last

    @property
    def shown(self) -> str:
        return "gapped" if self.state == "synced" and self.levels.crossed else self.state


@dataclass
class Exchange:
    """A true book, and the messages that tell of its changes."""

    symbol: str
    rules: BookRules
    random: Random
    crosses: bool = False
    levels: Levels = field(default_factory=Levels)
    sequence: int = 100
    ts: int = 1_000
    #: The true book after each sequence.
    history: dict[int, Levels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._remember()

    def change(self) -> Message:
        self.ts += 1
        previous = self.sequence
        self.sequence += self.random.randint(1, 3) if self.rules.chain != "next" else 1
        levels = tuple(self._level() for _ in range(self.random.randrange(5)))
        self.levels.set(levels, self.rules.depth)
        self._remember()
        return replace(self._message(CHANGE, levels), first=previous + 1, previous=previous)

    def snapshot(self) -> Message:
        """In any order, with levels twice and levels of no size, as nobody should send it."""
        self.ts += 1
        levels = [*self.levels.best(BID), *self.levels.best(ASK)]
        if self.random.random() < 0.5:
            self.random.shuffle(levels)
            earlier = [(side, price, "7.5") for side, price, _ in self.random.sample(levels, len(levels) // 3)]
            levels = [*earlier, *levels, (BID, "0.1", "0")]
        return self._message(SNAPSHOT, tuple(levels))

    def _message(self, kind: int, levels: tuple[Text, ...]) -> Message:
        rule = self.rules.checksum
        checksum = None if rule == "none" or self.random.random() < 0.2 else self.levels.checksum(rule)
        return Message(self.symbol, kind, levels, sequence=self.sequence, checksum=checksum, ts=self.ts)

    def _level(self) -> Text:
        side = self.random.choice((BID, ASK))
        price = self.random.randint(1, 40) + 40 * side
        if self.crosses and self.random.random() < 0.05:
            price = self.random.randint(30, 50)
        size = "0" if self.random.random() < 0.4 else self.random.choice(("0.10", "12", "3.00000001", "1000", "0.5"))
        return side, f"{price / 8:.3f}" if self.random.random() < 0.9 else f"{price / 8:.4f}", size

    def _remember(self) -> None:
        bids, asks = self.levels.sides
        self.history[self.sequence] = Levels((dict(bids), dict(asks)))
