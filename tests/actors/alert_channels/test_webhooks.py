"""Webhooks against a real web server: what it gets, what its answers mean, and where nothing is sent to."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.alert_channels.webhooks import PublicResolver, Webhooks
from actors.alerting.messages import as_json, for_slack
from actors.alerting.retries import Outcome
from cluster.certificate import self_signed
from storage.alert_log import Targets
from tests.actors.alert_channels.firings import firing
from tests.actors.alert_channels.receivers import WebServer, endless, reset, slow, status
from tests.actors.alerting.tables import NOW
from tests.servers import free_port


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with WebServer() as running:
        yield running


@pytest.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    opened = Webhooks(lambda targets: targets.webhook_url, as_json, private=True)
    yield opened
    await opened.close()


def to(url: str) -> Targets:
    return Targets(webhook_url=url)


async def test_it_gets_what_fired_with_a_key_that_tells_repetitions(server: WebServer, webhooks: Webhooks) -> None:
    assert await webhooks.send(to(server.url), firing(note="sell")) == Outcome("delivered", 200)
    assert server.posts == [
        {
            "alert_id": "3f0c",
            "exchange": "binance",
            "symbol": "BTCUSDT",
            "timeframe": None,
            "condition": "price_above",
            "threshold": 100.0,
            "value": 101.5,
            "price": 101.5,
            "ts_event": NOW,
            "fired_at": NOW + 1,
            "message": "binance BTCUSDT: price 101.5 is above 100",
            "note": "sell",
            "delivery_id": f"3f0c:{NOW}",
        }
    ]
    [headers] = server.headers
    assert headers["Idempotency-Key"] == f"3f0c:{NOW}"
    assert headers["Content-Type"] == "application/json"


async def test_slack_gets_a_message_in_which_nothing_is_a_mention(server: WebServer) -> None:
    slack = Webhooks(lambda targets: targets.slack_webhook_url, for_slack, private=True)
    said = firing(note="<!channel> <https://evil.example|here> & there")
    assert (await slack.send(Targets(slack_webhook_url=server.url), said)).status == "delivered"
    [post] = server.posts
    assert "<" not in post["text"] and ">" not in post["text"]
    assert post["text"].startswith("binance BTCUSDT: price 101.5 is above 100\n&lt;!channel&gt;")
    assert {block["type"] for block in post["blocks"]} == {"section", "context"}
    assert post["blocks"][0]["text"]["type"] == "plain_text"
    await slack.close()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(204), Outcome("delivered", 204)),
        (status(500), Outcome("passing", 500, "answered 500")),
        (status(503, Retry_After="7"), Outcome("passing", 503, "answered 503", 7.0)),
        (status(429, Retry_After="20"), Outcome("passing", 429, "answered 429", 20.0)),
        (status(429, Retry_After="soon"), Outcome("passing", 429, "answered 429")),
        (status(408), Outcome("passing", 408, "answered 408")),
        (status(400), Outcome("final", 400, "answered 400")),
        (status(404, Retry_After="5"), Outcome("final", 404, "answered 404")),
        (status(410), Outcome("final", 410, "answered 410")),
        (status(302, Location="/elsewhere"), Outcome("final", 302, "302: redirects are not followed")),
        (status(307, Location="http://127.0.0.1:1/"), Outcome("final", 307, "307: redirects are not followed")),
        (endless, Outcome("delivered", 200)),
        (reset, Outcome("passing", None, "no answer: ServerDisconnectedError")),
    ],
)
async def test_what_an_answer_means(server: WebServer, webhooks: Webhooks, answer: Any, outcome: Outcome) -> None:
    server.answers = [answer]
    assert await asyncio.wait_for(webhooks.send(to(server.url), firing()), 5) == outcome
    assert server.paths == ["/hook"], "nothing else was asked for"


async def test_nobody_listening_may_pass(webhooks: Webhooks) -> None:
    outcome = await webhooks.send(to(f"http://127.0.0.1:{free_port()}/secret"), firing())
    assert (outcome.status, outcome.error) == ("passing", "no connection to 127.0.0.1: Connection refused")


async def test_what_is_no_http_may_pass_and_does_not_name_the_url(webhooks: Webhooks) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-here\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await webhooks.send(to(f"http://127.0.0.1:{port}/secret"), firing())
    assert outcome.status == "passing"
    assert "secret" not in outcome.error


async def test_a_slow_one_can_be_given_up(server: WebServer, webhooks: Webhooks) -> None:
    server.answers = [slow(60)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(webhooks.send(to(server.url), firing()), 0.2)
    assert (await webhooks.send(to(server.url), firing())).status == "delivered"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/secret",
        "http://localhost:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
        "http://this-machine.example:{port}/secret",
        # Ways to write 127.0.0.1 that a resolver understands.
        "http://2130706433:{port}/secret",
        "http://127.1:{port}/secret",
        "http://0x7f.1:{port}/secret",
        "http://0x7f000001:{port}/secret",
        "http://127.0.0.1.:{port}/secret",
    ],
)
async def test_this_machine_is_not_connected_to_however_it_is_called(
    server: WebServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    here = {"this-machine.example": "127.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more: look_up(here.get(host, host), *more))
    webhooks = Webhooks(lambda targets: targets.webhook_url, as_json, private=False)
    outcome = await webhooks.send(to(url.format(port=server.port)), firing())
    assert (outcome.status, server.posts) == ("final", [])
    assert "alerts.allow_private_targets" in outcome.error or outcome.error.startswith("expected a URL")
    assert "secret" not in outcome.error
    await webhooks.close()


async def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer is public, all later ones are this machine: only the first may be used."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: Any) -> list[Any]:
        asked.append(host)
        # Of a network for documentation: refused for what it is, as if nobody were there.
        address = "198.51.100.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    webhooks = Webhooks(lambda targets: targets.webhook_url, as_json, private=False)
    for _ in range(2):
        outcome = await webhooks.send(to(f"http://rebinding.example:{server.port}/"), firing())
        assert outcome.status == "final"
    assert (asked, server.posts) == (["rebinding.example"] * 2, [])
    await webhooks.close()


async def test_of_several_addresses_only_public_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int, *_: Any) -> list[Any]:
        addresses = ("10.0.0.1", "1.1.1.1", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = PublicResolver(private=False)
    assert [one["host"] for one in await resolver.resolve("several.example", 443)] == ["1.1.1.1"]
    await resolver.close()


async def test_an_unknown_name_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    webhooks = Webhooks(lambda targets: targets.webhook_url, as_json, private=False)
    outcome = await webhooks.send(to("http://nobody.example/secret"), firing())
    assert (outcome.status, outcome.error) == ("passing", "no connection to nobody.example: Name or service not known")
    await webhooks.close()


async def test_a_certificate_nobody_trusts_is_said(tmp_path: Path, webhooks: Webhooks) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(tmp_path, "here", datetime.datetime.now(datetime.UTC)))

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        outcome = await webhooks.send(to(f"https://127.0.0.1:{port}/secret"), firing())
    assert (outcome.status, outcome.error) == ("passing", "the certificate of 127.0.0.1 is not good for it")


async def test_the_head_of_an_answer_is_bounded(webhooks: Webhooks) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await webhooks.send(to(f"http://127.0.0.1:{port}/"), firing())).status == "passing"
