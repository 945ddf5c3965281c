"""Pollers for the tests: quick ones, at a time of their own at which New York is open."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from actors.market_poller import MarketPoller
from actors.parcels import Key
from config.settings import Settings, load
from storage.schema import BARS
from tests.actors.polling.provider_server import Row
from tests.polling import until

KEY = "sesame-open-sesame"
#: Of XNYS, in seconds; and the time on the clock when a test begins.
OPEN = int(datetime(2024, 7, 2, 13, 30, tzinfo=UTC).timestamp())
CLOSE = int(datetime(2024, 7, 2, 20, 0, tzinfo=UTC).timestamp())
NOON = OPEN + 7200


def settings(data: Path, url: str, provider: str = "yahoo", key: str | None = KEY, **changed: Any) -> Settings:
    poller: dict[str, Any] = {
        "enabled": True,
        "url": url,
        "symbols": ["AAPL"],
        "requests_per_minute": 60_000,
        "open_interval_s": 0.05,
        "closed_interval_s": 0.05,
        "timeout_s": 5,
        "first_retry_s": 0.05,
        "longest_retry_s": 0.2,
        "breaker": {"failures": 3, "successes": 2, "first_wait_s": 0.3, "longest_wait_s": 0.6},
        **changed,
    }
    return load(data, {"pollers": {provider: poller}, "polygon_api_key": key})


def clock_from(seconds: float) -> Callable[[], int]:
    started = time.monotonic_ns()
    return lambda: int(seconds * 1e9) + time.monotonic_ns() - started


class Bars:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.broken = False

    async def __call__(self, tables: Mapping[Key, pa.Table]) -> None:
        [((kind, exchange), table)] = tables.items()
        assert kind == "bars"
        assert table.schema == BARS
        if self.broken:
            raise ConnectionError("nobody there")
        self.tables.append(table)
        self.exchange = exchange

    def rows(self) -> list[dict[str, Any]]:
        return [row for table in self.tables for row in table.to_pylist()]


@asynccontextmanager
async def polling(
    settings: Settings, sink: Any, provider: Literal["yahoo", "polygon"] = "yahoo", clock_s: float = NOON
) -> AsyncIterator[MarketPoller]:
    poller = MarketPoller(provider, settings, sink, clock_from(clock_s))
    await poller.start()
    try:
        yield poller
    finally:
        await poller.stop()


def minute(number: int, close: float = 10.5, volume: float | None = 100) -> Row:
    return (OPEN + 60 * number, 10.0, 11.0, 9.5, close, volume)


async def counted(poller: MarketPoller, name: str, at_least: int) -> dict[str, Any]:
    """The status when a count of it has reached so much."""
    said: dict[str, Any] = {}

    async def reached() -> bool:
        nonlocal said
        said = await poller.status()
        assert said["running"], said["failure"]
        return bool(said[name] >= at_least)

    await until(reached)
    return said
