"""Signing in over HTTP, without Ray: the applications as they run in a replica, on real accounts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_apps.asgi import BadRequest, Receive, Scope, Send
from serve_apps.auth_identity import Identities, identify
from serve_apps.bodies import send_json
from serve_apps.guard import AUTH
from serve_apps.market import Resource
from serve_apps.token import check_token
from tests.polling import until
from tests.serve_apps.guarded import PASSWORD, TOKEN, Clock, Guarded

HOUR = 3600 * 10**9


async def things(scope: Scope, _receive: Receive, send: Send) -> None:
    """Anybody reads; users change; admins remove."""
    if scope["method"] == "POST":
        identify(scope, "user")
    if scope["method"] == "DELETE":
        check_token(scope, TOKEN, "Removing")
    await send_json(send, {"things": 1})


THINGS = Resource("/api/v1/things", ("GET", "HEAD", "POST", "DELETE"), things)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[Guarded]:
    running = await Guarded(tmp_path, THINGS).begin()
    yield running
    await running.end()


async def test_who_signs_in_is_known_by_the_token_until_it_expires(system: Guarded) -> None:
    tokens = await system.sign_in("uma")
    assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in", "refresh_expires_in"}
    for route in ("me", "protected"):
        me = await system.send("GET", AUTH + route, token=tokens["access_token"])
        assert me.status == 200
        assert me.headers["cache-control"] == "no-store"
        shown = {"username": "uma", "email": None, "roles": ["user", "readonly"], "is_active": True}
        assert me.json == {"user_id": me.json["user_id"], "expires_at": system.clock.now + HOUR, **shown}
    system.clock.now += HOUR
    late = await system.send("GET", AUTH + "me", token=tokens["access_token"])
    assert (late.status, late.headers["www-authenticate"]) == (401, "Bearer")
    assert "expired" in late.json["detail"]
    # An old token beside it is no hindrance.
    body = {"refresh_token": tokens["refresh_token"]}
    again = await system.send("POST", AUTH + "refresh", body, token=tokens["access_token"])
    assert again.status == 200
    assert (await system.send("GET", AUTH + "me", token=again.json["access_token"])).status == 200
    assert (await system.send("POST", AUTH + "refresh", body)).status == 401


async def test_a_refresh_token_may_also_come_in_the_query(system: Guarded) -> None:
    token = (await system.sign_in("uma"))["refresh_token"]
    assert (await system.send("POST", f"{AUTH}refresh?refresh_token={token}")).status == 200


async def test_wrong_names_and_wrong_passwords_look_alike(system: Guarded) -> None:
    said = []
    for given in (("uma", "Wrong-horse-7"), ("nobody", PASSWORD), ("", ""), ("uma", "\ud800")):
        body = b'{"username":"%b","password":"%b"}' % (given[0].encode(), given[1].encode("unicode_escape"))
        answer = await system.send("POST", AUTH + "login", body, x_forwarded_for=f"192.0.2.{len(said)}")
        said.append((answer.status, answer.json["detail"], answer.headers.get("www-authenticate")))
    assert len(set(said[:3])) == 1
    assert said[0] == (401, "The name or the password is wrong.", "Bearer")
    assert said[3][0] in (400, 401)


async def test_guessing_is_answered_with_429_and_when_to_go_on(system: Guarded) -> None:
    wrong = {"username": "uma", "password": "Wrong-horse-7"}
    said = [await system.send("POST", AUTH + "login", wrong, x_forwarded_for="127.0.0.1") for _ in range(7)]
    assert [answer.status for answer in said] == [401] * 5 + [429] * 2
    assert 1 <= int(said[-1].headers["retry-after"]) <= 60


async def test_who_signs_out_is_out_at_once_everywhere(system: Guarded, tmp_path: Path) -> None:
    other = Identities(system.accounts.known, TOKEN, system.clock)
    await other.ready()
    tokens, kept = await system.sign_in("uma"), await system.sign_in("uma")
    assert other.authenticate(tokens["access_token"])[1] == system.clock.now + HOUR
    assert (await system.send("POST", AUTH + "logout", token=tokens["access_token"])).status == 204

    def is_out() -> bool:
        try:
            other.authenticate(tokens["access_token"])
        except BadRequest as error:
            return error.status == 401
        return False

    await until(is_out)
    assert (await system.send("GET", AUTH + "me", token=tokens["access_token"])).status == 401
    body = {"refresh_token": tokens["refresh_token"]}
    assert (await system.send("POST", AUTH + "refresh", body)).status == 401
    # Another session of the same user goes on.
    assert other.authenticate(kept["access_token"])[0].name == "uma"
    await other.close()


async def _status(system: Guarded, method: str, token: str | None) -> int:
    return (await system.send(method, THINGS.path, token=token)).status


async def test_each_role_may_do_what_it_may_and_a_change_counts_at_once(system: Guarded) -> None:
    tokens = {name: (await system.sign_in(name))["access_token"] for name in ("ann", "uma", "rita")}
    allowed = {
        name: [await _status(system, method, token) for method in ("GET", "POST", "DELETE")]
        for name, token in {**tokens, "operator": TOKEN, "nobody": None}.items()
    }
    assert allowed == {
        "ann": [200, 200, 200],
        "uma": [200, 200, 403],
        "rita": [200, 403, 403],
        "operator": [200, 200, 200],
        "nobody": [200, 401, 401],
    }
    await system.accounts.set_role("uma", "admin", "test")
    await until(lambda: _is(system, "DELETE", tokens["uma"], 200))
    await system.accounts.set_role("uma", "readonly", "test")
    await until(lambda: _is(system, "POST", tokens["uma"], 403))
    await system.accounts.remove_user("uma", "test")
    await until(lambda: _is(system, "GET", tokens["uma"], 401))


async def _is(system: Guarded, method: str, token: str, status: int) -> bool:
    return await _status(system, method, token) == status


async def test_a_key_opens_what_its_role_allows_until_it_expires_or_is_removed(system: Guarded) -> None:
    token = (await system.sign_in("uma"))["access_token"]
    given = {"name": "bot", "role": "readonly", "days": 1}
    added = await system.send("POST", AUTH + "keys", given, token)
    assert (added.status, added.headers["cache-control"]) == (201, "no-store")
    key = added.json["key"]

    async def known() -> bool:
        return (await system.send("GET", AUTH + "me", token=key)).status == 200

    await until(known)
    assert (await system.send("GET", AUTH + "me", x_api_key=key)).json["roles"] == ["readonly"]
    assert await _status(system, "POST", key) == 403
    # A key makes no keys and changes no password.
    assert (await system.send("POST", AUTH + "keys", given, key)).status == 403
    assert (await system.send("POST", AUTH + "logout", token=key)).status == 403
    listed = (await system.send("GET", AUTH + "keys", token=token)).json
    assert [(row["name"], row["user"]) for row in listed] == [("bot", "uma")]
    assert key not in str(listed)
    system.clock.now += 24 * HOUR
    expired = await system.send("GET", AUTH + "me", token=key)
    assert (expired.status, "expired" in expired.json["detail"]) == (401, True)
    system.clock.now -= 24 * HOUR
    other = (await system.sign_in("ann"))["access_token"]
    assert (await system.send("DELETE", f"{AUTH}keys/{added.json['key_id']}", token=other)).status == 404
    assert (await system.send("DELETE", f"{AUTH}keys/{added.json['key_id']}", token=token)).status == 204
    await until(lambda: _is(system, "GET", key, 401))


async def test_a_user_changes_the_password_and_every_session_ends(system: Guarded) -> None:
    token = (await system.sign_in("uma"))["access_token"]
    path, new = AUTH + "password", "New-horse-77"
    wrong = await system.send("POST", path, {"old_password": "x", "new_password": new}, token)
    assert (wrong.status, wrong.json["detail"]) == (401, "The old password is wrong.")
    weak = await system.send("POST", path, {"old_password": PASSWORD, "new_password": "weak"}, token)
    assert (weak.status, "an upper-case letter" in weak.json["detail"]) == (400, True)
    assert (await system.send("POST", path, {"old_password": PASSWORD, "new_password": new}, token)).status == 204
    await until(lambda: _is(system, "GET", token, 401))
    assert await system.sign_in("uma", new)


async def test_nobody_registers_unless_that_is_wanted(system: Guarded, tmp_path: Path) -> None:
    given = {"username": "eve", "password": PASSWORD, "email": "eve@example.org"}
    assert (await system.send("POST", AUTH + "register", given)).status == 401
    opened = Guarded(tmp_path / "open", register=True)
    made = await opened.send("POST", AUTH + "register", given)
    assert (made.status, made.json["roles"], made.json["username"]) == (201, ["readonly"], "eve")
    assert (await opened.send("POST", AUTH + "register", given)).status == 400
    assert (await opened.send("POST", AUTH + "register", {**given, "role": "admin"})).status == 400
    assert (await opened.sign_in("eve"))["access_token"]
    await opened.end()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"username":"uma"}', "application/json", 400),
        (b'{"username":"uma","password":7}', "application/json", 400),
        (b'{"username":"uma","password":"x","more":1}', "application/json", 400),
        (b'{"username":"' + b"a" * 2000 + b'","password":"x"}', "application/json", 400),
        (b"[" * 5000, "application/json", 400),
        (b'{"username":"\xff","password":"x"}', "application/json", 400),
        (b" " * 9000, "application/json", 413),
        (b'{"username":"uma","password":"Correct-horse-7"}', "text/plain", 415),
        (b"username=uma&password=Correct-horse-7", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_what_cannot_be_read_is_refused(system: Guarded, body: bytes, content_type: str, status: int) -> None:
    answer = await system.send("POST", AUTH + "login", body, content_type=content_type)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic dW1hOng=", "Bearer a.b.c", "Bearer " + "x" * 10_000, "Bearer rfk_guess", "\xff"],
)
async def test_what_is_no_token_is_refused_even_where_anybody_may_read(system: Guarded, header: str) -> None:
    headers = {"authorization": header}
    answer = await system.send("GET", THINGS.path, **headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_refresh_token_opens_nothing(system: Guarded) -> None:
    token = (await system.sign_in("ann"))["refresh_token"]
    assert await _status(system, "DELETE", token) == 401


async def test_a_token_of_another_instance_opens_nothing(system: Guarded, tmp_path: Path) -> None:
    other = await Guarded(tmp_path / "other").begin()
    token = (await other.sign_in("ann"))["access_token"]
    assert await _status(system, "DELETE", token) == 401
    await other.end()


async def test_a_live_connection_goes_on_as_long_as_the_token_is_good(system: Guarded) -> None:
    token = (await system.sign_in("rita"))["access_token"]
    assert await system.identities.admit(token, needed=True) == (system.clock.now + HOUR) / 1e9
    assert await system.identities.admit(TOKEN, needed=True) is None
    assert await system.identities.admit(None, needed=False) is None
    for given, needed in ((None, True), ("", False), ("guess", False)):
        with pytest.raises(BadRequest) as raised:
            await system.identities.admit(given, needed)
        assert raised.value.status == 401


async def test_before_anything_is_known_a_token_is_asked_for_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.auth_identity.FIRST_S", 0.05)
    gone = 0

    async def nobody(_version: Any) -> None:
        nonlocal gone
        gone += 1
        raise ValueError("no such actor")

    identities = Identities(nobody, TOKEN, Clock())
    await asyncio.wait_for(identities.ready(), 5)
    with pytest.raises(BadRequest) as raised:
        identities.authenticate("a.b.c")
    assert raised.value.status == 503
    # The operator needs nobody.
    assert identities.authenticate(TOKEN)[0].role == "admin"
    await until(lambda: gone > 1)
    await identities.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", AUTH + "login", 404),
        ("POST", AUTH + "me", 404),
        ("POST", AUTH + "nothing", 404),
        ("GET", AUTH, 404),
        ("DELETE", AUTH + "keys", 404),
        ("PUT", AUTH + "login", 405),
        ("GET", AUTH + "me", 401),
        ("GET", AUTH + "keys", 401),
        ("POST", AUTH + "logout", 401),
    ],
)
async def test_what_is_not_there_is_said(system: Guarded, method: str, path: str, status: int) -> None:
    answer = await system.send(method, path, {} if method != "GET" else None)
    assert (answer.status, bool(answer.json["detail"])) == (status, True)
