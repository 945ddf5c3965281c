"""cryptofeed with many symbols of Binance, run by the Python of an environment that holds it:
`python cryptofeed_symbols.py WEBSOCKET REST SYMBOL,...` prints what starting their books took, as JSON."""

import asyncio
import json
import logging
import sys
import time
from pathlib import Path

import cryptofeed.connection
from cryptofeed.connection import RestEndpoint
from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance

CHANNELS = [TRADES, TICKER, L2_BOOK]


def resident() -> int:
    """Bytes of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def main(websocket: str, rest: str, symbols: str) -> None:
    logging.disable()
    # It connects to addresses with TLS only.
    connect = cryptofeed.connection.connect
    cryptofeed.connection.connect = lambda address, **options: connect(address.replace("wss:", "ws:", 1), **options)
    Binance.websocket_endpoints[0].address = websocket.replace("ws:", "wss:", 1)
    Binance.rest_endpoints = [RestEndpoint(rest, routes=Binance.rest_endpoints[0].routes)]
    own = {native: name for name, native in Binance.symbol_mapping().items()}
    names = [own[symbol] for symbol in symbols.split(",")]
    complete = asyncio.Event()

    async def look(event: object, received: float) -> None:
        if len(feed._l2_book) == len(names):
            complete.set()

    before, started = resident(), time.process_time()
    feed = Binance(symbols=names, channels=CHANNELS, callbacks=dict.fromkeys(CHANNELS, look))
    feed.start(asyncio.get_running_loop())
    await complete.wait()
    taken = time.process_time() - started
    print(json.dumps({"cpu_s": taken, "resident_before": before, "resident": resident()}))
    feed.stop()
    await feed.shutdown()


asyncio.run(main(*sys.argv[1:]))
