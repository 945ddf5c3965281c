"""CoinGecko's public API: the whole market, and prices where neither we nor Binance have them
(https://docs.coingecko.com/v3.0.1/reference/crypto-global, .../simple-price):

    {"data": {"total_market_cap": {"usd": 3.3e12, ...}, "total_volume": {"usd": 1.2e11, ...},
      "market_cap_percentage": {"btc": 58.1, "eth": 11.4, ...}, "market_cap_change_percentage_24h_usd": -1.2,
      "updated_at": 1732268399}}
    {"bitcoin": {"usd": 96000.0, "usd_24h_change": -1.23, "last_updated_at": 1732268399}, ...}
"""

from typing import Final

import msgspec

from actors.overview.fields import COINS, MARKET, change_of, price_of
from actors.overview.question import Heard, Question, Readings, get, numbers, reader, seconds, whole_market
from config.overview_settings import CoinGeckoSettings

NAME: Final = "coingecko"
_IDS: Final = dict(
    zip(COINS, ("bitcoin", "ethereum", "binancecoin", "solana", "ripple", "cardano", "chainlink"), strict=True)
)
_PRICES: Final = (
    f"/api/v3/simple/price?ids={'%2C'.join(_IDS.values())}&vs_currencies=usd"
    "&include_24hr_change=true&include_last_updated_at=true"
)


class _Data(msgspec.Struct):
    total_market_cap: dict[str, float] = {}
    total_volume: dict[str, float] = {}
    market_cap_percentage: dict[str, float] = {}
    market_cap_change_percentage_24h_usd: float | None = None
    updated_at: float | None = None


class _Global(msgspec.Struct):
    data: _Data


class _Price(msgspec.Struct):
    usd: float | None = None
    usd_24h_change: float | None = None
    last_updated_at: float | None = None


_decode_global: Final = msgspec.json.Decoder(_Global).decode
_decode_prices: Final = msgspec.json.Decoder(dict[str, _Price]).decode


def questions(settings: CoinGeckoSettings) -> tuple[Question, ...]:
    prices = tuple(name for coin in COINS for name in (price_of(coin), change_of(coin)))
    whole, each = settings.global_interval_s, settings.prices_interval_s
    return (
        Question("coingecko_global", NAME, MARKET, whole, reader(_decode_global, _market), get("/api/v3/global")),
        Question("coingecko_prices", NAME, prices, each, reader(_decode_prices, _coins), get(_PRICES)),
    )


def _market(answer: _Global) -> Readings:
    data = answer.data
    values = (
        data.total_market_cap.get("usd"),
        data.total_volume.get("usd"),
        data.market_cap_change_percentage_24h_usd,
        data.market_cap_percentage.get("btc"),
        data.market_cap_percentage.get("eth"),
    )
    return whole_market(values, seconds(data.updated_at))


def _coins(prices: dict[str, _Price]) -> Readings:
    found: dict[str, Heard] = {}
    for coin, identity in _IDS.items():
        said = prices.get(identity)
        if said is not None and said.usd is not None and said.usd > 0:
            known = numbers(**{price_of(coin): said.usd, change_of(coin): said.usd_24h_change})
            found |= {name: Heard(value, seconds(said.last_updated_at)) for name, value in known.items()}
    return found
