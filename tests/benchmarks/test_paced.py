"""The exchange that trades at a rate sends what Binance sends, and counts it."""

import asyncio
import json

import aiohttp
import numpy as np
from websockets.asyncio.client import connect

from actors.feeds.binance import Binance
from benchmarks.many_symbols import symbols
from benchmarks.paced import _QUOTE, _TRADE, FIRST_ID, Exchange, Frames, serving
from tests.polling import until

NAMES = symbols(3)
TIME_MS = 1_800_000_000_123


def test_frames_are_trades_and_quotes_of_the_symbols_with_their_numbers() -> None:
    which, numbers = np.array([2, 0, 1, 2]), np.array([7, 8, 8, 8])
    for text, channel in ((_TRADE, "trades"), (_QUOTE, "quotes")):
        feed = Binance(NAMES, "ws://127.0.0.1", frozenset((channel,)))
        said = Frames(text, NAMES).of(which, numbers, TIME_MS)
        frames = [message[2:] for message in said.split(b"\x81\x7e")[1:]]
        decoded = feed.decode(frames, np.full(4, TIME_MS * 1_000_000))
        assert not decoded.rejected
        rows = getattr(decoded, channel)
        assert rows["symbol"].to_pylist() == [NAMES[place] for place in which]
        assert (rows["trade_id" if channel == "trades" else "sequence"].to_numpy() == FIRST_ID + numbers).all()
        prices = rows["price" if channel == "trades" else "bid_price"].to_numpy()
        assert (prices == 6_300_000 + numbers).all()
        if channel == "trades":
            assert (rows["ts_event"].to_numpy() == TIME_MS * 1_000_000).all()


async def test_what_is_subscribed_comes_at_the_rate_and_is_counted() -> None:
    exchange = Exchange(NAMES)
    async with serving(exchange) as (websocket, rest), aiohttp.ClientSession() as session:
        async with connect(f"ws://127.0.0.1:{websocket}/stream") as connection:
            streams = [f"{name.lower()}@aggTrade" for name in NAMES[:2]]
            await connection.send(json.dumps({"method": "SUBSCRIBE", "params": streams, "id": 1}))
            assert json.loads(await connection.recv()) == {"result": None, "id": 1}
            async with session.get(f"http://127.0.0.1:{rest}/measured/trade?rate=600") as answer:
                assert (await answer.json())["trades"] == 0
            await until(lambda: exchange.counts["trades"] >= 200)
            async with session.get(f"http://127.0.0.1:{rest}/measured/trade?rate=0") as answer:
                sent = (await answer.json())["trades"]
            found = [json.loads(await connection.recv()) for _ in range(sent)]
            assert {one["stream"] for one in found} == set(streams)
            ids = [one["data"]["a"] for one in found if one["stream"] == streams[1]]
            assert ids == list(range(FIRST_ID, FIRST_ID + len(ids)))
            await asyncio.sleep(0)
            assert exchange.counts["quotes"] == 0
