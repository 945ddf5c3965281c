"""The market poller against a local server that speaks Polygon's API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.actors.polling.pollers import CLOSE, KEY, OPEN, Bars, counted, minute, polling, settings
from tests.actors.polling.provider_server import ProviderServer, status
from tests.polling import until

pytestmark = pytest.mark.filterwarnings("ignore:.*(weekday|Series.values).*deprecated")


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as running:
        yield running


async def test_minutes_of_polygon_come_in_pages_from_where_the_first_came(
    tmp_path: Path, server: ProviderServer
) -> None:
    server.minutes["BRK.B"] = [(OPEN - 60, 1, 1, 1, 1, 1), *map(minute, range(25)), (CLOSE, 1, 1, 1, 1, 1)]
    server.page_size = 10
    sink = Bars()
    async with ProviderServer() as stranger:
        server.next_host = stranger.url
        changed = {"provider": "polygon", "symbols": ["BRK.B"], "timeframes": ["1m"]}
        async with polling(settings(tmp_path, server.url, **changed), sink, "polygon") as poller:
            said = await counted(poller, "answered", 2)
        assert stranger.requests == []
    assert said["bars"] == 25
    assert len(sink.tables[0]) == 25
    row = sink.rows()[0]
    assert sink.exchange == "polygon"
    assert (row["volume"], row["quote_volume"], row["trade_count"], row["buy_volume"]) == (100, 1000, 3, None)
    assert all(headers["Authorization"] == f"Bearer {KEY}" for _, _, headers in server.requests)


async def test_pages_are_requests_too_and_keep_within_the_limit(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(i) for i in range(10)]
    server.page_size = 1
    # Nine of them at once, and then 36 a minute.
    changed = {"provider": "polygon", "timeframes": ["1m"], "requests_per_minute": 45}
    async with polling(settings(tmp_path, server.url, **changed), Bars(), "polygon") as poller:
        said = await counted(poller, "answered", 1)
    assert said["bars"] == 10
    times = [at for at, _, _ in server.requests]
    assert times[9] - times[0] > 1.5


async def test_more_pages_than_there_can_be_are_a_failure(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(i) for i in range(100)]
    server.page_size = 1
    changed = {"provider": "polygon", "timeframes": ["1m"]}
    async with polling(settings(tmp_path, server.url, **changed), Bars(), "polygon") as poller:
        said = await counted(poller, "failed", 1)
    assert "more than 10 pages" in said["last_error"]


async def test_the_day_before_and_the_minutes_are_polled_side_by_side(tmp_path: Path, server: ProviderServer) -> None:
    server.minutes["AAPL"] = [minute(0)]
    server.faults["AAPL"] = [status(403, {"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."})]
    sink = Bars()
    changed = {"provider": "polygon", "timeframes": ["1m", "1d"]}
    async with polling(settings(tmp_path, server.url, **changed), sink, "polygon") as poller:
        said = await counted(poller, "answered", 2)
    refused, day = said["symbols"]
    assert (refused["timeframe"], refused["error"]) == ("1m", "403 You are not entitled to this data.")
    assert (day["timeframe"], day["error"], day["price"]) == ("1d", "", 10.5)
    (row,) = sink.rows()
    assert (row["timeframe"], row["time"], row["closed"]) == ("1d", OPEN // 86400 * 86400 * 10**9, True)


async def test_the_key_is_shown_nowhere_whatever_the_provider_says(tmp_path: Path, server: ProviderServer) -> None:
    server.faults[""] = [
        status(401, {"status": "ERROR", "error": f"Unknown API Key {KEY}"}),
        status(403, {"message": f"{KEY} has no plan"}),
        status(200, {"status": KEY}),
    ]
    changed = {"provider": "polygon", "symbols": ["AAPL", "MSFT", "TSLA"], "timeframes": ["1d"]}
    own = settings(tmp_path, server.url, **changed)
    with capture_logs() as logs:
        async with polling(own, Bars(), "polygon") as poller:
            said = await counted(poller, "answered", 1)
            seen = f"{said} {poller!r} {own} {own!r} {logs}"
    assert [log["error"] for log in logs] == [
        "AAPL 1d: the credentials were refused: 401 Unknown API Key ***",
        "MSFT 1d: 403 *** has no plan",
        "TSLA 1d: an answer with status ***: ***",
    ]
    assert KEY not in seen
    assert all(KEY not in path for _, path, _ in server.requests)


@pytest.mark.parametrize(
    ("key", "why"), [(None, "set POLYGON_API_KEY"), ("", "set POLYGON_API_KEY"), ("a b", "letters")]
)
async def test_polygon_without_a_usable_key_is_off_and_says_so(
    tmp_path: Path, server: ProviderServer, key: str | None, why: str
) -> None:
    async with polling(settings(tmp_path, server.url, "polygon", key), Bars(), "polygon") as poller:

        async def off() -> bool:
            return not (await poller.status())["running"]

        await until(off)
        failure = (await poller.status())["failure"]
    assert failure.startswith("polygon is off")
    assert why in failure
    assert server.requests == []
