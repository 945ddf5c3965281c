"""The configuration over HTTP: a real one, without Ray."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.configuration import Configuration
from config import load
from serve_apps.configuration import CONFIGURATION, ROUTES, ConfigurationApp
from serve_apps.market import MarketApp, Resource
from tests.serve_apps.asgi_client import Answer, ask

TOKEN = "of-the-data-folder"


class Instance:
    """As the supervisor does it."""

    def __init__(self, folder: Path) -> None:
        self.own = Configuration(load(folder))

    async def configuration(self) -> dict[str, Any]:
        return self.own.now()

    async def configuration_versions(self) -> list[dict[str, Any]]:
        return self.own.versions()

    async def configure(self, values: dict[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]:
        changed = self.own.change(values, note, user, expected)
        return {"version": self.own.now()["version"], "changed": changed}

    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]:
        changed = self.own.rollback(version, note, user)
        return {"version": self.own.now()["version"], "changed": changed}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[MarketApp]:
    instance = Instance(tmp_path)
    methods = ("GET", "HEAD", "PUT", "POST")
    yield MarketApp([Resource(CONFIGURATION, methods, ConfigurationApp(instance, TOKEN), ROUTES)])
    instance.own.close()


async def send(app: MarketApp, method: str = "GET", path: str = "", body: Any = None, token: str = TOKEN) -> Answer:
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return await ask(app, CONFIGURATION + path, method, content, {"Authorization": f"Bearer {token}"})


async def test_settings_are_seen_changed_and_taken_back(app: MarketApp) -> None:
    said = (await send(app)).json
    assert (said["version"], said["values"]["quality"]["late_s"], said["fixed"]["shards"]) == (0, 60.0, 2)
    answer = await send(app, "PUT", body={"values": {"quality": {"late_s": 30}}, "note": "stricter", "version": 0})
    assert (answer.status, answer.json) == (200, {"version": 1, "changed": {"quality": {"late_s": [60.0, 30.0]}}})
    assert answer.headers["cache-control"] == "no-store"
    assert (await send(app)).json["values"]["quality"]["late_s"] == 30.0
    answer = await send(app, "POST", "/rollback", {"version": 0})
    assert answer.json == {"version": 2, "changed": {"quality": {"late_s": [30.0, 60.0]}}}
    versions = (await send(app, path="/versions?limit=2")).json
    assert [(row["version"], row["note"], row["undoes"]) for row in versions] == [(2, "", 0), (1, "stricter", None)]


async def test_nothing_is_seen_or_changed_without_the_token(app: MarketApp) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("GET", "/versions"), ("POST", "/rollback")):
        answer = await send(app, method, path, {"values": {"quality": {"late_s": 1}}, "version": 0}, token="wrong")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await send(app)).json["version"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "", {"values": {"quality": {"late_s": -1}}}, 400, "'quality.late_s'"),
        ("PUT", "", {"values": {"port": 1}}, 400, "cannot change while it runs"),
        ("PUT", "", {"values": {}, "version": 5}, 409, "version 0 by now, not 5"),
        ("PUT", "", {"value": {}}, 400, "does not fit"),
        ("PUT", "", b"[" * 50_000, 400, "does not fit"),
        ("PUT", "", b" " * (65 << 10), 413, "bytes at most"),
        ("POST", "/rollback", {"version": 7}, 404, "no version 7"),
        ("POST", "/rollback", {"version": "0"}, 400, "does not fit"),
        ("POST", "", {"version": 0}, 404, "POST /api/v1/configuration/rollback"),
        ("GET", "/versions?limit=0", None, 400, "limit must be"),
        ("GET", "?verbose=1", None, 400, "no verbose here"),
    ],
)
async def test_a_bad_change_says_what_is_wrong(
    app: MarketApp, method: str, path: str, body: Any, status: int, says: str
) -> None:
    answer = await send(app, method, path, body)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json["detail"]
