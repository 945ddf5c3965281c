"""cryptofeed in the benchmarks, run by the Python of an environment that holds it. `benchmarks/peers.py` says what
comes on standard input; an order may have `checksums`: whether books are verified."""

import asyncio
import json
import logging
import sys
import time
from typing import Any

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import OKX, Binance, Bitfinex, Coinbase, Deribit, Kraken
from cryptofeed.symbols import Symbols

KINDS = {
    "binance": Binance,
    "bitfinex": Bitfinex,
    "coinbase": Coinbase,
    "deribit": Deribit,
    "kraken": Kraken,
    "okx": OKX,
}
#: Books of Binance need requests while they are read, and those of Coinbase are of another protocol.
CHANNELS = {"binance": [TRADES, TICKER], "coinbase": [TRADES]}
#: Those that want all answers about symbols; the others want the first.
SEVERAL_ANSWERS = ("bitfinex", "deribit", "okx")

#: It wants keys for Deribit's channels before it connects, which we do not.
Deribit.is_authenticated_channel = classmethod(lambda cls, channel: False)


class Connection:
    """What a feed sees of its connection."""

    uuid = "recorded"

    def __init__(self, subscription: dict[str, list[str]]) -> None:
        self.subscription = subscription

    async def write(self, message: str) -> None:
        pass


class Workload:
    def __init__(self, given: dict[str, Any]) -> None:
        self.exchange: str = given["exchange"]
        self.kind = KINDS[self.exchange]
        self.frames: list[str] = given["frames"]
        answers = [json.loads(answer) for answer in given["answers"]]
        names, info = self.kind._parse_symbol_data(answers if self.exchange in SEVERAL_ANSWERS else answers[0])
        Symbols.set(self.kind.id, names, info)
        own = {native: name for name, native in names.items()}
        self.symbols = [own[native] for native in given["symbols"] if native in own]
        self.events = 0

    async def feed(self, checksums: bool) -> tuple[Any, Connection]:
        async def count(event: object, received: float) -> None:
            self.events += 1

        channels = CHANNELS.get(self.exchange, [TRADES, TICKER, L2_BOOK])
        feed = self.kind(
            symbols=self.symbols,
            channels=channels,
            callbacks=dict.fromkeys(channels, count),
            checksum_validation=checksums,
        )
        connection = Connection(feed.subscription)
        if L2_BOOK in channels:
            await feed.subscribe(connection)
        return feed, connection

    async def round(self, times: int, checksums: bool) -> dict[str, float]:
        feeds = [await self.feed(checksums) for _ in range(times)]
        self.events = 0
        started = time.process_time()
        for feed, connection in feeds:
            for text in self.frames:
                await feed.message_handler(text, connection, 1_634_000_000.0)
        return {"seconds": time.process_time() - started, "events": self.events}


async def main() -> None:
    # What it has to say while it reads would be measured, too.
    logging.disable()
    workloads = {name: Workload(given) for name, given in json.loads(sys.stdin.readline()).items()}
    for line in sys.stdin:
        order = json.loads(line)
        answer = await workloads[order["name"]].round(order["times"], order.get("checksums", False))
        print(json.dumps(answer), flush=True)


asyncio.run(main())
