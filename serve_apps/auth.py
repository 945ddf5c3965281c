"""Signing in over HTTP: `/api/v1/auth/...`. Everything that changes something asks the accounts actor."""

from collections.abc import Awaitable
from typing import Annotated, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from actors.account_book import AccountError, NotNow, Refused, UnknownAccount
from serve_apps.asgi import BadRequest, Receive, Scope, Send, header_of, read_body, send_problem, send_whole
from serve_apps.auth_identity import Identity, identify
from serve_apps.client_address import client_of
from serve_apps.guard import AUTH
from serve_apps.parameters import Route
from storage.users import Role

METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
MOST_BYTES: Final = 8 << 10
KEY_DAYS: Final = 90
_HEADERS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))

_Text = Annotated[str, msgspec.Meta(max_length=1024)]


class AskAccounts(Protocol):
    """Calls a method of `actors.accounts.Accounts` by name; raises what that raises, and `NoAnswer`."""

    def __call__(self, method: str, *arguments: Any) -> Awaitable[Any]: ...


class _SignIn(msgspec.Struct, forbid_unknown_fields=True):
    username: _Text
    password: _Text


class _Registration(msgspec.Struct, forbid_unknown_fields=True):
    username: _Text
    password: _Text
    email: _Text | None = None


class _Refresh(msgspec.Struct, forbid_unknown_fields=True):
    refresh_token: Annotated[str, msgspec.Meta(max_length=4096)]


class _NewPassword(msgspec.Struct, forbid_unknown_fields=True):
    old_password: _Text
    new_password: _Text


class _NewKey(msgspec.Struct, forbid_unknown_fields=True):
    name: _Text
    role: Role | None = None
    days: int | None = KEY_DAYS


def _route(method: str, name: str, summary: str, body: type[msgspec.Struct] | None = None, **said: Any) -> Route:
    errors = {"POST": (400, 401, 403, 404, 413, 415, 429, 503), "DELETE": (401, 403, 404, 503)}.get(
        method, (401, 403, 503)
    )
    schema = None if body is None else next(iter(msgspec.json.schema_components([body])[1].values()))
    return Route(AUTH + name, summary, method=method, body=schema, **{"errors": errors, **said})


_TOKENS: Final = {"access_token": "eyJ...", "refresh_token": "eyJ...", "token_type": "bearer", "expires_in": 3600}
_USER: Final = {"user_id": "9f1c", "username": "ada", "email": None, "roles": ["readonly"], "is_active": True}
_KEY: Final = {"key_id": "4b1d", "name": "notebook", "role": "readonly"}
_SIGN_IN_EXAMPLE: Final = {"username": "ada", "password": "a password of hers"}
ROUTES: Final = (
    _route("POST", "login", "Sign in", _SignIn, body_example=_SIGN_IN_EXAMPLE, example=_TOKENS),
    _route("POST", "refresh", "The next tokens; the refresh token is good for once", _Refresh, example=_TOKENS),
    _route("POST", "register", "Become a user, where that is wanted", _Registration, example=_USER, status=201),
    _route("POST", "logout", "End the session", status=204, needs_token=True),
    _route("POST", "password", "Change the own password", _NewPassword, status=204, needs_token=True),
    _route("GET", "me", "Who asks", example=_USER, needs_token=True),
    _route("GET", "keys", "The own API keys", example=[_KEY], needs_token=True),
    _route("POST", "keys", "Make an API key, which is shown once", _NewKey, example=_KEY, status=201, needs_token=True),
    _route(
        "DELETE", "keys/{key_id}", "Remove an API key", segments={"key_id": "As listed."}, status=204, needs_token=True
    ),
)


class AuthApp:
    """ASGI application: POST of login, register, refresh, logout and password, GET of me (and protected), GET and POST
    of keys and DELETE of `keys/{key_id}`."""

    def __init__(self, ask: AskAccounts) -> None:
        self._ask = ask

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, said = await self._answer(scope, receive)
            if status == 204:
                await send_whole(send, status, (), b"")
            else:
                await send_whole(send, status, _HEADERS, msgspec.json.encode(said))
        except NotNow as error:
            wait = [(b"retry-after", b"%d" % error.retry_after_s)]
            await send_problem(send, 429 if error.too_many else 503, str(error), wait)
        except Refused as error:
            raise BadRequest(401, str(error)) from None
        except UnknownAccount as error:
            raise BadRequest(404, str(error)) from None
        except AccountError as error:
            raise BadRequest(400, str(error)) from None

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        match method, scope["path"].removeprefix(AUTH).split("/"):
            case "POST", ["login"]:
                given = await _body(scope, receive, _SignIn)
                return 200, await self._ask("sign_in", given.username, given.password, client_of(scope))
            case "POST", ["register"]:
                made = await _body(scope, receive, _Registration)
                asked = {"name": made.username, "email": made.email, "password": made.password}
                return 201, _shown_user(await self._ask("register", asked, client_of(scope)))
            case "POST", ["refresh"]:
                return 200, await self._ask("refresh", await _refresh_token(scope, receive), client_of(scope))
            case "POST", ["logout"]:
                identity = _signed_in(scope)
                await self._ask("sign_out", identity.session_id, identity.name)
                return 204, None
            case "POST", ["password"]:
                identity, new = _signed_in(scope), await _body(scope, receive, _NewPassword)
                asked_for = (identity.user_id, new.old_password, new.new_password, client_of(scope))
                await self._ask("change_password", *asked_for)
                return 204, None
            case "GET", ["me" | "protected"]:
                return 200, _shown(identify(scope))
            case "GET", ["keys"]:
                return 200, await self._ask("keys", _signed_in(scope).user_id)
            case "POST", ["keys"]:
                identity, key = _signed_in(scope), await _body(scope, receive, _NewKey)
                return 201, await self._ask("add_key", identity.name, key.name, key.role, key.days, identity.name)
            case "DELETE", ["keys", key_id]:
                identity = _signed_in(scope)
                await self._ask("remove_key", key_id, identity.name, identity.user_id)
                return 204, None
        raise BadRequest(
            404,
            f"Here are POST of {AUTH}login, register, refresh, logout and password, GET of me, GET and POST of keys, "
            "and DELETE of keys/{key_id}.",
        )


def _signed_in(scope: Scope) -> Identity:
    """With a password: a key is for programs, which do not change what their owner signs in with."""
    identity = identify(scope)
    if not identity.session_id:
        raise BadRequest(403, "This is for users who signed in with a password: POST /api/v1/auth/login.")
    return identity


async def _body[Body](scope: Scope, receive: Receive, kind: type[Body]) -> Body:
    # A page of another origin cannot send this type without being asked first whether it may.
    given = (header_of(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if given != b"application/json":
        raise BadRequest(415, "The body must be JSON: Content-Type: application/json.")
    try:
        return msgspec.json.decode(await read_body(receive, MOST_BYTES), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, f"The body does not fit: {error}.") from None


async def _refresh_token(scope: Scope, receive: Receive) -> str:
    """From the body; or the query, for clients that know no better: addresses end up in logs."""
    query: dict[str, str] = dict(parse_qsl(scope["query_string"].decode("ascii", "replace")))
    if "refresh_token" in query:
        return query["refresh_token"]
    given: _Refresh = await _body(scope, receive, _Refresh)
    return given.refresh_token


def _shown(identity: Identity) -> dict[str, Any]:
    shown = {"user_id": identity.user_id, "username": identity.name, "email": identity.email}
    return {**shown, "roles": identity.roles, "is_active": True, "expires_at": identity.expires_at}


def _shown_user(user: dict[str, Any]) -> dict[str, Any]:
    shown = {"user_id": user["user_id"], "username": user["name"], "email": user["email"]}
    return {**shown, "roles": [user["role"]], "is_active": True}
