import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest

from config.cache_settings import CacheSettings
from serve_apps.asgi import Receive, Scope, Send, send_whole
from serve_apps.cache import SHORT_TERM, Cache
from serve_apps.cache_history import BLOCK, cached_history
from serve_apps.cache_redis import Shelf
from serve_apps.cache_routes import CacheRoutes
from storage.schema import BARS
from tests.polling import until
from tests.servers import RedisServer

MINUTE = 60_000_000_000
TOKEN = "a-token-of-the-tests"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[Cache]:
    one = Cache(CacheSettings(), Shelf(server.url, "", 2, patience_s=5))
    await one.forget_below("")
    await until(lambda: one.counts()["hears_redis"])
    yield one
    await one.close()


async def asked(app: CacheRoutes, method: str, target: str, token: str | None = None) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": headers}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    await send_whole(send, 200, (), b'"other"')


def routes(cache: Cache) -> CacheRoutes:
    return CacheRoutes(other, cache, lambda: TOKEN)


async def answer() -> bytes:
    return b"answer"


async def test_stats_are_what_was_counted(cache: Cache) -> None:
    app = routes(cache)
    for _ in range(4):
        await cache.get("key", answer, SHORT_TERM)

    async def told() -> bool:
        status, said = await asked(app, "GET", "/cache-stats")
        assert status == 200
        return bool(said["total"].get("asked") == 4)

    await until(told)
    _, said = await asked(app, "GET", "/cache-stats")
    assert (said["redis"], said["replicas"], said["hit_rate"]) == (True, 1, 0.75)
    assert (said["total"]["made"], said["total"]["from_memory"], said["total"]["entries"]) == (1, 3, 1)
    assert said["strategies"]["LongTerm"] == {"fresh_s": 10800, "stale_s": 10800}


async def test_clearing_needs_the_token_and_a_post(cache: Cache) -> None:
    app = routes(cache)
    assert (await asked(app, "GET", "/clear-cache"))[0] == 405
    assert (await asked(app, "POST", "/cache-stats"))[0] == 405
    for token in (None, "wrong"):
        status, said = await asked(app, "POST", "/clear-cache", token)
        assert status == 401
        assert TOKEN not in json.dumps(said)
    await cache.get("a:1", answer, SHORT_TERM)
    await cache.get("b:1", answer, SHORT_TERM)
    assert (await asked(app, "POST", "/clear-cache?other=1", TOKEN))[0] == 400
    said = await asked(app, "POST", "/clear-cache?prefix=a:", TOKEN)
    assert said == (200, {"cleared": "a:", "removed_from_redis": 1})
    said = await asked(app, "POST", "/clear-cache", TOKEN)
    assert said == (200, {"cleared": "everything", "removed_from_redis": 1})


async def test_without_redis_clearing_says_what_it_could_not_do() -> None:
    alone = Cache(CacheSettings(), None)
    status, said = await asked(routes(alone), "POST", "/clear-cache", TOKEN)
    assert status == 503
    assert "only the memory of one replica" in said["detail"]
    status, said = await asked(routes(alone), "GET", "/cache-stats")
    assert (status, said["redis"], said["replicas"], said["hit_rate"]) == (200, False, None, None)


async def test_everything_else_is_answered_by_the_application(cache: Cache) -> None:
    assert await asked(routes(cache), "GET", "/cache-stats/x") == (200, "other")


class Database:
    """Minutes of bars from the first one on, and how often it was asked."""

    def __init__(self, bars: int) -> None:
        self.bars = bars
        self.asked = 0

    async def stored(self, exchange: str, symbol: str, timeframe: str, limit: int, before_ns: int | None) -> pa.Table:
        self.asked += 1
        times = [bar * MINUTE for bar in range(self.bars) if before_ns is None or bar * MINUTE < before_ns][-limit:]
        values = {name: [0] * len(times) for name in BARS.names}
        values |= {"symbol": [symbol] * len(times), "timeframe": [timeframe] * len(times), "time": times}
        columns = [pa.array(values[field.name]).cast(field.type) for field in BARS]
        return pa.Table.from_arrays(columns, schema=BARS)


@pytest.mark.parametrize("limit", [1, 10, BLOCK, 2 * BLOCK])
async def test_history_is_the_same_bars_and_is_asked_for_once_while_the_chart_moves_on(
    cache: Cache, limit: int
) -> None:
    database = Database(5 * BLOCK)
    bars = cached_history(database.stored, cache)
    symbol = f"BTCUSDT{limit}"
    first = 3 * BLOCK + 20
    for bar in (first, first + 1, first + 7):
        found = await bars("binance", symbol, "1m", limit, bar * MINUTE)
        expected = await database.stored("binance", symbol, "1m", limit, bar * MINUTE)
        assert found.cast(BARS).equals(expected)
    assert database.asked == 1 + 3, "three times by this test"


async def test_where_nothing_is_stored_that_is_remembered(cache: Cache) -> None:
    database = Database(0)
    bars = cached_history(database.stored, cache)
    for _ in range(3):
        found = await bars("binance", "EMPTY", "1m", 10, 1000 * MINUTE)
        assert (found.num_rows, found.schema) == (0, BARS)
    assert database.asked == 1


async def test_the_newest_bars_of_a_symbol_without_live_ones_are_not_kept(cache: Cache) -> None:
    database = Database(3)
    bars = cached_history(database.stored, cache)
    for _ in range(2):
        assert (await bars("binance", "OLD", "1m", 10, None)).num_rows == 3
    assert database.asked == 2
