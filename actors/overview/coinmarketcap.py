"""CoinMarketCap, where nobody else answers; needs a key
(https://coinmarketcap.com/api/documentation/v1/, Global Metrics Quotes Latest and Cryptocurrency Quotes Latest v2):

    {"data": {"btc_dominance": 58.1, "eth_dominance": 11.4, "quote": {"USD": {"total_market_cap": 3.3e12,
      "total_volume_24h": 1.2e11, "total_market_cap_yesterday_percentage_change": -1.2,
      "last_updated": "2024-11-22T09:39:59.999Z"}}}}
    {"data": {"1": {"symbol": "BTC", "quote": {"USD": {"price": 96000.0, "percent_change_24h": -1.23,
      "last_updated": "2024-11-22T09:39:00.000Z"}}}, ...}}

Coins are asked for by number: several have the same symbol.
"""

from typing import Final

import msgspec

from actors.overview.fields import COINS, MARKET, change_of, price_of
from actors.overview.question import Heard, Question, Readings, get, moment, numbers, reader, whole_market
from config.overview_settings import CoinMarketCapSettings

NAME: Final = "coinmarketcap"
_IDS: Final = dict(zip(COINS, ("1", "1027", "1839", "5426", "52", "2010", "1975"), strict=True))
_PRICES: Final = f"/v2/cryptocurrency/quotes/latest?id={'%2C'.join(_IDS.values())}&convert=USD"


class _Usd(msgspec.Struct):
    total_market_cap: float | None = None
    total_volume_24h: float | None = None
    total_market_cap_yesterday_percentage_change: float | None = None
    price: float | None = None
    percent_change_24h: float | None = None
    last_updated: str | None = None


class _Quote(msgspec.Struct):
    usd: _Usd = msgspec.field(name="USD")


class _Market(msgspec.Struct):
    quote: _Quote
    btc_dominance: float | None = None
    eth_dominance: float | None = None


class _Coin(msgspec.Struct):
    quote: _Quote


class _Global(msgspec.Struct):
    data: _Market


class _Coins(msgspec.Struct):
    data: dict[str, _Coin]


_decode_global: Final = msgspec.json.Decoder(_Global).decode
_decode_coins: Final = msgspec.json.Decoder(_Coins).decode


def questions(settings: CoinMarketCapSettings, key: str) -> tuple[Question, ...]:
    prices = tuple(name for coin in COINS for name in (price_of(coin), change_of(coin)))
    whole = get("/v1/global-metrics/quotes/latest?convert=USD", X_CMC_PRO_API_KEY=key)
    each = get(_PRICES, X_CMC_PRO_API_KEY=key)
    return (
        Question("cmc_global", NAME, MARKET, settings.global_interval_s, reader(_decode_global, _market), whole),
        Question("cmc_prices", NAME, prices, settings.prices_interval_s, reader(_decode_coins, _coins), each),
    )


def _market(answer: _Global) -> Readings:
    data, usd = answer.data, answer.data.quote.usd
    values = (
        usd.total_market_cap,
        usd.total_volume_24h,
        usd.total_market_cap_yesterday_percentage_change,
        data.btc_dominance,
        data.eth_dominance,
    )
    return whole_market(values, moment(usd.last_updated))


def _coins(answer: _Coins) -> Readings:
    found: dict[str, Heard] = {}
    for coin, identity in _IDS.items():
        if (one := answer.data.get(identity)) is None:
            continue
        usd = one.quote.usd
        if usd.price is not None and usd.price > 0:
            known = numbers(**{price_of(coin): usd.price, change_of(coin): usd.percent_change_24h})
            found |= {name: Heard(value, moment(usd.last_updated)) for name, value in known.items()}
    return found
