"""The settings of a running instance: to look at, to change without a restart, and to go back to what they were. All of
it needs the token of the data folder.
"""

from typing import Any, Final, Protocol

import msgspec

from actors.configuration import OutdatedVersion, UnknownVersion
from config import SettingsError
from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, read_body
from serve_apps.auth_identity import identity_of
from serve_apps.bodies import send_json
from serve_apps.parameters import Route, number
from serve_apps.token import check_token

CONFIGURATION: Final = "/api/v1/configuration"
MOST_BYTES: Final = 64 << 10
_HEADERS: Final = ((b"cache-control", b"no-store"),)

LIMIT: Final = number("limit", "The newest so many versions.", 100, 1000)
_CHANGED: Final = {"quality": {"late_s": [60.0, 30.0]}}
_VALUES: Final = {"quality": {"late_s": 30.0}}
_SAID: Final = {"version": 1, "time": 1769860800000000000, "user": "", "note": "stricter"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 2**53}
_NOTE: Final = {"type": "string", "maxLength": 500}
ROUTES: Final = (
    Route(
        CONFIGURATION,
        "The settings as they are",
        about="`values` may change while the instance runs, `fixed` needs a restart. Symbols change under "
        "/api/v1/subscriptions, alerts under /api/v1/alerts.",
        example={**_SAID, "values": _VALUES, "fixed": {"shards": 2}},
        errors=(400, 401, 503),
        needs_token=True,
    ),
    Route(
        CONFIGURATION,
        "Change settings: only what is sent",
        method="PUT",
        about="Takes effect at once, and after a restart. With `version` only while that is the newest (409). "
        "`changed` says what differs, as [before, after]; nothing does where all was so already.",
        body={
            "type": "object",
            "required": ["values"],
            "additionalProperties": False,
            "properties": {"values": {"type": "object"}, "note": _NOTE, "version": _NUMBER},
        },
        body_example={"values": _VALUES, "note": "stricter"},
        example={"version": 1, "changed": _CHANGED},
        errors=(400, 401, 409, 413, 503),
        needs_token=True,
    ),
    Route(
        CONFIGURATION + "/versions",
        "Every change, the newest first",
        (LIMIT,),
        example=[{**_SAID, "undoes": None, "changed": _CHANGED}],
        errors=(400, 401, 503),
        needs_token=True,
    ),
    Route(
        CONFIGURATION + "/rollback",
        "Let the values of a version hold again; 0 is what the instance was started with",
        method="POST",
        about="A further version: nothing is forgotten.",
        body={
            "type": "object",
            "required": ["version"],
            "additionalProperties": False,
            "properties": {"version": _NUMBER, "note": _NOTE},
        },
        body_example={"version": 0, "note": "as before"},
        example={"version": 2, "changed": {"quality": {"late_s": [30.0, 60.0]}}},
        errors=(400, 401, 404, 413, 503),
        needs_token=True,
    ),
)


class Configurable(Protocol):
    """The supervisor, as this application uses it; see `actors.configuration`, also for what is raised."""

    async def configuration(self) -> dict[str, Any]: ...
    async def configuration_versions(self) -> list[dict[str, Any]]: ...
    async def configure(self, values: dict[str, Any], note: str, user: str, expected: int | None) -> dict[str, Any]: ...
    async def roll_back(self, version: int, note: str, user: str) -> dict[str, Any]: ...


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    values: dict[str, Any]
    note: str = ""
    version: int | None = None


class _Rollback(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    note: str = ""


class ConfigurationApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(self, instance: Configurable, token: str) -> None:
        self._instance = instance
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_token(scope, self._token, "Looking at the configuration and changing it")
        try:
            await send_json(send, await self._answer(scope, receive), headers=_HEADERS)
        except SettingsError as error:
            raise BadRequest(400, f"{error}.") from None
        except OutdatedVersion as error:
            raise BadRequest(409, f"{error}.") from None
        except UnknownVersion as error:
            raise BadRequest(404, f"{error}; {CONFIGURATION}/versions lists them.") from None

    async def _answer(self, scope: Scope, receive: Receive) -> Any:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        match method, last_segment(scope, CONFIGURATION).rstrip("/"):
            case "GET", "":
                ROUTES[0].query(scope)
                return await self._instance.configuration()
            case "PUT", "":
                ROUTES[1].query(scope)
                change = _body(await read_body(receive, MOST_BYTES), _Change)
                return await self._instance.configure(change.values, change.note, _user(scope), change.version)
            case "GET", "/versions":
                limit = LIMIT.of(ROUTES[2].query(scope))
                return (await self._instance.configuration_versions())[:limit]
            case "POST", "/rollback":
                ROUTES[3].query(scope)
                back = _body(await read_body(receive, MOST_BYTES), _Rollback)
                return await self._instance.roll_back(back.version, back.note, _user(scope))
            case _:
                known = ", ".join(f"{route.method} {route.path}" for route in ROUTES)
                raise BadRequest(404, f"There is nothing here; there are {known}.")


def _user(scope: Scope) -> str:
    """Who asks; "" where nobody has found that out."""
    identity = identity_of(scope)
    return identity.name if identity is not None else ""


def _body[Body](content: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, f"The body does not fit: {error}; /docs has an example.") from None
