"""REST requests against a real server that refuses, rests and breaks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp.web
import pytest

from actors import rest_client
from actors.feeds.feed import RestRequest
from actors.request_budget import RequestBudget
from actors.rest_client import RestClient, RestError
from tests.polling import until


@asynccontextmanager
async def server(answer: Callable[[aiohttp.web.Request], Awaitable[aiohttp.web.StreamResponse]]) -> AsyncIterator[str]:
    application = aiohttp.web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def test_an_answer_is_its_body_and_the_query_arrives() -> None:
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=request.query_string.encode())

    async with server(answer) as url, RestClient(url, RequestBudget(600)) as client:
        assert await client.get(RestRequest("/depth?symbol=BTCUSDT&limit=5")) == b"symbol=BTCUSDT&limit=5"


async def test_retry_after_is_kept_to_and_then_the_request_works() -> None:
    asked: list[float] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append(time.monotonic())
        if len(asked) == 1:
            return aiohttp.web.Response(status=429, headers={"Retry-After": "2"})
        return aiohttp.web.Response(body=b"yes")

    async with server(answer) as url, RestClient(url, RequestBudget(600)) as client:
        assert await client.get(RestRequest("/")) == b"yes"
    assert asked[1] - asked[0] >= 2.0


async def test_a_failing_server_is_tried_again_and_a_refusal_is_not() -> None:
    asked: list[str] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        asked.append(request.path)
        if request.path == "/flaky":
            return aiohttp.web.Response(status=200 if asked.count("/flaky") == 3 else 503, body=b"at last")
        return aiohttp.web.Response(status=400, body=b'{"code":-1121,"msg":"Invalid symbol."}')

    async with server(answer) as url, RestClient(url, RequestBudget(6000)) as client:
        assert await client.get(RestRequest("/flaky")) == b"at last"
        with pytest.raises(RestError, match="Invalid symbol"):
            await client.get(RestRequest("/refused"))
    assert asked.count("/refused") == 1


async def test_an_exchange_that_is_away_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "FIRST_RETRY_S", 0.01)
    async with RestClient("http://127.0.0.1:1", RequestBudget(6000)) as client:
        with pytest.raises(RestError, match=r"/depth: .*127\.0\.0\.1"):
            await client.get(RestRequest("/depth"))


async def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest_client, "MAX_BODY_BYTES", 1 << 20)

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        response = aiohttp.web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b"x" * (1 << 16))
        return response

    async with server(answer) as url, RestClient(url, RequestBudget(6000)) as client:
        with pytest.raises(RestError, match="more than 1 MB"):
            await client.get(RestRequest("/"))


async def test_used_weight_the_exchange_reports_is_taken_into_account() -> None:
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(body=b"ok", headers={"X-MBX-USED-WEIGHT-1M": "1199"})

    budget = RequestBudget(1200)
    async with server(answer) as url, RestClient(url, budget) as client:
        await client.get(RestRequest("/"))
    assert budget.take(50, time.monotonic()) > 0


async def test_live_requests_come_before_spare_ones_however_many_wait() -> None:
    answered: list[str] = []

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        answered.append(request.path)
        return aiohttp.web.Response(body=b"yes")

    budget = RequestBudget(1200)
    async with server(answer) as url, RestClient(url, budget) as client:
        assert budget.take(240, time.monotonic()) == 0.0
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(client.get(RestRequest("/past", 4), spare=True))
            await asyncio.sleep(0.05)
            for _ in range(5):
                tasks.create_task(client.get(RestRequest("/live", 4)))
            await until(lambda: answered.count("/live") == 5)
            assert answered == ["/live"] * 5
            for task in tuple(asyncio.all_tasks() - {asyncio.current_task()}):
                if "RestClient.get" in str(task.get_coro()):
                    task.cancel()
    assert budget.waiting == 0


async def test_an_error_that_will_pass_is_told_from_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=int(request.path[1:]))

    async with server(answer) as url, RestClient(url, RequestBudget(6000)) as client:
        for status, passing in ((503, True), (400, False), (429, True)):
            with pytest.raises(RestError) as raised:
                await client.get(RestRequest(f"/{status}"), attempts=1)
            assert raised.value.passing is passing
