"""cryptofeed writing trades to a stream of Redis, run by the Python of an environment that holds it:
`python cryptofeed_redis.py WEBSOCKET REDIS COUNT SYMBOL...` prints the seconds until the streams had them, as JSON."""

import asyncio
import json
import logging
import sys
import time
from urllib.parse import urlsplit

import cryptofeed.connection
import redis
from cryptofeed.backends.redis import TradeStream
from cryptofeed.defines import TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols


async def main(websocket: str, address: str, count: str, *symbols: str) -> None:
    logging.disable()
    # It connects to addresses with TLS only, and puts a path of its own behind them.
    connect = cryptofeed.connection.connect
    cryptofeed.connection.connect = lambda _, **options: connect(websocket, **options)
    own = {symbol: f"{symbol.removesuffix('USDT')}-USDT" for symbol in symbols}
    info = {"tick_size": {}, "instrument_type": dict.fromkeys(own.values(), "spot")}
    Symbols.set(Binance.id, {name: native for native, name in own.items()}, info)
    place = urlsplit(address)
    store = redis.Redis.from_url(address)
    # It takes a host and a port alone, no password.
    store.config_set("requirepass", "")
    backend = TradeStream(host=place.hostname, port=place.port)
    feed = Binance(symbols=list(own.values()), channels=[TRADES], callbacks={TRADES: backend})
    feed.start(asyncio.get_running_loop())
    began = None
    while True:
        await asyncio.sleep(0.02)
        written = sum(store.xlen(key) for key in store.scan_iter("trades-*"))
        if written and began is None:
            began = (time.perf_counter(), written)
        if written >= int(count):
            break
    assert began is not None
    seconds = (time.perf_counter() - began[0]) * int(count) / (int(count) - began[1])
    print(json.dumps({"seconds": seconds}), flush=True)


asyncio.run(main(*sys.argv[1:]))
