"""Exchanges that answer for past trades as their documentation says, each a pure function of the trades it has; and
whoever asks them until there is nothing left to ask."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from actors.feeds.feed import RestRequest
from actors.feeds.history import HistoryPage, TradeHistory, Wanted

MS: Final = 1_000_000
HOUR_MS: Final = 3_600_000
#: What the paging tests have in place of the exchanges' limits.
LIMIT: Final = 3
SYMBOLS: Final = {
    "binance": "BTCUSDT",
    "bitfinex": "tBTCUSD",
    "bybit": "spot:BTCUSDT",
    "coinbase": "BTC-USD",
    "deribit": "BTC-PERPETUAL",
    "kraken": "BTC/USD",
    "okx": "BTC-USDT",
}


class Past(NamedTuple):
    """A trade: when (ns), its id, and what it was."""

    t_ns: int
    id: int
    price: float = 30_000.5
    size: float = 0.25
    side: int = 0

    @property
    def ms(self) -> int:
        return self.t_ns // MS


Server = Callable[[Sequence[Past], str, dict[str, str]], Any]


def _binance(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert path == "/api/v3/aggTrades"
    assert query["symbol"] == "BTCUSDT"
    if "fromId" in query:
        assert not {"startTime", "endTime"} & query.keys()
        chosen = [one for one in trades if one.id >= int(query["fromId"])]
    else:
        start, end = int(query["startTime"]), int(query["endTime"])
        assert end - start < HOUR_MS
        chosen = [one for one in trades if start <= one.ms <= end]
    return [
        {
            "a": one.id,
            "p": str(one.price),
            "q": str(one.size),
            "f": 1,
            "l": 1,
            "T": one.ms,
            "m": one.side == 1,
            "M": True,
        }
        for one in chosen[: int(query["limit"])]
    ]


def _bitfinex(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert path == "/v2/trades/tBTCUSD/hist"
    assert query["sort"] == "1"
    chosen = [one for one in trades if int(query["start"]) <= one.ms <= int(query["end"])]
    return [[one.id, one.ms, -one.size if one.side else one.size, one.price] for one in chosen[: int(query["limit"])]]


def _bybit(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert path == "/v5/market/recent-trade"
    assert (query["category"], query["symbol"]) == ("spot", "BTCUSDT")
    rows = [
        {"execId": str(one.id), "symbol": "BTCUSDT", "price": str(one.price), "size": str(one.size),
         "side": "Sell" if one.side else "Buy", "time": str(one.ms), "isBlockTrade": False}
        for one in reversed(trades)
    ]  # fmt: skip
    result = {"category": "spot", "list": rows[: int(query["limit"])]}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1672053054358}


def _coinbase(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert path == "/products/BTC-USD/trades"
    older = [one for one in reversed(trades) if "after" not in query or one.id < int(query["after"])]
    return [
        {"time": f"2023-11-14T{_clock(one.t_ns)}Z", "trade_id": one.id, "price": str(one.price), "size": str(one.size),
         "side": "buy" if one.side else "sell"}
        for one in older[: int(query["limit"])]
    ]  # fmt: skip


def _deribit(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert query["instrument_name"] == "BTC-PERPETUAL"
    assert query["sorting"] == "asc"
    if path == "/api/v2/public/get_last_trades_by_instrument_and_time":
        start, end = int(query["start_timestamp"]), int(query["end_timestamp"])
        chosen = [one for one in trades if start <= one.ms <= end]
    else:
        assert path == "/api/v2/public/get_last_trades_by_instrument"
        last = int(query.get("end_seq", 2**62))
        chosen = [one for one in trades if int(query["start_seq"]) <= one.id <= last]
    rows = [
        {"trade_seq": one.id, "trade_id": f"{one.id}0", "timestamp": one.ms, "tick_direction": 0, "price": one.price,
         "mark_price": 1.0, "instrument_name": "BTC-PERPETUAL", "index_price": 1.0, "amount": one.size,
         "direction": "sell" if one.side else "buy"}
        for one in chosen[: int(query["count"])]
    ]  # fmt: skip
    return {"jsonrpc": "2.0", "result": {"trades": rows, "has_more": len(rows) < len(chosen)}}


def _okx(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
    assert path == "/api/v5/market/history-trades"
    assert query["instId"] == "BTC-USDT"
    after = int(query["after"])
    older = [one for one in reversed(trades) if (one.id if query["type"] == "1" else one.ms) < after]
    rows = [
        {"instId": "BTC-USDT", "side": "sell" if one.side else "buy", "sz": str(one.size), "px": str(one.price),
         "source": "0", "tradeId": str(one.id), "ts": str(one.ms)}
        for one in older[: int(query["limit"])]
    ]  # fmt: skip
    return {"code": "0", "msg": "", "data": rows}


def kraken(inclusive: bool) -> Server:
    """Whether the trade at `since` comes too, the documentation leaves open."""

    def answer(trades: Sequence[Past], path: str, query: dict[str, str]) -> Any:
        assert path == "/0/public/Trades"
        assert query["pair"] == "XBTUSD"
        since = int(query["since"])
        newer = [one for one in trades if one.t_ns > since or (inclusive and one.t_ns == since)]
        rows = [
            f'["{one.price}","{one.size}",{_seconds(one.t_ns)},"{"s" if one.side else "b"}","m","",{one.id}]'
            for one in newer[: int(query["count"])]
        ]
        last = newer[len(rows) - 1].t_ns if rows else since
        return f'{{"error":[],"result":{{"XXBTZUSD":[{",".join(rows)}],"last":"{last}"}}}}'

    return answer


SERVERS: Final[dict[str, Server]] = {
    "binance": _binance,
    "bitfinex": _bitfinex,
    "bybit": _bybit,
    "coinbase": _coinbase,
    "deribit": _deribit,
    "kraken": kraken(inclusive=False),
    "okx": _okx,
}


def answered(server: Server, trades: Sequence[Past], request: RestRequest) -> bytes:
    parts = urlsplit(request.path)
    answer = server(trades, parts.path, dict(parse_qsl(parts.query)))
    return (answer if isinstance(answer, str) else json.dumps(answer)).encode()


@dataclass
class Fetched:
    trades: list[Past]
    pages: list[HistoryPage]

    @property
    def covered(self) -> bool:
        return self.pages[-1].covered


def fetch(
    history: TradeHistory,
    wanted: Wanted,
    answer: Callable[[RestRequest], bytes],
    now_ns: int,
    most_requests: int,
) -> Fetched:
    """Everything wanted, each trade once, as whoever stores them does."""
    found: dict[int, Past] = {}
    pages: list[HistoryPage] = []
    request = history.request(wanted)
    while request is not None:
        assert len(pages) < most_requests, "an end"
        page = history.read(wanted, answer(request), now_ns, request)
        assert wanted.from_ns <= page.reached_ns <= wanted.to_ns
        assert not (page.covered and page.next is not None)
        rows = page.trades.to_pylist()
        assert [(row["ts_event"], row["trade_id"]) for row in rows] == sorted(
            {(row["ts_event"], row["trade_id"]) for row in rows}
        )
        for row in rows:
            assert (row["symbol"], row["ts_recv"]) == (wanted.symbol, now_ns)
            one = Past(row["ts_event"], row["trade_id"], row["price"], row["size"], row["side"])
            assert found.setdefault(one.id, one) == one
        pages.append(page)
        request = page.next
    began = wanted.from_ns if history.forwards else wanted.to_ns
    reached = [page.reached_ns for page in pages if page.reached_ns != began]
    assert reached == sorted(reached, reverse=not history.forwards)
    return Fetched(sorted(found.values()), pages)


def _clock(t_ns: int) -> str:
    """The time of the day, of 2023-11-14."""
    second = t_ns // 1_000_000_000 % 86_400
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{t_ns // 1000 % 1_000_000:06}"


def _seconds(t_ns: int) -> str:
    """As REST writes a time: a number without zeros at its end."""
    return f"{t_ns // 10**9}.{t_ns % 10**9:09}".rstrip("0").rstrip(".")
