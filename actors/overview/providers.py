"""All providers as the settings want them: whom to ask what, where, and which secrets are to be shown to nobody."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.overview import binance, coingecko, coinmarketcap, fear_greed, finnhub, own_feed, taapi
from actors.overview.fields import COINS, RSI, change_of, price_of
from actors.overview.knowledge import Source
from actors.overview.question import Question
from config.overview_settings import OverviewSettings


@dataclass(frozen=True, slots=True)
class Keys:
    """None: that provider is not asked."""

    coinmarketcap: str | None = field(default=None, repr=False)
    taapi: str | None = field(default=None, repr=False)
    finnhub: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Provider:
    url: str
    requests_per_minute: float


@dataclass(frozen=True, slots=True)
class Providers:
    """`questions` in order, the best source of a number first; `off`: those that are not asked, and why."""

    questions: tuple[Question, ...]
    by_name: Mapping[str, Provider]
    off: Mapping[str, str]
    secrets: tuple[str, ...] = field(repr=False)

    def sources(self, settings: OverviewSettings) -> list[Source]:
        """Our own feed, and who is asked where it does not know."""
        coins = (name for coin in COINS for name in (price_of(coin), change_of(coin)))
        own = Source(own_feed.NAME, own_feed.NAME, (*coins, RSI), 2 * settings.interval_s + 5)
        # What is asked for every so often may take its time, and be late once.
        slack = 2 * settings.timeout_s
        return [
            own,
            *(Source(one.name, one.provider, one.fields, 2 * one.interval_s + slack) for one in self.questions),
        ]


def providers(settings: OverviewSettings, keys: Keys, outside: bool) -> Providers:
    """`outside`: whether anybody on the internet is asked at all."""
    known = {
        binance.NAME: settings.binance,
        coingecko.NAME: settings.coingecko,
        coinmarketcap.NAME: settings.coinmarketcap,
        fear_greed.NAME: settings.alternative_me,
        taapi.NAME: settings.taapi,
        finnhub.NAME: settings.finnhub,
    }
    own_keys = {
        coinmarketcap.NAME: ("CMC_API_KEY", keys.coinmarketcap),
        taapi.NAME: ("TAAPI_SECRET", keys.taapi),
        finnhub.NAME: ("FINNHUB_API_KEY", keys.finnhub),
    }
    off: dict[str, str] = {}
    for name, own in known.items():
        variable, key = own_keys.get(name, ("", None))
        if not outside:
            off[name] = "nobody on the internet is asked: overview.outside, or source live"
        elif not own.enabled:
            off[name] = f"switched off: overview.{name.replace('.', '_')}.enabled"
        elif variable and not key:
            off[name] = f"needs a key: set {variable}"
        elif key and not (key.isascii() and key.isprintable() and " " not in key):
            off[name] = f"{variable} has characters that no key has"
    questions = (
        *binance.questions(settings.binance),
        *coingecko.questions(settings.coingecko),
        *coinmarketcap.questions(settings.coinmarketcap, keys.coinmarketcap or ""),
        *fear_greed.questions(settings.alternative_me),
        *taapi.questions(settings.taapi, keys.taapi or ""),
        *finnhub.questions(settings.finnhub, keys.finnhub or ""),
    )
    return Providers(
        tuple(question for question in questions if question.provider not in off),
        {
            name: Provider(own.url.rstrip("/"), own.requests_per_minute)
            for name, own in known.items()
            if name not in off
        },
        off,
        tuple(key for _, key in own_keys.values() if key),
    )
