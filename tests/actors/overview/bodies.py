"""What providers say when all is well, in their own words."""

import json
from typing import Any

from actors.overview.fields import COINS

#: 2024-11-22 09:40:00 UTC.
NOW_S = 1_732_268_400
PRICES = dict(zip(COINS, (96_000.5, 3_170.25, 620.1, 240.5, 1.25, 0.85, 15.5), strict=True))
CHANGES = dict(zip(COINS, (-1.25, 2.5, 0.5, -3.0, 10.0, 0.0, 4.5), strict=True))
_GECKO = dict(
    zip(COINS, ("bitcoin", "ethereum", "binancecoin", "solana", "ripple", "cardano", "chainlink"), strict=True)
)
_CMC = dict(zip(COINS, ("1", "1027", "1839", "5426", "52", "2010", "1975"), strict=True))
_ISO = "2024-11-22T09:39:59.000Z"


def binance(prices: dict[str, float] | None = None, now_s: float = NOW_S) -> Any:
    return [
        {
            "symbol": f"{coin.upper()}USDT",
            "priceChange": "1.0",
            "priceChangePercent": f"{CHANGES[coin]:.3f}",
            "lastPrice": f"{price:.8f}",
            "closeTime": int(now_s * 1000) - 1,
            "count": 12,
        }
        for coin, price in (prices or PRICES).items()
    ]


def coingecko_prices(now_s: float = NOW_S) -> Any:
    return {
        _GECKO[coin]: {"usd": PRICES[coin] * 1.001, "usd_24h_change": CHANGES[coin], "last_updated_at": int(now_s) - 20}
        for coin in COINS
    }


def coingecko_global(now_s: float = NOW_S, cap: float = 3.34e12) -> Any:
    return {
        "data": {
            "active_cryptocurrencies": 15000,
            "total_market_cap": {"btc": 3.4e7, "usd": cap},
            "total_volume": {"usd": 1.9e11},
            "market_cap_percentage": {"btc": 56.9, "eth": 11.7, "usdt": 3.8},
            "market_cap_change_percentage_24h_usd": 1.5,
            "updated_at": int(now_s) - 60,
        }
    }


def cmc_global(updated: str = _ISO) -> Any:
    usd = {
        "total_market_cap": 3.31e12,
        "total_volume_24h": 1.8e11,
        "total_market_cap_yesterday_percentage_change": 1.25,
        "last_updated": updated,
    }
    return {
        "status": {"error_code": 0, "error_message": None},
        "data": {"btc_dominance": 56.5, "eth_dominance": 11.5, "quote": {"USD": usd}},
    }


def cmc_prices(updated: str = _ISO) -> Any:
    data = {
        _CMC[coin]: {
            "id": int(_CMC[coin]),
            "symbol": coin.upper(),
            "quote": {"USD": {"price": PRICES[coin], "percent_change_24h": CHANGES[coin], "last_updated": updated}},
        }
        for coin in COINS
    }
    return {"status": {"error_code": 0}, "data": data}


def fear_greed(value: str = "40", now_s: float = NOW_S) -> Any:
    day = {"value": value, "value_classification": "Fear", "timestamp": str(int(now_s) // 86400 * 86400)}
    return {
        "name": "Fear and Greed Index",
        "data": [{**day, "time_until_update": "49600"}],
        "metadata": {"error": None},
    }


def taapi(value: float = 61.5) -> Any:
    return {"value": value}


def finnhub(price: float = 590.1, now_s: float = NOW_S) -> Any:
    return {"c": price, "d": 1.2, "dp": 0.2038, "h": 591, "l": 588, "o": 589, "pc": 588.9, "t": int(now_s) - 3600}


def encoded(said: Any) -> bytes:
    return json.dumps(said).encode()
