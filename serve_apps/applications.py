"""The Ray Serve applications of rayfeed: which ASGI application runs where, in how many replicas.

`rayfeed up` deploys them; `serve_config.yaml` names the same builders for `serve deploy`, with the instance's data
folder as their argument.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ray import serve

from actors.own_process import keep_what_there_is
from config import Settings, load
from serve_apps.asgi import Receive, Scope, Send
from serve_apps.asked_actors import Shards, Supervised, SupervisedAlerts, book, listed_by, query, readiness, watched
from serve_apps.auth_actor import ask_accounts, known
from serve_apps.auth_identity import Identities
from serve_apps.data import build as build_data
from serve_apps.fast_lane import FastLane
from serve_apps.guard import Guard, Rules, api_rules, data_rules, page_rules
from serve_apps.market import MarketApp
from serve_apps.market_resources import Actors, resources
from serve_apps.openapi import with_documents
from serve_apps.openapi_routes import ROUTES
from serve_apps.pages import PagesApp
from serve_apps.token import api_token

WEB = Path(__file__).parent / "web" / "dist"

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
        app = _guarded(build_data(settings), data_rules(settings), settings)
        return app if lane_port is None else FastLane(app, lane_port)

    return _application("DataApi", build, settings.serving.data_replicas)


def market_application(settings: Settings) -> Any:
    def build() -> Asgi:
        actors = Actors(
            supervisor=Supervised(),
            alerts=SupervisedAlerts(),
            shards=Shards(settings.shards).ask,
            query=query,
            book=book,
            best=watched("best"),
            episodes=watched("episodes"),
            instruments=listed_by(settings.exchanges),
            accounts=ask_accounts,
        )
        market = MarketApp(resources(settings, api_token(settings), actors))
        return _guarded(market, api_rules(settings), settings)

    return _application("MarketApi", build, settings.serving.market_replicas)


def pages_application(settings: Settings) -> Any:
    def build() -> Asgi:
        return _guarded(with_documents(PagesApp(WEB, readiness), ROUTES), page_rules(settings), settings)

    return _application("Pages", build, settings.serving.page_replicas)


def _guarded(app: Asgi, rules: Rules, settings: Settings) -> Asgi:
    return Guard(app, rules, Identities(known, api_token(settings), time.time_ns), settings.redis.prefix)


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
