"""The peers of the decode benchmark, run by the Python of an environment that holds cryptofeed and orjson.

The first line of standard input is a JSON object: symbol data for cryptofeed and the workloads, each a list of
[exchange, text] pairs. Every further line, "PEER WORKLOAD", runs one round and is answered with its seconds.
"""

import asyncio
import json
import sys
import time
from typing import Any

import orjson
from cryptofeed.callback import TickerCallback, TradeCallback
from cryptofeed.defines import TICKER, TRADES
from cryptofeed.exchanges import Binance, Coinbase
from cryptofeed.symbols import Symbols


def feeds(symbol_data: dict[str, Any]) -> dict[str, Any]:
    """cryptofeed's feeds with callbacks that do nothing, their symbols from recorded answers instead of the network."""

    async def drop(event: object, received: float) -> None:
        pass

    made: dict[str, Any] = {}
    for name, kind, channels in (("binance", Binance, [TRADES, TICKER]), ("coinbase", Coinbase, [TRADES])):
        symbols, info = kind._parse_symbol_data(symbol_data[name])
        Symbols.set(kind.id, symbols, info)
        callbacks = {TRADES: TradeCallback(drop), TICKER: TickerCallback(drop)}
        made[name] = kind(symbols=list(symbols)[:1], channels=channels, callbacks=callbacks)
    return made


async def cryptofeed_round(handlers: dict[str, Any], workload: list[tuple[str, str]]) -> float:
    started = time.process_time()
    for exchange, text in workload:
        await handlers[exchange](text, None, 1634000000.0)
    return time.process_time() - started


def orjson_round(frames: list[bytes]) -> float:
    started = time.process_time()
    for frame in frames:
        orjson.loads(frame)
    return time.process_time() - started


async def main() -> None:
    task = json.loads(sys.stdin.readline())
    handlers = {name: feed.message_handler for name, feed in feeds(task["symbols"]).items()}
    workloads = task["workloads"]
    frames = {name: [text.encode() for _, text in workload] for name, workload in workloads.items()}
    for line in sys.stdin:
        peer, name = line.split()
        if peer == "orjson":
            seconds = orjson_round(frames[name])
        else:
            seconds = await cryptofeed_round(handlers, workloads[name])
        print(seconds, flush=True)


asyncio.run(main())
