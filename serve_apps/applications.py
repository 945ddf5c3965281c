"""The Ray Serve applications of rayfeed: which ASGI application runs where, in how many replicas.

`rayfeed up` deploys them; `serve_config.yaml` names the same builders for `serve deploy`, with the instance's data
folder as their argument.
"""

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel
from ray import serve

from actors import logs, tracing
from actors.nodes import address_here, this_node
from actors.own_process import keep_what_there_is
from config import Settings, load
from config.node_folder import on_this_node
from config.scaling_settings import DeploymentScaling, ScalingSettings
from serve_apps.asgi import Asgi, BadRequest
from serve_apps.asked_actors import (
    Shards,
    Supervised,
    SupervisedAlerts,
    book,
    listed_by,
    metrics_text,
    query,
    readiness,
    watched,
)
from serve_apps.at_once import protocol
from serve_apps.auth_actor import ask_accounts, known
from serve_apps.auth_identity import Identities
from serve_apps.cache import Cache
from serve_apps.cache_redis import Shelf
from serve_apps.cache_routes import CacheRoutes
from serve_apps.compressed import Compressed
from serve_apps.data import build as build_data
from serve_apps.fast_lane import LOOPBACK, FastLane, ThroughServe
from serve_apps.guard import Guard, Rules, api_rules, data_rules, page_rules
from serve_apps.live import LiveApp
from serve_apps.live_session import Refused
from serve_apps.live_source import Actors as LiveActors
from serve_apps.market import MarketApp
from serve_apps.market_resources import Actors, resources
from serve_apps.metering import Metered, tell_metrics, watch_cache
from serve_apps.metrics import MetricsRoute
from serve_apps.openapi import with_documents
from serve_apps.openapi_routes import ROUTES
from serve_apps.other_nodes import OtherNodes, both
from serve_apps.overview import ALIAS, SUMMARY, AskedOverview, OverviewRoutes
from serve_apps.pages import PagesApp
from serve_apps.reports import ReportsApp
from serve_apps.reports_frame import frame_secret
from serve_apps.reports_source import ReportSource, ask_reports
from serve_apps.reports_views import Assets, Views, base_url
from serve_apps.scaling import Measured, Replica, replica_options, replica_options_elsewhere
from serve_apps.token import api_token
from storage.column_reader import ColumnReader

WEB = Path(__file__).parent / "web" / "dist"


class Instance(BaseModel):
    """What `serve_config.yaml` tells a builder: the data folder of the instance."""

    data: str = "data"


def data(instance: Instance) -> Any:
    """`/api/data`, `/api/symbols`, `/api/symbol-search`, `/api/status`, and the overview of the market."""
    return data_application(load(instance.data))


def market(instance: Instance) -> Any:
    """`/api/v1/...`."""
    return market_application(load(instance.data))


def live(instance: Instance) -> Any:
    """`/ws`, `/api/v1/stream`: in Serve an application of its own for each of them."""
    return live_application(load(instance.data))


def pages(instance: Instance) -> Any:
    """`/`, the pages of reports, `/healthz`, `/readyz`."""
    return pages_application(load(instance.data))


def data_application(settings: Settings, lane_port: int | None = None, elsewhere: str | None = None) -> Any:
    """With `lane_port`, replicas on this node also answer there, see `serve_apps.fast_lane`. `elsewhere` makes it that
    of the other hosts, each of which answers at that port of its address: it is the token of the instance, which is in
    a file on this one."""

    def build() -> Measured | FastLane:
        data = build_data(settings, listed_by(_enabled(settings)), OtherNodes(settings))
        guard = _guarded(_with_overview(data, settings), data_rules(settings), settings, elsewhere)
        metered = _metered(guard, "data", settings)
        options = {"http": protocol(metered.at_once(data.at_once))} if guard.passes_plain_reads else None
        return _on_lane(Measured(metered), lane_port, settings, options, elsewhere is not None)

    return _application("DataApi", build, settings.scaling, settings.scaling.data, lane_port, elsewhere is not None)


def market_application(settings: Settings, redis_url: str | None = None, lane_port: int | None = None) -> Any:
    """`redis_url`: what the replicas share of their caches. `lane_port` as of `data_application`."""

    def build() -> Measured | FastLane:
        actors = Actors(
            supervisor=Supervised(),
            alerts=SupervisedAlerts(),
            shards=Shards().ask,
            query=query,
            book=book,
            best=watched("best"),
            episodes=watched("episodes"),
            instruments=listed_by(_enabled(settings)),
            accounts=ask_accounts,
            cache=watch_cache(cache_of(settings, redis_url), "market"),
            reports=ask_reports,
            elsewhere=OtherNodes(settings),
        )
        market = MarketApp(resources(settings, api_token(settings), actors))
        guard = _guarded(market, api_rules(settings), settings)
        return _on_lane(Measured(_metered(guard, "market", settings)), lane_port, settings)

    return _application("MarketApi", build, settings.scaling, settings.scaling.market, lane_port)


def live_application(settings: Settings, lane_port: int | None = None, elsewhere: str | None = None) -> Any:
    """WebSockets need the lane where HAProxy is in Serve's hands: with `lane_port`, replicas on this node also answer
    there. Its own clients say who they are in the address or a message, so nobody stands before it. `elsewhere` as of
    `data_application`."""

    def build() -> Measured | FastLane:
        stored, others = ColumnReader(on_this_node(settings).columns).symbols, OtherNodes(settings)

        def symbols() -> dict[str, list[str]]:
            return both(stored(), others.symbols())

        identities = _identities(settings, elsewhere)

        async def authenticate(token: str | None) -> float | None:
            try:
                return await identities.admit(token, not settings.security.reads_are_public)
            except BadRequest as error:
                raise Refused(str(error)) from None

        live = LiveApp(settings.live_feed, LiveActors(symbols), symbols, authenticate, settings.security.production)
        app = Measured(_metered(live, "live", settings))
        # Addresses may hold tokens: what is not a warning is not logged. The application counts its connections.
        options = {
            "ws": "websockets-sansio",
            "ws_max_size": settings.live_feed.max_message_bytes,
            "ws_per_message_deflate": False,
            "limit_concurrency": None,
            "log_level": "warning",
        }
        return _on_lane(app, lane_port, settings, options, elsewhere is not None)

    streams, own = settings.live_feed.max_connections, settings.scaling.live
    return _application("LiveFeed", build, settings.scaling, own, lane_port, elsewhere is not None, streams)


def pages_application(settings: Settings, redis_url: str | None = None, lane_port: int | None = None) -> Any:
    """With what all replicas' caches tell in Redis at `redis_url`. `lane_port` as of `data_application`."""

    def build() -> Measured | FastLane:
        cache = watch_cache(cache_of(settings, redis_url), "pages")
        pages = with_documents(PagesApp(WEB, readiness), ROUTES)
        reports = ReportsApp(
            pages,
            ReportSource(ask_reports),
            Views(base_url(settings), Assets.read(WEB)),
            cache,
            frame_secret(api_token(settings)),
            settings.pages.frame_s,
        )
        routes = CacheRoutes(reports, cache, functools.partial(api_token, settings))
        app = Compressed(MetricsRoute(routes, metrics_text, settings.metrics.networks))
        guard = _guarded(app, page_rules(settings), settings)
        return _on_lane(Measured(_metered(guard, "pages", settings)), lane_port, settings)

    return _application("Pages", build, settings.scaling, settings.scaling.pages, lane_port)


def _with_overview(app: Asgi, settings: Settings) -> Asgi:
    """The overview lies below `/api`, where Serve and the edge know the data application alone."""
    own = settings.overview
    if not own.enabled:
        return app
    return Compressed(OverviewRoutes(app, AskedOverview(), max(60.0, 3 * own.interval_s)), paths=(SUMMARY, ALIAS))


def _enabled(settings: Settings) -> list[str]:
    return [name for name, exchange in settings.exchanges.items() if exchange.enabled]


def _guarded(app: Asgi, rules: Rules, settings: Settings, token: str | None = None) -> Guard:
    return Guard(app, rules, _identities(settings, token), settings.redis.prefix)


def _metered(app: Asgi, application: str, settings: Settings) -> Metered:
    if ray.is_initialized():  # as in every replica
        logs.begin(application, settings.logs)
        tracing.begin(application, settings.tracing)
    return Metered(app, application, settings.metrics.interval_s, tell_metrics)


def _on_lane(
    app: Measured,
    lane_port: int | None,
    settings: Settings,
    options: Mapping[str, Any] | None = None,
    elsewhere: bool = False,
) -> Measured | FastLane:
    if lane_port is None:
        return app
    host = address_here() if elsewhere else LOOPBACK
    return FastLane(app, lane_port, settings.scaling.drain_s, options, host)


def beside_the_edge() -> dict[str, Any]:
    """Options of an actor that has to run on the node of this process: lanes listen on loopback, where the edge is."""
    return {"label_selector": {"ray.io/node-id": this_node()}}


def not_here() -> dict[str, Any]:
    """Options of an actor that has to run on any other node than this process."""
    return {"label_selector": {"ray.io/node-id": f"!{this_node()}"}}


def _identities(settings: Settings, token: str | None = None) -> Identities:
    return Identities(known, token or api_token(settings), time.time_ns)


def cache_of(settings: Settings, redis_url: str | None) -> Cache:
    """The cache of a replica; without the URL of a Redis its memory alone."""
    url = redis_url or settings.redis_url
    shelf = Shelf(url, settings.redis.prefix, settings.cache.lease_s) if url else None
    return Cache(settings.cache, shelf)


def _application(
    name: str,
    build: Callable[[], Measured | FastLane],
    scaling: ScalingSettings,
    own: DeploymentScaling,
    lane_port: int | None,
    elsewhere: bool = False,
    streams: int = 0,
) -> Any:
    """With `streams` a replica has as many WebSockets and event streams beside its other requests, where they come
    through Serve: whoever is one too many there waits, and hears nothing."""

    def build_and_keep() -> ThroughServe:
        app = ThroughServe(build())
        keep_what_there_is()
        return app

    where = not_here() if elsewhere else beside_the_edge() if lane_port is not None else {}
    deployment = serve.deployment(
        serve.ingress(build_and_keep)(Replica),
        name=name,
        max_ongoing_requests=1000 + streams,
        # A killed replica is noticed at the next check: with Serve's ten seconds its clients wait as long.
        health_check_period_s=1,
        ray_actor_options={"num_cpus": 0, **where},
        logging_config={"enable_access_log": False},
        **(replica_options_elsewhere(scaling, own, this_node()) if elsewhere else replica_options(scaling, own)),
    )
    return deployment.bind()
