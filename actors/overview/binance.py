"""Binance's 24 hour statistics of the seven pairs, in one request
(https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints, weight 2):

    [{"symbol": "BTCUSDT", "priceChangePercent": "-1.234", "lastPrice": "96000.01", "closeTime": 1732268399999, ...}]
"""

from typing import Final

import msgspec

from actors.overview.fields import COINS, change_of, price_of
from actors.overview.question import Heard, Question, Readings, get, reader, seconds
from config.overview_settings import BinanceSettings

NAME: Final = "binance"
_PAIRS: Final = {f"{coin.upper()}USDT": coin for coin in COINS}
# Encoded as it goes over the wire: ["BTCUSDT",...].
_PATH: Final = f"/api/v3/ticker/24hr?symbols=%5B{'%2C'.join(f'%22{pair}%22' for pair in _PAIRS)}%5D"


class _Ticker(msgspec.Struct, rename="camel"):
    symbol: str
    last_price: float
    price_change_percent: float
    close_time: int | None = None


_decode: Final = msgspec.json.Decoder(list[_Ticker], strict=False).decode


def questions(settings: BinanceSettings) -> tuple[Question, ...]:
    fields = tuple(name for coin in COINS for name in (price_of(coin), change_of(coin)))
    return (Question(NAME, NAME, fields, settings.interval_s, reader(_decode, _read), get(_PATH)),)


def _read(tickers: list[_Ticker]) -> Readings:
    found: dict[str, Heard] = {}
    for ticker in tickers:
        # What costs nothing changes by nothing either: neither is believed.
        if (coin := _PAIRS.get(ticker.symbol)) is not None and ticker.last_price > 0:
            as_of = seconds(None if ticker.close_time is None else ticker.close_time / 1000)
            found[price_of(coin)] = Heard(ticker.last_price, as_of)
            found[change_of(coin)] = Heard(ticker.price_change_percent, as_of)
    return found
