"""Who may not read any more does not go on reading: live connections end with the token they were opened with."""

import time
from pathlib import Path

import pytest

from serve_apps.asgi import BadRequest
from serve_apps.live_session import Refused
from tests.polling import until
from tests.serve_apps.guarded import Guarded
from tests.serve_apps.live_world import World, connected

TOPIC = "trades:binance:BTCUSDT"


async def private(folder: Path) -> Guarded:
    system = await Guarded(folder, public_reads=False).begin()
    system.clock.now = time.time_ns()
    return system


class Asked:
    """As replicas authenticate clients of the live feed."""

    def __init__(self, system: Guarded) -> None:
        self._identities = system.identities
        self.refusals: list[str] = []

    async def __call__(self, given: str | None) -> float | None:
        try:
            return await self._identities.admit(given, True)
        except BadRequest as error:
            self.refusals.append(str(error))
            raise Refused(str(error)) from None


@pytest.mark.parametrize("what", ["key removed", "user removed", "signed out"])
async def test_who_may_not_read_any_more_is_disconnected(tmp_path: Path, what: str) -> None:
    system, world = await private(tmp_path), World()
    key = await system.accounts.add_key("rita", "bot", "readonly", None, "rita")
    token = (await system.sign_in("uma"))["access_token"] if what == "signed out" else key["key"]
    asked = Asked(system)
    try:
        async with world.serving(asked) as (port, _), connected(port, f"/ws?token={token}") as client:
            await client.subscribe(TOPIC)
            match what:
                case "key removed":
                    await system.accounts.remove_key(key["key_id"], "rita")
                case "user removed":
                    await system.accounts.remove_user("rita", "ann")
                case _:
                    await system.accounts.sign_out(system.identities.authenticate(token)[0].session_id, "uma")
            assert await client.close_code(20) == 4001
        assert len(asked.refusals) == 1
    finally:
        await system.end()


async def test_who_is_still_good_stays_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.live_session.STILL_S", 0.02)
    system, world = await private(tmp_path), World()
    key = await system.accounts.add_key("rita", "bot", "readonly", None, "rita")
    looked = []

    async def authenticate(given: str | None) -> float | None:
        looked.append(given)
        return await system.identities.admit(given, True)

    try:
        async with world.serving(authenticate) as (port, _), connected(port, f"/ws?token={key['key']}") as client:
            await client.subscribe(TOPIC)
            await until(lambda: len(looked) > 5)
            await world.trade("BTCUSDT")
            assert (await client.read("update"))["symbol"] == "BTCUSDT"
    finally:
        await system.end()


async def test_a_fresh_token_that_is_bad_closes_with_a_reason_that_fits(tmp_path: Path) -> None:
    system, world = await private(tmp_path), World()
    key = await system.accounts.add_key("rita", "bot", "readonly", None, "rita")
    asked = Asked(system)
    header = "eyJhbGciOiJFZERTQSIsImtpZCI6Im9sZCIsInR5cCI6ImF0K2p3dCJ9"
    try:
        async with world.serving(asked) as (port, _), connected(port, f"/ws?token={key['key']}") as client:
            await client.read("welcome")
            await client.send(type="auth", token=f"{header}.e30.AAAA")
            assert await client.close_code(10) == 4001
        assert len(asked.refusals[0]) > 123
    finally:
        await system.end()


@pytest.mark.parametrize(("said", "code"), [("http", 4001), ("https", None)])
async def test_in_production_no_token_is_taken_where_others_may_hear_it(
    tmp_path: Path, said: str, code: int | None
) -> None:
    system, world = await private(tmp_path), World()
    key = await system.accounts.add_key("rita", "bot", "readonly", None, "rita")
    asked = Asked(system)
    # As the edge says it.
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": said}
    try:
        async with (
            world.serving(asked, only_tls=True) as (port, _),
            connected(port, f"/ws?token={key['key']}", additional_headers=headers) as client,
        ):
            if code is None:
                await client.subscribe(TOPIC)
            else:
                assert await client.close_code(10) == code
        assert asked.refusals == []
    finally:
        await system.end()
