"""The overview over HTTP: what is known, what it is called, and what is said when nobody answers."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from actors.overview.fields import FIELDS, Quote
from actors.overview.knowledge import Known
from actors.overview.summary import summary
from serve_apps.asgi import serve_lifespan
from serve_apps.guard import data_rules
from serve_apps.overview import ALIAS, CACHED, LIMITS, REFRESH, SUMMARY, OverviewRoutes
from serve_apps.shared_answer import NoAnswer
from tests.serve_apps.asgi_client import ask, check_problem
from tests.serve_apps.conftest import fetch, serving
from tests.serve_apps.guarded import Guarded

NOW = 1_732_268_400
READ = (SUMMARY, ALIAS, CACHED)


def said(now_s: float = NOW, fear_greed: float | None = 40.0, rsi: float | None = 71.5) -> dict[str, Any]:
    values: dict[str, Any] = {name: 10.0 for name in FIELDS if not name.startswith("us_")}
    values |= {name: Quote(590.1, 1.2, 0.2) for name in FIELDS if name.startswith("us_")}
    values |= {"fng_value": fear_greed, "btc_rsi_14": rsi}
    known = {
        name: None if value is None else Known(value, "binance", int(now_s * 1e9), False)
        for name, value in values.items()
    }
    return summary(known, int(now_s * 1e9), 0.2)


class Told:
    """An overview that knows `summary`, or does not answer."""

    def __init__(self, summary: dict[str, Any] | None) -> None:
        self.known = summary
        self.answers = True
        self.asked = 0
        self.wait_s = 0.0

    async def summary(self) -> dict[str, Any] | None:
        self.asked += 1
        if not self.answers:
            raise NoAnswer("The actors that know do not answer now; ask again in a moment.")
        return self.known

    async def refresh(self) -> tuple[float, dict[str, Any] | None]:
        return (self.wait_s, None) if self.wait_s else (0.0, await self.summary())

    async def limits(self) -> dict[str, Any]:
        return {"rate_limit_status": {}, "role": "leader", "providers": {}, "off": {}, "server_info": {}}


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


async def beneath(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def routes(told: Told, clock: Clock | None = None) -> OverviewRoutes:
    clock = clock or Clock()
    return OverviewRoutes(beneath, told, 60, clock, clock)


@pytest.mark.parametrize("path", READ)
async def test_what_is_known_is_told_with_what_the_values_are_called(path: str) -> None:
    answer = await ask(routes(Told(said())), path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "public, max-age=1, s-maxage=5"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.json == {**said(), "fng_band": "fear", "rsi_band": "overbought"}


async def test_what_nobody_knows_is_called_nothing() -> None:
    answer = await ask(routes(Told(said(fear_greed=None, rsi=None))), SUMMARY)
    assert (answer.json["fng_value"], answer.json["fng_band"], answer.json["rsi_band"]) == (None, None, None)


async def test_who_has_it_already_does_not_get_it_again() -> None:
    app = routes(Told(said()))
    first = await ask(app, SUMMARY)
    etag = first.headers["etag"]
    for known in (etag, f'W/{etag}, "x"', "*"):
        again = await ask(app, SUMMARY, headers={"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"] == first.headers["cache-control"]
    assert (await ask(app, SUMMARY, headers={"If-None-Match": '"x"'})).status == 200


async def test_another_summary_has_another_tag() -> None:
    told = Told(said())
    first, other = await ask(routes(told), SUMMARY), await ask(routes(Told(said(NOW + 5))), SUMMARY)
    assert first.headers["etag"] != other.headers["etag"]
    # All replicas have the same one of the same.
    assert (await ask(routes(Told(said())), ALIAS)).headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("path", [*READ, REFRESH])
async def test_while_nothing_is_known_it_says_so(path: str) -> None:
    await check_problem(routes(Told(None)), path, 503, "Nothing is known of the market yet")
    answer = await ask(routes(Told(None)), path)
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("1", "no-store")


async def test_when_nobody_answers_what_was_heard_last_is_told_and_soon_called_stale() -> None:
    told, clock = Told(said()), Clock()
    app = routes(told, clock)
    assert (await ask(app, SUMMARY)).status == 200
    told.answers = False
    clock.now += 30
    assert (await ask(app, SUMMARY)).json["partial_failure"] is False
    clock.now += 31
    for path in READ:
        answer = await ask(app, path)
        assert answer.status == 200
        assert answer.json["partial_failure"]
        assert "does not answer" in answer.json["note"]
        assert all(one["stale"] for one in answer.json["fields"].values())
        assert answer.json["btc_price_usd"] == 10.0
        assert answer.json["timestamp"] == said()["timestamp"]
    # It is back.
    told.answers, told.known = True, said(clock.now)
    clock.now += 1
    assert (await ask(app, SUMMARY)).json["partial_failure"] is False


async def test_an_actor_that_answers_with_an_old_summary_fools_nobody() -> None:
    clock = Clock()
    clock.now += 120
    answer = await ask(routes(Told(said()), clock), SUMMARY)
    assert answer.json["partial_failure"]
    assert all(one["stale"] for one in answer.json["fields"].values())


async def test_when_nobody_ever_answered_there_is_nothing_to_tell() -> None:
    told = Told(said())
    told.answers = False
    await check_problem(routes(told), SUMMARY, 503, "do not answer now")


async def test_many_who_ask_at_once_are_one_question_and_the_cached_one_is_none() -> None:
    told, clock = Told(said()), Clock()
    app = routes(told, clock)
    await asyncio.gather(*(ask(app, SUMMARY) for _ in range(50)))
    assert told.asked == 1
    clock.now += 4
    await ask(app, CACHED)
    assert told.asked == 1
    clock.now += 2
    await ask(app, CACHED)
    assert told.asked == 2


async def test_a_refresh_is_asked_for_either_way_and_kept_by_nobody() -> None:
    for method in ("GET", "POST"):
        answer = await ask(routes(Told(said())), REFRESH, method)
        assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
        assert (answer.json["status"], answer.json["data"]["fng_band"]) == ("success", "fear")


async def test_who_refreshes_too_often_is_told_when_to_go_on() -> None:
    told = Told(said())
    told.wait_s = 7.2
    answer = await ask(routes(told), REFRESH)
    assert (answer.status, answer.headers["retry-after"]) == (429, "8")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "go on in 8 s" in answer.json["detail"]


async def test_where_reading_needs_a_token_asking_anew_needs_one_too(tmp_path: Path) -> None:
    system = await Guarded(tmp_path, public_reads=False).begin()
    told = Told(said())
    app = system.guarded(OverviewRoutes(beneath, told), data_rules(system.settings))
    for path, method in ((SUMMARY, "GET"), (REFRESH, "POST")):
        answer = await ask(app, path, method)
        assert answer.status == 401
    await system.end()
    assert told.asked == 0


async def test_how_it_stands_with_providers_has_the_time_it_was_said() -> None:
    answer = await ask(routes(Told(None)), LIMITS)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")
    assert datetime.fromisoformat(answer.json["timestamp"]) == datetime.fromtimestamp(NOW, UTC)
    assert answer.json["role"] == "leader"


@pytest.mark.parametrize("path", [*READ, REFRESH, LIMITS])
async def test_what_is_asked_wrongly_is_refused(path: str) -> None:
    app = routes(Told(said()))
    await check_problem(app, f"{path}?force=1", 400, "There is no force here")
    answer = await ask(app, path, "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST" if path == REFRESH else "GET, HEAD")
    assert (await ask(app, path, "OPTIONS")).status == 200


async def test_everything_else_is_for_the_application_beneath() -> None:
    for path in ("/", "/api/data", f"{SUMMARY}/", "/api/crypto", "/api/crypto_reports/1/sandboxed"):
        answer = await ask(routes(Told(said())), path)
        assert (answer.status, answer.body) == (418, path.encode())


def test_on_a_real_server_it_is_one_json_object_and_head_has_no_body() -> None:
    with serving(routes(Told(said()))) as port:
        answer = fetch(port, SUMMARY)
        assert (answer.status, answer.json["btc_price_usd"]) == (200, 10.0)
        assert fetch(port, SUMMARY, headers={"If-None-Match": answer.headers["etag"]}).status == 304
        head = fetch(port, SUMMARY, "HEAD")
        assert (head.status, head.body, head.headers["etag"]) == (200, b"", answer.headers["etag"])
