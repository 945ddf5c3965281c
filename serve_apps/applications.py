"""The Ray Serve applications of rayfeed: which ASGI application runs where, in how many replicas.

`rayfeed up` deploys them; `serve_config.yaml` names the same builders for `serve deploy`, with the instance's data
folder as their argument.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel
from ray import serve

from actors.directory import DATABASE, collector_name, shard_name, shard_of
from actors.own_process import keep_what_there_is
from config import Settings, load
from serve_apps.alerts import ALERTS, AlertsApp
from serve_apps.asgi import Receive, Scope, Send
from serve_apps.asked_actors import Supervised, SupervisedAlerts, actor, answer_of, readiness, watched
from serve_apps.books import BOOKS, BooksApp
from serve_apps.charts import CHARTS, ChartsApp, live_then_stored
from serve_apps.consolidated import ARBITRAGE, BBO, ArbitrageApp, BestApp
from serve_apps.data import build as build_data
from serve_apps.fast_lane import FastLane
from serve_apps.features import FEATURES, FeaturesApp
from serve_apps.integrity import GAPS, INTEGRITY, GapsApp, IntegrityApp
from serve_apps.market import MarketApp, Resource
from serve_apps.pages import PagesApp
from serve_apps.quality import QUALITY, QualityApp
from serve_apps.shared_answer import Shared
from serve_apps.subscriptions import SUBSCRIPTIONS, SubscriptionsApp
from serve_apps.token import api_token
from storage.column_reader import ColumnReader

WEB = Path(__file__).parent / "web" / "dist"
#: The best quotes change all the time: who asks again within this time gets the same.
BEST_FRESH_S = 0.1

Asgi = Callable[[Scope, Receive, Send], Any]


class Instance(BaseModel):
    """What `serve_config.yaml` tells a builder: the data folder of the instance."""

    data: str = "data"


def data(instance: Instance) -> Any:
    """`/api/data`, `/api/symbols`."""
    return data_application(load(instance.data))


def market(instance: Instance) -> Any:
    """`/api/v1/...`."""
    return market_application(load(instance.data))


def pages(instance: Instance) -> Any:
    """`/`, `/healthz`, `/readyz`."""
    return pages_application(load(instance.data))


def data_application(settings: Settings, lane_port: int | None = None) -> Any:
    """With `lane_port`, replicas on this node also answer there, see `serve_apps.fast_lane`."""

    def build() -> Asgi:
        app = build_data(settings)
        return app if lane_port is None else FastLane(app, lane_port)

    return _application("DataApi", build, settings.serving.data_replicas)


def market_application(settings: Settings) -> Any:
    def build() -> Asgi:
        async def live(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            bars: pa.RecordBatch = await shard.bars.remote(exchange, symbol, timeframe, limit)
            return bars

        async def indicators(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            said: pa.RecordBatch = await shard.indicators.remote(exchange, symbol, timeframe, limit)
            return said

        async def newest(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            found: pa.RecordBatch = await answer_of(shard.features.remote(exchange, symbol, timeframe, limit))
            return found

        async def between(exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
            shard = actor(shard_name(shard_of(exchange, symbol, settings.shards)))
            asked = shard.features_between.remote(exchange, symbol, timeframe, from_ns, before_ns)
            found: pa.RecordBatch = await answer_of(asked)
            return found

        async def stored(exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None) -> pa.Table:
            bars: pa.Table = await actor(DATABASE).bars.remote(exchange, symbol, timeframe, limit, before_ns)
            return bars

        async def book(exchange: str, symbol: str, levels: int | None) -> pa.RecordBatch:
            try:
                collector = actor(collector_name(exchange))
            except ValueError:
                raise KeyError(exchange) from None
            found: list[pa.RecordBatch] = await collector.book.remote([symbol], levels)
            if not found:
                raise KeyError(symbol)
            return found[0]

        symbols = ColumnReader(settings.columns).symbols
        charts = ChartsApp(live_then_stored(live, stored), indicators, symbols)
        supervised = Supervised()
        token = api_token(settings)
        changes = SubscriptionsApp(supervised, token)
        return MarketApp(
            [
                Resource(CHARTS, ("GET", "HEAD"), charts),
                Resource(FEATURES, ("GET", "HEAD"), FeaturesApp(newest, between, symbols)),
                Resource(BOOKS, ("GET", "HEAD"), BooksApp(book)),
                Resource(SUBSCRIPTIONS, ("GET", "HEAD", "POST", "DELETE"), changes),
                Resource(INTEGRITY, ("GET", "HEAD"), IntegrityApp(Shared(supervised.integrity))),
                Resource(GAPS, ("GET", "HEAD"), GapsApp(supervised.gaps)),
                Resource(QUALITY, ("GET", "HEAD"), QualityApp(supervised.quality)),
                Resource(BBO, ("GET", "HEAD"), BestApp(Shared(watched("best"), BEST_FRESH_S))),
                Resource(ARBITRAGE, ("GET", "HEAD"), ArbitrageApp(Shared(watched("episodes"), BEST_FRESH_S))),
                Resource(ALERTS, ("GET", "HEAD", "POST", "PUT", "DELETE"), AlertsApp(SupervisedAlerts(), token)),
            ]
        )

    return _application("MarketApi", build, settings.serving.market_replicas)


def pages_application(settings: Settings) -> Any:
    def build() -> Asgi:
        return PagesApp(WEB, readiness)

    return _application("Pages", build, settings.serving.page_replicas)


def _application(name: str, build: Callable[[], Asgi], replicas: int) -> Any:
    def build_and_keep() -> Asgi:
        app = build()
        keep_what_there_is()
        return app

    deployment = serve.deployment(
        serve.ingress(build_and_keep)(),
        name=name,
        num_replicas=replicas,
        max_ongoing_requests=1000,
        graceful_shutdown_timeout_s=2,
        ray_actor_options={"num_cpus": 0},
        logging_config={"enable_access_log": False},
    )
    return deployment.bind()
