"""What the overview of the market is made of: whose numbers, where they are, and how often they are asked for."""

from typing import Annotated, Literal

from pydantic import Field

from config.breaker_settings import BreakerSettings
from config.part import Part, Positive

Coin = Literal["btc", "eth", "bnb", "sol", "xrp", "ada", "link"]
#: An exchange and one of its symbols.
Market = Annotated[str, Field(pattern=r"^[a-z]{2,20}:[A-Za-z0-9][A-Za-z0-9_:/.\-]{0,99}$")]
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
Interval = Annotated[float, Field(gt=0, le=86400)]


class ProviderSettings(Part):
    """Somebody who is asked over REST."""

    enabled: bool = True
    url: Url
    requests_per_minute: Positive


class BinanceSettings(ProviderSettings):
    url: Url = "https://api.binance.com"
    requests_per_minute: Positive = 30
    interval_s: Interval = 5


class CoinGeckoSettings(ProviderSettings):
    url: Url = "https://api.coingecko.com"
    requests_per_minute: Positive = 10
    global_interval_s: Interval = 3600
    prices_interval_s: Interval = 30


class CoinMarketCapSettings(ProviderSettings):
    """Needs CMC_API_KEY."""

    url: Url = "https://pro-api.coinmarketcap.com"
    requests_per_minute: Positive = 10
    global_interval_s: Interval = 3600
    prices_interval_s: Interval = 300


class FearGreedSettings(ProviderSettings):
    url: Url = "https://api.alternative.me"
    requests_per_minute: Positive = 10
    interval_s: Interval = 300


class TaapiSettings(ProviderSettings):
    """Needs TAAPI_SECRET."""

    url: Url = "https://api.taapi.io"
    requests_per_minute: Positive = 4
    interval_s: Interval = 10800


class FinnhubSettings(ProviderSettings):
    """Needs FINNHUB_API_KEY."""

    url: Url = "https://finnhub.io"
    requests_per_minute: Positive = 30
    interval_s: Interval = 300


class StaleSettings(Part):
    """A value that was not heard again for so long is stale, in seconds."""

    prices: Interval = 60
    market: Interval = 7200
    fear_greed: Interval = 900
    rsi: Interval = 21600
    indices: Interval = 900


def _coins() -> dict[Coin, list[Market]]:
    return {
        "btc": ["binance:BTCUSDT", "coinbase:BTC-USD", "kraken:BTC/USD", "okx:BTC-USDT", "bitfinex:tBTCUSD"],
        "eth": ["binance:ETHUSDT", "coinbase:ETH-USD", "kraken:ETH/USD", "okx:ETH-USDT", "bitfinex:tETHUSD"],
        "bnb": ["binance:BNBUSDT"],
        "sol": ["binance:SOLUSDT", "coinbase:SOL-USD", "kraken:SOL/USD"],
        "xrp": ["binance:XRPUSDT", "coinbase:XRP-USD", "kraken:XRP/USD"],
        "ada": ["binance:ADAUSDT", "coinbase:ADA-USD"],
        "link": ["binance:LINKUSDT", "coinbase:LINK-USD"],
    }


class OverviewSettings(Part):
    """See docs/market_indicators.md."""

    enabled: bool = True
    #: Whether anybody on the internet is asked; None: with source live alone.
    outside: bool | None = None
    #: Our own feed is asked and the whole is told this often.
    interval_s: Interval = 5
    #: Whose prices are a coin's, the first that trades.
    coins: dict[Coin, list[Market]] = Field(default_factory=_coins)
    #: Of a provider's whole answer.
    timeout_s: Interval = 8
    #: After a failure, doubled for each further one; and the most that is added to any wait, as a part of it.
    first_retry_s: Interval = 10
    longest_retry_s: Interval = 300
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.1
    breaker: BreakerSettings = BreakerSettings()
    stale_after_s: StaleSettings = StaleSettings()
    #: Where several instances share a Redis, one asks for all; when it is not heard of for so long, another does.
    lease_s: Annotated[float, Field(ge=0.1, le=60)] = 10

    binance: BinanceSettings = BinanceSettings()
    coingecko: CoinGeckoSettings = CoinGeckoSettings()
    coinmarketcap: CoinMarketCapSettings = CoinMarketCapSettings()
    alternative_me: FearGreedSettings = FearGreedSettings()
    taapi: TaapiSettings = TaapiSettings()
    finnhub: FinnhubSettings = FinnhubSettings()
