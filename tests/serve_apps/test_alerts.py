"""Alerts over HTTP, without Ray: the application asks a real alerter."""

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.alerter import Alerter
from actors.alerting.definitions import NotWritten, placed
from actors.parcels import packed
from config import load
from serve_apps.alerts import ALERTS, AlertsApp
from serve_apps.market import MarketApp, Resource
from serve_apps.shared_answer import NoAnswer
from tests.actors.alerting.tables import EXCHANGE, NOW, PRICE, SYMBOL, prices
from tests.actors.test_alerter import NO_REDIS
from tests.polling import until
from tests.serve_apps.asgi_client import Answer, ask

TOKEN = "of-the-data-folder"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
SECRET = "https://hooks.slack.com/services/T0/B0/secret"


class Supervised:
    """As the supervisor passes it on; `fails`: what it raises instead."""

    def __init__(self, alerter: Alerter) -> None:
        self.alerter = alerter
        self.fails: Exception | None = None

    async def add_alert(self, given: dict[str, Any]) -> dict[str, Any]:
        if self.fails is not None:
            raise self.fails
        return await self.alerter.add(str(uuid.uuid4()), placed(given, {EXCHANGE: (SYMBOL,)}))

    async def change_alert(self, alert_id: str, given: dict[str, Any]) -> dict[str, Any]:
        return await self.alerter.change(alert_id, given)

    async def remove_alert(self, alert_id: str) -> None:
        await self.alerter.remove(alert_id)

    async def alerts(self) -> list[dict[str, Any]]:
        return await self.alerter.alerts()

    async def alert(self, alert_id: str) -> dict[str, Any]:
        return await self.alerter.alert(alert_id)

    async def deliveries(self, alert_id: str | None, limit: int) -> list[dict[str, Any]]:
        return await self.alerter.deliveries(alert_id, limit)


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    alerter = Alerter(load(tmp_path), NO_REDIS, recorded=False, clock=lambda: NOW)
    yield Supervised(alerter)
    await alerter.stop()


@pytest.fixture
def app(supervised: Supervised) -> MarketApp:
    return MarketApp([Resource(ALERTS, METHODS, AlertsApp(supervised, TOKEN))])


async def send(app: MarketApp, method: str, path: str = "", body: Any = None, token: str = TOKEN) -> Answer:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(app, ALERTS + path, method, content, {"Authorization": f"Bearer {token}"})


async def test_an_alert_is_made_seen_changed_and_removed(app: MarketApp) -> None:
    assert (await send(app, "GET")).json == []
    given = {**PRICE, "channels": ["websocket", "slack"], "metadata": {"slack_webhook_url": SECRET}}
    made = await send(app, "POST", body=given)
    assert (made.status, made.json["is_active"], made.json["created_at"]) == (201, True, NOW)
    assert made.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in made.headers
    path = f"/{made.json['alert_id']}"
    assert (await send(app, "GET", path)).json == made.json
    changed = await send(app, "PUT", path, {"threshold": 200, "note": "up"})
    assert (changed.status, changed.json) == (200, {**made.json, "threshold": 200, "note": "up"})
    assert (await send(app, "GET")).json == [changed.json]
    removed = await send(app, "DELETE", path)
    assert (removed.status, removed.body) == (204, b"")
    assert (await send(app, "GET", path)).status == 404
    assert (await send(app, "DELETE", path)).status == 404
    assert (await send(app, "PUT", path, {})).status == 404


async def test_who_was_told_can_be_seen(app: MarketApp, supervised: Supervised) -> None:
    made = (await send(app, "POST", body=PRICE)).json
    await supervised.alerter.take(packed({("trades", EXCHANGE): prices(101)}))

    async def tried() -> bool:
        return bool((await send(app, "GET", "/deliveries")).json)

    await until(tried)
    row = (await send(app, "GET", "/deliveries")).json[-1]
    assert (row["alert_id"], row["channel"], row["attempt"], row["status"]) == (
        made["alert_id"],
        "websocket",
        1,
        "retrying",
    )
    own = (await send(app, "GET", f"/{made['alert_id']}/deliveries?limit=1")).json
    assert len(own) == 1
    assert (await send(app, "GET", "/nobody/deliveries")).status == 404


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({**PRICE, "timeframe": "7m"}, "timeframe: there is no '7m', only 1s"),
        ({**PRICE, "threshold": -1}, "threshold is -1"),
        ({**PRICE, "channels": ["fax"]}, "channels: there is no 'fax'"),
        ({**PRICE, "condition": "fun"}, "condition: there is no 'fun'"),
        ({**PRICE, "channels": ["webhook"]}, "metadata.webhook_url is missing"),
        ({**PRICE, "channels": ["webhook"], "metadata": {"webhook_url": "http://10.0.0.1/"}}, "not a public address"),
        ({**PRICE, "exchange": "nasdaq"}, "exchange: there is no 'nasdaq', only binance"),
        ({**PRICE, "symbol": "BTCUSDX"}, "did you mean BTCUSDT?"),
        ({}, "symbol: expected a name"),
        ([], "JSON object"),
        (b"", "JSON object"),
        (b"{", "JSON object"),
        (b'{"symbol": "\xff"}', "JSON object"),
        (b"[" * 10_000, "JSON object"),
    ],
)
async def test_a_mistake_is_named(app: MarketApp, body: Any, says: str) -> None:
    answer = await send(app, "POST", body=body)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert says in answer.json["detail"]
    assert (await send(app, "GET")).json == []


async def test_a_change_that_cannot_be_is_named(app: MarketApp) -> None:
    made = (await send(app, "POST", body=PRICE)).json
    answer = await send(app, "PUT", f"/{made['alert_id']}", {"threshold": -1})
    assert (answer.status, answer.json["detail"][:15]) == (400, "threshold is -1")
    assert (await send(app, "POST", body=b" " * (17 << 10))).status == 413


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", ""), ("GET", "/a"), ("PUT", "/a"), ("DELETE", "/a"), ("GET", "/deliveries")],
)
async def test_without_the_token_nothing_is_seen_or_changed(app: MarketApp, token: str, method: str, path: str) -> None:
    answer = await send(app, method, path, PRICE, token)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in answer.json["detail"]
    assert (await send(app, "GET")).json == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "", 404),
        ("PUT", "", 404),
        ("POST", "/a", 404),
        ("GET", "/a/b", 404),
        ("GET", "/a/deliveries/b", 404),
        ("GET", "/deliveries?limit=0", 400),
        ("GET", "/deliveries?limit=x", 400),
        ("GET", "/deliveries?page=1", 400),
        ("PATCH", "", 405),
    ],
)
async def test_what_is_not_there_is_said(app: MarketApp, method: str, path: str, status: int) -> None:
    answer = await send(app, method, path)
    assert answer.status == status
    assert answer.json["detail"]


@pytest.mark.parametrize("error", [NoAnswer("nobody answers"), NotWritten("the disk is full")])
async def test_who_cannot_be_asked_now_may_be_later(app: MarketApp, supervised: Supervised, error: Exception) -> None:
    supervised.fails = error
    answer = await send(app, "POST", body=PRICE)
    assert (answer.status, answer.headers["retry-after"], answer.json["detail"]) == (503, "1", str(error))
