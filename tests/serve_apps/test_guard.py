"""What stands before every application: sizes, times, origins, limits, and what browsers are told."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config import SettingsError, load
from serve_apps.asgi import Receive, Scope, Send, read_body, send_whole
from serve_apps.bodies import HEADERS, JSON, send_json
from serve_apps.client_address import client_of
from serve_apps.guard import ALIVE, api_rules, data_rules, page_rules
from serve_apps.market import Resource
from tests.polling import until
from tests.serve_apps.asgi_client import ask
from tests.serve_apps.conftest import serving
from tests.serve_apps.guarded import TOKEN, Guarded
from tests.servers import RedisServer

PATH = "/api/v1/things"
FAR, FARTHER = "192.0.2.1", "192.0.2.2"


async def things(scope: Scope, receive: Receive, send: Send) -> None:
    query = scope["query_string"]
    if query == b"slow":
        await asyncio.Event().wait()
    if query == b"own-timeout":
        raise TimeoutError
    if scope["method"] == "POST":
        await read_body(receive, 10**9)
    if query == b"slow-body":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": b"whole"})
        return
    if query == b"public":
        await send_whole(send, 200, [JSON, (b"cache-control", b"public, max-age=60, immutable")], b"{}")
        return
    await send_json(send, {"things": 1})


THINGS = Resource(PATH, ("GET", "HEAD", "POST"), things)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with contextlib.AsyncExitStack() as made:

        async def guarded(**security: Any) -> Guarded:
            system = Guarded(tmp_path, THINGS, **security)
            made.push_async_callback(system.end)
            if not await system.accounts.users():
                await system.begin()
            return system

        yield guarded


async def test_every_answer_carries_what_browsers_need_to_be_careful(make: Any) -> None:
    system = await make()
    for path in (PATH, "/api/v1/nothing", PATH + "?own"):
        headers = (await system.send("GET", path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_by_default_pages_of_all_origins_may_read_but_send_no_token(make: Any) -> None:
    system = await make()
    answer = await system.send("GET", PATH, origin="https://any.example")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    asked = await system.send("OPTIONS", PATH, origin="https://any.example", access_control_request_method="PUT")
    assert (asked.status, asked.headers["access-control-allow-headers"]) == (200, "Content-Type")
    # They can also read why not.
    refused = await system.send("GET", PATH, token="x", origin="https://any.example")
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "*")


async def test_with_a_list_only_its_origins_may_ask_and_with_a_token(make: Any) -> None:
    system = await make(cors_origins=["https://app.example"])
    for path, status in ((PATH, 200), ("/api/v1/nothing", 404)):
        mine = await system.send("GET", path, origin="https://app.example")
        assert (mine.status, mine.headers["access-control-allow-origin"]) == (status, "https://app.example")
        assert "X-RateLimit-Remaining" in mine.headers["access-control-expose-headers"]
        assert mine.headers["vary"] == "Origin"
        for other in ("https://evil.example", "https://app.example.evil", "null", "*"):
            theirs = await system.send("GET", path, origin=other)
            assert (theirs.status, theirs.headers["vary"]) == (status, "Origin")
            assert not any(name.startswith("access-control") for name in theirs.headers)
    asked = await system.send("OPTIONS", PATH, origin="https://app.example")
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    assert "DELETE" in asked.headers["access-control-allow-methods"]
    refused = await system.send("OPTIONS", PATH, origin="https://evil.example")
    assert "access-control-allow-origin" not in refused.headers


async def test_a_body_may_be_so_long_whether_it_says_so_or_not(make: Any) -> None:
    system = await make(max_body_bytes=1000)
    assert (await system.send("POST", PATH, b"x" * 1000)).status == 200
    assert (await system.send("POST", PATH, b"x" * 1001)).status == 413
    for length in ("1001", "9" * 5000, "-1", "1e3", "0x10"):
        answer = await system.send("POST", PATH, b"", content_length=length)
        assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_an_answer_that_does_not_begin_in_time_is_given_up(make: Any) -> None:
    system = await make(time_limit_s=0.1)
    late = await asyncio.wait_for(system.send("GET", PATH + "?slow"), 5)
    assert (late.status, late.headers["content-type"]) == (504, "application/problem+json")
    assert late.headers["retry-after"] == "1"
    # One that has begun may take as long as it takes.
    assert (await system.send("GET", PATH + "?slow-body")).body == b"whole"
    # And what an application itself gives up is its own affair.
    assert (await system.send("GET", PATH + "?own-timeout")).status == 500


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/../secrets",
        "/api/v1/things/..",
        "/api/v1/%2e%2e/x",
        "/api/v1/..%2fx",
        "/api/v1/..%5cx",
        "/api/v1/a%00b",
        "/api/v1/a%0d%0ab",
        "/api/v1/a%7f",
        "/api/v1/%e2%80%ae",
    ],
)
async def test_a_path_that_leads_elsewhere_is_refused(make: Any, path: str) -> None:
    assert (await (await make()).send("GET", path)).status == 400


async def test_who_asks_too_often_is_told_when_to_go_on(make: Any) -> None:
    system = await make(rate_limits={"api": {"requests": 3, "per_s": 60}})
    said = [await system.send("GET", PATH, x_forwarded_for=FAR) for _ in range(5)]
    assert [answer.status for answer in said] == [200, 200, 200, 429, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in said] == ["2", "1", "0", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in said} == {"3"}
    assert [answer.headers["x-ratelimit-reset"] for answer in said] == ["20", "40", "60", "60", "60"]
    assert said[3].headers["content-type"] == "application/problem+json"
    assert 1 <= int(said[3].headers["retry-after"]) <= 20
    # Others are not concerned, nor are those who look after the instance, nor this machine.
    assert (await system.send("GET", PATH, x_forwarded_for=FARTHER)).status == 200
    assert (await system.send("GET", "/api/v1/health", x_forwarded_for=FAR)).status == 404
    assert (await system.send("GET", PATH, token=TOKEN, x_forwarded_for=FAR)).status == 200
    for here in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        answer = await system.send("GET", PATH, x_forwarded_for=here)
        assert (answer.status, "x-ratelimit-limit" in answer.headers) == (200, False)


async def test_a_user_has_a_limit_wherever_they_are_and_whatever_they_show(make: Any) -> None:
    system = await make(rate_limits={"user": {"requests": 3, "per_s": 60}, "loopback": True})
    user = "uma"
    await system.identities.ready()
    tokens = [(await system.sign_in(user))["access_token"] for _ in range(2)]
    key = await system.accounts.add_key(user, "bot", None, None, "test")
    await until(lambda: len(system.identities.known.keys) == 1)
    shown = [*tokens, key["key"], tokens[0]]
    said = [await system.send("GET", PATH, token=one, x_forwarded_for=f"192.0.2.{n}") for n, one in enumerate(shown)]
    assert [answer.status for answer in said] == [200, 200, 200, 429]
    assert (await system.send("GET", PATH, x_forwarded_for="192.0.2.0")).status == 200


async def test_exports_are_counted_besides_for_each_user_and_address(make: Any) -> None:
    system = await make(rate_limits={"exports": {"requests": 2, "per_s": 86400}})
    await system.identities.ready()
    token = (await system.sign_in("uma"))["access_token"]
    paths = ("/api/v1/export/BTCUSDT", "/api/v1/exports/signed", "/api/v1/export/BTCUSDT/stream")
    for who in ({}, {"token": token}):
        said = [await system.send("GET", path, x_forwarded_for=FAR, **who) for path in paths]
        assert [answer.status for answer in said] == [404, 404, 429]
        assert "2 in 86400 s" in said[2].json["detail"]
        assert 1 <= int(said[2].headers["retry-after"]) <= 43200
        # Everything else goes on.
        assert (await system.send("GET", PATH, x_forwarded_for=FAR, **who)).status == 200
    assert (await system.send("GET", paths[0], x_forwarded_for=FARTHER)).status == 404


async def test_trying_tokens_counts_as_asking(make: Any) -> None:
    system = await make(rate_limits={"api": {"requests": 3, "per_s": 60}})
    said = [await system.send("GET", PATH, token=f"guess{n}", x_forwarded_for=FAR) for n in range(5)]
    assert [answer.status for answer in said] == [401, 401, 401, 429, 429]


async def test_replicas_count_together_in_redis_and_alone_without_it(tmp_path: Path) -> None:
    limits = {"rate_limits": {"api": {"requests": 4, "per_s": 3600}}}
    with RedisServer(tmp_path / "redis") as server:
        one = Guarded(tmp_path / "one", THINGS, redis_url=server.url, **limits)
        other = Guarded(tmp_path / "other", THINGS, redis_url=server.url, **limits)
        await asyncio.gather(one.identities.ready(), other.identities.ready())
        said = [await system.send("GET", PATH, x_forwarded_for=FAR) for system in (one, other) * 3]
        assert [answer.status for answer in said] == [200] * 4 + [429] * 2
    assert (await one.send("GET", PATH, x_forwarded_for=FAR)).headers["x-ratelimit-remaining"] == "3"
    for system in (one, other):
        assert system.app._limits is not None
        await system.app._limits.close()
        await system.end()


def test_a_client_is_where_the_edge_says() -> None:
    def client(*forwarded: str, peer: str = "127.0.0.1") -> str:
        headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
        return client_of({"headers": headers, "client": (peer, 1)})

    assert client("192.0.2.7") == "192.0.2.7"
    # What a client sent before what the edge has seen.
    assert client("10.0.0.1, 192.0.2.7") == client("10.0.0.1", "192.0.2.7") == "192.0.2.7"
    assert client("2001:db8:1:2:3::4") == client("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert client("::ffff:192.0.2.7") == "192.0.2.7"
    assert client(peer="192.0.2.8") == "192.0.2.8"
    assert client("127.0.0.1") == "127.0.0.1"
    for text in ("", "unknown", "192.0.2.7:80", "1" * 4000, "\xff", "fe80::1%eth0\r\n", "127.1"):
        assert not client(text).startswith("127.")
    assert client_of({"headers": []}) == "unknown"


async def test_in_production_reading_needs_a_token_and_is_kept_by_nobody_else(make: Any) -> None:
    system = await make(production=True)
    assert (await system.send("GET", PATH)).status == 401
    assert (await system.send("GET", "/api/v1/health")).status == 404
    token = (await system.sign_in("rita"))["access_token"]
    for query, kept in (("", "private, no-cache"), ("?public", "private, max-age=60, immutable")):
        answer = await system.send("GET", PATH + query, token=token)
        assert (answer.status, answer.headers["cache-control"]) == (200, kept)
    # Only over TLS, unless it is this machine.
    clear = {"x_forwarded_for": FAR, "x_forwarded_proto": "http"}
    for path, body, shown in ((PATH, None, token), ("/api/v1/auth/login", {}, None), (PATH, None, TOKEN)):
        answer = await system.send("GET" if body is None else "POST", path, body, shown, **clear)
        assert (answer.status, "HTTPS" in answer.json["detail"]) == (403, True)
    over_tls = {"x_forwarded_for": FAR, "x_forwarded_proto": "https"}
    assert (await system.send("GET", PATH, token=token, **over_tls)).status == 200


async def test_production_may_let_anybody_read_when_that_is_said(make: Any) -> None:
    assert (await (await make(production=True, public_reads=True)).send("GET", PATH)).status == 200


async def test_without_production_reading_may_need_a_token_too(make: Any) -> None:
    assert (await (await make(public_reads=False)).send("GET", PATH)).status == 401
    # A link to an export is signed: it is its application that knows whether it is good.
    assert (await (await make(public_reads=False)).send("GET", "/api/v1/exports/signed")).status == 404
    assert (await (await make(public_reads=False)).send("GET", "/api/v1/exports")).status == 401


@pytest.mark.parametrize(
    ("name", "url", "good"),
    [
        ("REDIS_URL", "redis://redis.example:6379", False),
        ("REDIS_URL", "rediss://user@redis.example", False),
        ("REDIS_URL", "redis://:secret@redis.example", True),
        ("REDIS_URL", "redis://127.0.0.1:6379", True),
        ("CLICKHOUSE_URL", "clickhouse://default@db.example/market", False),
        ("CLICKHOUSE_URL", "clickhouse://default:secret@db.example/market", True),
    ],
)
def test_production_does_not_start_on_servers_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str, good: bool
) -> None:
    monkeypatch.setenv(name, url)
    load(tmp_path)
    monkeypatch.setenv("RAYFEED_SECURITY__PRODUCTION", "true")
    if good:
        assert load(tmp_path).security.production
    else:
        with pytest.raises(SettingsError, match=f"{name} has no password") as raised:
            load(tmp_path)
        assert url not in str(raised.value)


@pytest.mark.parametrize(
    ("security", "says"),
    [
        ({"cors_origins": ["app.example"]}, "cors_origins"),
        ({"cors_origins": ["https://a.example\r\nX: y"]}, "cors_origins"),
        ({"rate_limits": {"api": {"requests": 0, "per_s": 1}}}, "rate_limits.api.requests"),
        ({"registr": True}, "security.registr"),
        ({"access_minutes": 0}, "access_minutes"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, security: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load(tmp_path, {"security": security})


def test_a_setting_can_be_changed_alone_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFEED_SECURITY__REGISTER", "true")
    monkeypatch.setenv("RAYFEED_SECURITY__RATE_LIMITS__API__REQUESTS", "7")
    security = load(tmp_path).security
    assert (security.register_users, security.rate_limits.api) == (
        True,
        security.rate_limits.user.model_copy(update={"requests": 7}) if security.rate_limits.user else None,
    )


async def test_public_data_passes_untouched_and_private_data_needs_a_token(tmp_path: Path) -> None:
    seen: list[Send] = []

    async def data(_scope: Scope, _receive: Receive, send: Send) -> None:
        seen.append(send)
        await send_whole(send, 200, HEADERS, b"data")

    system = await Guarded(tmp_path).begin()
    rules = data_rules(system.settings)

    async def sent(message: Any) -> None:
        pass

    scope: Scope = {"type": "http", "method": "GET", "path": "/api/data", "headers": [], "query_string": b""}
    await system.guarded(data, rules)(scope, None, sent)  # type: ignore[arg-type]
    assert seen == [sent]
    closed = system.guarded(data, replace(rules, reads_are_public=False))
    assert (await ask(closed, "/api/data")).status == 401
    answer = await ask(closed, "/api/data", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.headers["cache-control"]) == (200, "private, no-cache")
    # The edge looks whether a server is up.
    assert (await ask(closed, ALIVE)).status == 200
    assert (await ask(system.guarded(data, rules), ALIVE)).body == b"ok"
    pages = system.guarded(data, page_rules(load(tmp_path, {"security": {"production": True}})))
    assert (await ask(pages, "/")).status == 200
    await system.end()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[int]:
    """The port of a real server with a guarded application."""
    system: dict[str, Guarded] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # In the event loop of the server.
        if "one" not in system:
            system["one"] = await Guarded(tmp_path, THINGS, time_limit_s=0.5, max_body_bytes=1000).begin()
        await system["one"].app(scope, receive, send)

    with serving(app) as port:
        yield port
    asyncio.run(system["one"].accounts.stop())


def test_it_works_over_a_real_server(served: int) -> None:
    def send(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, answer.headers, json.loads(content) if content else None
        finally:
            connection.close()

    given = json.dumps({"username": "uma", "password": "Correct-horse-7"}).encode()
    status, headers, tokens = send("POST", "/api/v1/auth/login", given, Content_Type="application/json")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    bearer = f"Bearer {tokens['access_token']}"
    assert send("GET", "/api/v1/auth/me", Authorization=bearer)[2]["username"] == "uma"
    assert send("GET", PATH)[0] == 200
    assert send("GET", PATH + "?slow")[0] == 504
    assert send("POST", PATH, b"x" * 2000)[0] == 413
    assert send("GET", "/api/v1/..%2f..%2fsecrets/api_token")[0] == 400
    # A body that says less than it sends, or never ends, holds nobody up.
    assert send("POST", PATH, b"", Content_Length="900")[0] in (400, 504)


def test_rules_follow_the_settings(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (api_rules(settings).client_limit, data_rules(settings).client_limit) == (
        settings.security.rate_limits.api,
        None,
    )
