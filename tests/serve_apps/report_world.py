"""The pages and the API of reports over a real actor with a real folder; Ray is left out."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

import serve_apps
from actors.reports import Reports
from config import Settings, load
from serve_apps.cache import Cache
from serve_apps.market import MarketApp, Resource
from serve_apps.pages import PagesApp
from serve_apps.reports import ReportsApp
from serve_apps.reports_api import METHODS, ReportsApi
from serve_apps.reports_frame import frame_secret
from serve_apps.reports_publishing import REPORTS
from serve_apps.reports_source import ReportSource
from serve_apps.reports_views import Assets, Views
from tests.polling import until
from tests.serve_apps.asgi_client import Answer, ask

DIST = Path(serve_apps.__file__).parent / "web" / "dist"
TOKEN = "of-the-data-folder"
KEY = "lets-a-program-publish"
BASE = "https://reports.example"
NOON = 1_769_860_800_000_000_000  # 2026-01-31 12:00 UTC
HOUR = 3600


class Clock:
    """Tells ns, and seconds."""

    def __init__(self) -> None:
        self.ns = NOON

    def __call__(self) -> int:
        return self.ns

    def seconds(self) -> float:
        return self.ns / 1e9


class ReportWorld:
    """`asked` counts what was asked of the actor; while `away` is set it does not answer."""

    def __init__(self, data: Path, base_url: str = BASE, **settings: Any) -> None:
        self.settings: Settings = load(data, settings or None)
        self.clock = Clock()
        self.actor = Reports(self.settings, None, self.clock)
        self.asked: list[str] = []
        self.cache = Cache(self.settings.cache, None)
        self.source = ReportSource(self.ask)
        self.views = Views(base_url, Assets.read(DIST))
        self.pages = ReportsApp(
            PagesApp(DIST, _ready), self.source, self.views, self.cache, frame_secret(TOKEN), HOUR, self.clock.seconds
        )
        self.api = MarketApp([Resource(REPORTS, METHODS, ReportsApi(self.ask, TOKEN, KEY))])

    async def ask(self, method: str, *arguments: Any) -> Any:
        self.asked.append(method)
        return await getattr(self.actor, method)(*arguments)

    async def publish(self, title: str = "Báo cáo", **given: Any) -> int:
        """Its number; a minute goes by."""
        said = {"title_vi": title, "html_vi": f"<h2>{title}</h2><p>giá</p>"} | given
        self.clock.ns += 60 * 10**9
        change = (await self.source.news()).change
        published = await self.actor.publish(said, "ada")
        await until(lambda: _is_known(self.source, change + 1))
        return int(published["id"])

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.pages, path, method, headers=sent)

    async def close(self) -> None:
        await self.source.close()
        await self.cache.close()
        await self.actor.stop()


@asynccontextmanager
async def world(data: Path, **options: Any) -> AsyncIterator[ReportWorld]:
    made = ReportWorld(data, **options)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port on loopback where a real server runs `app`, on this event loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await until(lambda: server.started)
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        await serving


async def _is_known(source: ReportSource, change: int) -> bool:
    return (await source.news()).change >= change


async def _ready() -> tuple[bool, dict[str, Any]]:
    return True, {"status": "ready", "feeds": {}}
