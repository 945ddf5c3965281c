"""Applications behind their guard, with real accounts, as they run in a replica."""

import json
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher

from actors.accounts import Accounts
from config import Settings, load
from serve_apps.auth import METHODS, AuthApp
from serve_apps.auth_identity import Identities
from serve_apps.guard import AUTH, Asgi, Guard, Rules, api_rules
from serve_apps.market import MarketApp, Resource
from tests.serve_apps.asgi_client import Answer, ask

TOKEN = "of-the-data-folder"
PASSWORD = "Correct-horse-7"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NOW = 1_769_860_800_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class Guarded:
    """Users ann (admin), uma (user) and rita (readonly) and an application of `resources` behind a guard."""

    def __init__(self, data: Path, *resources: Resource, redis_url: str | None = None, **security: Any) -> None:
        self.clock = Clock()
        self.settings: Settings = load(data, {"security": security} if security else None)
        self.accounts = Accounts(self.settings, redis_url, None, self.clock, QUICK)
        self.identities = Identities(self.accounts.known, TOKEN, self.clock)
        own = Resource(AUTH, METHODS, AuthApp(self._ask))
        self.app = self.guarded(MarketApp([own, *resources]), api_rules(self.settings))

    def guarded(self, app: Asgi, rules: Rules) -> Guard:
        return Guard(app, rules, self.identities)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.accounts, method)(*arguments)

    async def begin(self) -> "Guarded":
        for name, role in (("ann", "admin"), ("uma", "user"), ("rita", "readonly")):
            await self.accounts.add_user({"name": name, "role": role}, PASSWORD, "test")
        return self

    async def end(self) -> None:
        await self.identities.close()
        await self.accounts.stop()

    async def send(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Answer:
        """`x_api_key="..."` is the header X-Api-Key. From this machine, where nothing else is said."""
        sent = {"x-forwarded-for": "127.0.0.1"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent.setdefault("content-type", "application/json")
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(self.app, path, method, content, sent)

    async def sign_in(self, name: str, password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.send("POST", AUTH + "login", {"username": name, "password": password})
        assert answer.status == 200, answer.body
        tokens: dict[str, Any] = answer.json
        return tokens
