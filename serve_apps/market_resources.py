"""The resources of the market API, made of whoever knows: the actors of an instance, or what stands for them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa

from config import Settings
from config.node_folder import on_this_node
from serve_apps.alerts import ALERTS, Alerts, AlertsApp
from serve_apps.audit import AUDIT, AuditApp
from serve_apps.auth import METHODS as AUTH_METHODS
from serve_apps.auth import AskAccounts, AuthApp
from serve_apps.bar_series import BarSeries, Query
from serve_apps.books import BOOK, BOOKS, OLD_ROUTE, Books, BooksApp
from serve_apps.cache import Cache
from serve_apps.charts import CHARTS, ChartsApp
from serve_apps.configuration import CONFIGURATION, ConfigurationApp
from serve_apps.consolidated import ARBITRAGE, BBO, ArbitrageApp, Best, BestApp, Episodes
from serve_apps.export_links import EXPORTS, ExportLinksApp
from serve_apps.exports import EXPORT, ExportsApp
from serve_apps.features import FEATURES, FeaturesApp
from serve_apps.guard import AUTH
from serve_apps.health import HEALTH, HealthApp
from serve_apps.integrity import GAPS, INTEGRITY, GapsApp, IntegrityApp
from serve_apps.market import Resource
from serve_apps.other_nodes import Elsewhere, both
from serve_apps.quality import QUALITY, QualityApp
from serve_apps.reports_api import METHODS as REPORT_METHODS
from serve_apps.reports_api import ReportsApi
from serve_apps.reports_publishing import REPORTS
from serve_apps.reports_source import AskReports
from serve_apps.shared_answer import Shared
from serve_apps.subscriptions import SUBSCRIPTIONS, SubscriptionsApp
from serve_apps.symbols_v1 import SYMBOLS, Listing, SymbolsApp, polled_symbols
from serve_apps.trades import TRADES, TradesApp
from storage.column_reader import ColumnReader

#: The best quotes change all the time: who asks again within this time gets the same.
BEST_FRESH_S: Final = 0.1
#: What is collected and what exchanges list changes seldom, and may be long.
LISTED_FRESH_S: Final = 2.0
LOOK: Final = ("GET", "HEAD")


class Supervisor(Protocol):
    """The supervisor, see `actors.supervisor`. `NoAnswer` while it does not answer."""

    async def symbols(self) -> list[dict[str, Any]]: ...
    async def add(self, exchange: str, symbols: list[str]) -> dict[str, str]: ...
    async def remove(self, exchange: str, symbols: list[str]) -> list[str]: ...
    async def status(self) -> dict[str, dict[str, Any]]: ...
    async def configuration(self) -> dict[str, Any]: ...
    async def configuration_versions(self) -> list[dict[str, Any]]: ...
    async def configure(self, values: dict[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]: ...
    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]: ...
    async def integrity(self) -> list[dict[str, Any]]: ...
    async def gaps(self, exchange: str | None, symbol: str | None, open_only: bool) -> list[dict[str, Any]]: ...
    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Actors:
    """Who is asked. `shards(method)` is that method of the shard of (exchange, symbol), its first arguments;
    `instruments` what each exchange lists, None where nobody knows."""

    supervisor: Supervisor
    alerts: Alerts
    shards: Callable[[str], Callable[..., Awaitable[Any]]]
    query: Query
    book: Books
    best: Best
    episodes: Episodes
    instruments: Callable[[], Awaitable[Mapping[str, pa.Table | None]]]
    accounts: AskAccounts
    cache: Cache
    reports: AskReports
    #: What is stored on other nodes.
    elsewhere: Elsewhere | None = None


def resources(settings: Settings, token: str, actors: Actors) -> list[Resource]:
    """All of them; changing something needs `token`."""
    supervisor, polled = actors.supervisor, polled_symbols(settings)
    reader = ColumnReader(on_this_node(settings).columns)

    def stored() -> dict[str, list[str]]:
        own = reader.symbols()
        return own if actors.elsewhere is None else both(own, actors.elsewhere.symbols())

    def symbols() -> dict[str, list[str]]:
        return stored() | polled

    listing = Listing(
        Shared(supervisor.symbols, LISTED_FRESH_S), Shared(actors.instruments, LISTED_FRESH_S), stored, polled
    )
    series = BarSeries(actors.shards("bars"), actors.shards("indicators"), actors.query, actors.cache)
    features = FeaturesApp(actors.shards("features"), actors.shards("features_between"), symbols)
    subscriptions, exports = SubscriptionsApp(supervisor, token), ExportsApp(series, symbols)
    return [
        Resource(CHARTS, LOOK, ChartsApp(series, symbols, listing.called)),
        Resource(TRADES, LOOK, TradesApp(reader, stored, actors.elsewhere)),
        Resource(BOOK, LOOK, BooksApp(actors.book, stored)),
        Resource(BOOKS, LOOK, BooksApp(actors.book, stored, BOOKS), [OLD_ROUTE]),
        Resource(FEATURES, LOOK, features),
        Resource(EXPORTS, (*LOOK, "POST"), ExportLinksApp(exports, token)),
        Resource(EXPORT, LOOK, exports),
        Resource(SYMBOLS, LOOK, SymbolsApp(listing)),
        Resource(SUBSCRIPTIONS, (*LOOK, "POST", "DELETE"), subscriptions),
        Resource(INTEGRITY, LOOK, IntegrityApp(Shared(supervisor.integrity))),
        Resource(GAPS, LOOK, GapsApp(supervisor.gaps)),
        Resource(QUALITY, LOOK, QualityApp(supervisor.quality)),
        Resource(BBO, LOOK, BestApp(Shared(actors.best, BEST_FRESH_S))),
        Resource(ARBITRAGE, LOOK, ArbitrageApp(Shared(actors.episodes, BEST_FRESH_S))),
        Resource(ALERTS, (*LOOK, "POST", "PUT", "DELETE"), AlertsApp(actors.alerts, token)),
        Resource(HEALTH, LOOK, HealthApp(Shared(supervisor.status))),
        Resource(CONFIGURATION, (*LOOK, "PUT", "POST"), ConfigurationApp(supervisor, token)),
        Resource(AUDIT, LOOK, AuditApp(actors.query, token)),
        Resource(AUTH, AUTH_METHODS, AuthApp(actors.accounts)),
        Resource(REPORTS, REPORT_METHODS, ReportsApi(actors.reports, token, update_key(settings))),
    ]


def update_key(settings: Settings) -> str | None:
    """What lets a program publish reports; None: nothing does."""
    key = settings.auto_update_secret_key
    return key.get_secret_value() if key is not None else None
