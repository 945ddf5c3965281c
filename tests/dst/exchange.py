"""An exchange that speaks Binance's protocol: seeded trades, quotes and books of a few symbols, and the REST history of
what it made.
"""

import json
import random
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.dst.clock import Clock

#: Prices and sizes are whole numbers of these.
TICK: Final = 100
UNIT: Final = 1000
_LEVELS: Final = 8


class Trade(NamedTuple):
    trade_id: int
    ms: int
    price: int
    size: int
    sell: bool


@dataclass(slots=True)
class Market:
    """One symbol."""

    name: str
    next_id: int
    update: int
    price: int
    trades: list[Trade] = field(default_factory=list)
    #: Sizes by price.
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def best(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Both sides, best first."""
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


class Exchange:
    """`publish` takes each frame with the name of its stream."""

    def __init__(self, clock: Clock, chance: random.Random, symbols: list[str], publish: Callable[[str, str], None]):
        self._clock = clock
        self._chance = chance
        self._publish = publish
        self.markets = {name: self._market(name) for name in symbols}

    def _market(self, name: str) -> Market:
        chance = self._chance
        market = Market(
            name, chance.randrange(1, 1 << 40), chance.randrange(1, 1 << 40), chance.randrange(5_000, 50_000)
        )
        for level in range(1, _LEVELS + 1):
            market.bids[market.price - level] = chance.randrange(1, 5000)
            market.asks[market.price + level] = chance.randrange(1, 5000)
        # What was before anybody listened.
        past_ms = self._clock.now_ns // 1_000_000 - 3_000_000
        for _ in range(chance.randrange(20)):
            past_ms += chance.randrange(100_000)
            self._trade(market, past_ms)
        return market

    def _trade(self, market: Market, ms: int) -> Trade:
        chance = self._chance
        market.price = max(100, market.price + chance.randrange(-3, 4))
        trade = Trade(market.next_id, ms, market.price, chance.randrange(1, 10_000), chance.random() < 0.5)
        market.next_id += 1
        market.trades.append(trade)
        return trade

    def trade(self, name: str) -> None:
        """Something is traded now; everybody is told of it, of the new best prices, and of the book."""
        market, ms = self.markets[name], self._clock.now_ns // 1_000_000
        trade = self._trade(market, ms)
        lower = name.lower()
        self._publish(
            f"{lower}@aggTrade",
            f'{{"stream":"{lower}@aggTrade","data":{{"e":"aggTrade","E":{ms},"s":"{name}",{_fields(trade)}}}}}',
        )
        self._change_book(market, ms)

    def quote(self, name: str) -> None:
        self._change_book(self.markets[name], self._clock.now_ns // 1_000_000)

    def _change_book(self, market: Market, ms: int) -> None:
        chance, lower = self._chance, market.name.lower()
        bids, asks = dict(market.bids), dict(market.asks)
        for price in [price for price in market.bids if price >= market.price]:
            del market.bids[price]
        for price in [price for price in market.asks if price <= market.price]:
            del market.asks[price]
        for side, sign in ((market.bids, -1), (market.asks, 1)):
            for _ in range(chance.randrange(3)):
                side[market.price + sign * chance.randrange(1, _LEVELS + 4)] = chance.randrange(1, 5000)
            while len(side) > _LEVELS:
                del side[min(side) if sign < 0 else max(side)]
            if not side:
                side[market.price + sign] = chance.randrange(1, 5000)
        changed = [_changes(before, after) for before, after in ((bids, market.bids), (asks, market.asks))]
        first = market.update + 1
        market.update += chance.randrange(1, 4)
        self._publish(
            f"{lower}@depth",
            f'{{"stream":"{lower}@depth@100ms","data":{{"e":"depthUpdate","E":{ms},"s":"{market.name}","U":{first},'
            f'"u":{market.update},"b":[{_levels(changed[0])}],"a":[{_levels(changed[1])}]}}}}',
        )
        if chance.random() < 0.7:
            return
        (bid, bid_size), (ask, ask_size) = market.best()[0][0], market.best()[1][0]
        self._publish(
            f"{lower}@bookTicker",
            f'{{"stream":"{lower}@bookTicker","data":{{"u":{market.update},"s":"{market.name}","b":"{bid / TICK}",'
            f'"B":"{bid_size / UNIT}","a":"{ask / TICK}","A":"{ask_size / UNIT}"}}}}',
        )

    def rest(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/api/v3/exchangeInfo":
            return 200, _information(self.markets)
        market = self.markets.get(query.get("symbol", ""))
        if market is None:
            return 400, b'{"code":-1121,"msg":"Invalid symbol."}'
        if parts.path == "/api/v3/depth":
            bids, asks = market.best()
            book = f'{{"lastUpdateId":{market.update},"bids":[{_levels(bids)}],"asks":[{_levels(asks)}]}}'
            return 200, book.encode()
        limit = int(query.get("limit", 500))
        if "fromId" in query:
            begin = bisect_left(market.trades, int(query["fromId"]), key=lambda trade: trade.trade_id)
            found = market.trades[begin : begin + limit]
        else:
            span = range(int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62)) + 1)
            found = [trade for trade in market.trades if trade.ms in span][:limit]
        return 200, f"[{','.join(f'{{{_fields(trade)}}}' for trade in found)}]".encode()


def _fields(trade: Trade) -> str:
    number, sell = trade.trade_id, "true" if trade.sell else "false"
    return (
        f'"a":{number},"p":"{trade.price / TICK}","q":"{trade.size / UNIT}","f":{number},"l":{number},'
        f'"T":{trade.ms},"m":{sell},"M":true'
    )


def _changes(before: Mapping[int, int], after: Mapping[int, int]) -> list[tuple[int, int]]:
    changed = [(price, size) for price, size in after.items() if before.get(price) != size]
    return [*changed, *((price, 0) for price in before if price not in after)]


def _levels(levels: list[tuple[int, int]]) -> str:
    return ",".join(f'["{price / TICK}","{size / UNIT}"]' for price, size in levels)


def _information(markets: Mapping[str, Market]) -> bytes:
    tick, step = f"{1 / TICK:.8f}", f"{1 / UNIT:.8f}"
    symbols: list[dict[str, Any]] = [
        {
            "symbol": name,
            "status": "TRADING",
            "baseAsset": name.removesuffix("USDT"),
            "baseAssetPrecision": 8,
            "quoteAsset": "USDT",
            "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True,
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "1000000.00000000", "stepSize": step},
            ],
        }
        for name in markets
    ]
    return json.dumps({"timezone": "UTC", "serverTime": 0, "rateLimits": [], "symbols": symbols}).encode()
