"""What is collected, and changing it while it runs. Anybody may look; changing needs the token that lies in the data
folder of the instance, so that no page a user happens to visit can do it.
"""

from typing import Annotated, Any, Final, Protocol

import msgspec

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, read_body
from serve_apps.bodies import send_json
from serve_apps.parameters import Route
from serve_apps.token import check_token

SUBSCRIPTIONS: Final = "/api/v1/subscriptions"
MOST_BYTES: Final = 64 << 10

_BODY: Final = {
    "type": "object",
    "required": ["exchange", "symbols"],
    "additionalProperties": False,
    "properties": {
        "exchange": {"type": "string"},
        "symbols": {
            "type": "array",
            "minItems": 1,
            "maxItems": 500,
            "items": {"type": "string", "minLength": 1, "maxLength": 100},
        },
    },
}
_CHANGE: Final = {"exchange": "binance", "symbols": ["BTCUSDT"]}
ROUTES: Final = (
    Route(
        SUBSCRIPTIONS,
        "What is collected",
        about="`state` is subscribed, waiting or refused (`reason` says why), `book` the state of the order book.",
        example=[{"exchange": "binance", "symbol": "BTCUSDT", "state": "subscribed", "reason": "", "book": "synced"}],
    ),
    Route(
        SUBSCRIPTIONS,
        "Collect further symbols, from now on and after a restart",
        method="POST",
        about="422 where one of them is refused; the others are added.",
        body=_BODY,
        body_example=_CHANGE,
        example={"added": ["BTCUSDT"], "refused": {}},
        errors=(400, 401, 404, 413, 422, 503),
        needs_token=True,
    ),
    Route(
        SUBSCRIPTIONS,
        "Stop collecting symbols; what is stored of them stays",
        method="DELETE",
        body=_BODY,
        body_example=_CHANGE,
        example={"removed": ["BTCUSDT"]},
        errors=(400, 401, 404, 413, 503),
        needs_token=True,
    ),
)


class Collection(Protocol):
    """The supervisor, as this application uses it. `LookupError` with a text for an exchange that does not run."""

    async def symbols(self) -> list[dict[str, Any]]: ...
    async def add(self, exchange: str, symbols: list[str]) -> dict[str, str]: ...
    async def remove(self, exchange: str, symbols: list[str]) -> list[str]: ...


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    exchange: str
    symbols: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=100)]], msgspec.Meta(min_length=1, max_length=500)
    ]


class SubscriptionsApp:
    """ASGI application: GET lists, POST adds and DELETE removes `{"exchange": ..., "symbols": [...]}`."""

    def __init__(self, collection: Collection, token: str) -> None:
        self._collection = collection
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if last_segment(scope, SUBSCRIPTIONS) not in ("", "/"):
            raise BadRequest(404, f"There is nothing here; {SUBSCRIPTIONS} lists what is collected.")
        ROUTES[0].query(scope)
        if scope["method"] in ("GET", "HEAD"):
            await send_json(send, await self._collection.symbols())
            return
        check_token(scope, self._token, "Changing what is collected")
        change = _change(await read_body(receive, MOST_BYTES))
        try:
            if scope["method"] == "POST":
                said = await self._collection.add(change.exchange, change.symbols)
                refused = {symbol: reason for symbol, reason in said.items() if reason}
                added = [symbol for symbol in said if symbol not in refused]
                await send_json(send, {"added": added, "refused": refused}, 422 if refused else 200)
            else:
                removed = await self._collection.remove(change.exchange, change.symbols)
                await send_json(send, {"removed": removed})
        except LookupError as error:
            raise BadRequest(404, str(error.args[0])) from None


def _change(body: bytes) -> _Change:
    try:
        return msgspec.json.decode(body, type=_Change)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, f'The body must be {{"exchange": ..., "symbols": [...]}}: {error}.') from None
