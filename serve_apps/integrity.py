"""What is known to be missing: the integrity of every symbol, and the gaps that are open or were."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from serve_apps.asgi import (
    BadRequest,
    Receive,
    Scope,
    Send,
    last_segment,
    send_problem,
)
from serve_apps.bodies import HEADERS_OF_A_SECOND, send_json
from serve_apps.parameters import known_query, whole_number
from serve_apps.shared_answer import NoAnswer

INTEGRITY: Final = "/api/v1/integrity"
GAPS: Final = "/api/v1/gaps"
MOST_GAPS: Final = 5000
DEFAULT_GAPS: Final = 1000

#: One row per symbol, see `actors.supervisor.Supervisor.integrity`.
Integrity = Callable[[], Awaitable[Sequence[dict[str, Any]]]]
#: (exchange or None, symbol or None, only open ones) -> rows of `storage.schema.GAPS` with their exchange.
Gaps = Callable[[str | None, str | None, bool], Awaitable[Sequence[dict[str, Any]]]]


class IntegrityApp:
    """ASGI application that answers GET `/api/v1/integrity?exchange=` and `/api/v1/integrity/{symbol}?exchange=`."""

    def __init__(self, integrity: Integrity) -> None:
        self._integrity = integrity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wanted = last_segment(scope, INTEGRITY)
            exchange = known_query(scope, {"exchange"}).get("exchange")
            rows = [row for row in await self._integrity() if exchange in (None, row["exchange"])]
            if wanted in ("", "/"):
                await send_json(send, rows, headers=HEADERS_OF_A_SECOND)
            else:
                await send_json(send, only_one(rows, wanted, exchange, INTEGRITY), headers=HEADERS_OF_A_SECOND)
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


class GapsApp:
    """ASGI application that answers GET `/api/v1/gaps?exchange=&symbol=&open=0|1&limit=`, the newest first."""

    def __init__(self, gaps: Gaps) -> None:
        self._gaps = gaps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if last_segment(scope, GAPS) not in ("", "/"):
                raise BadRequest(404, f"There is nothing here; {GAPS} lists gaps.")
            query = known_query(scope, {"exchange", "symbol", "open", "limit"})
            limit = whole_number(query, "limit", DEFAULT_GAPS, MOST_GAPS)
            if (only_open := query.get("open", "0")) not in ("0", "1"):
                raise BadRequest(400, "open must be 1 (only open gaps) or 0 (all).")
            found = await self._gaps(query.get("exchange"), query.get("symbol"), only_open == "1")
            await send_json(
                send, sorted(found, key=lambda gap: gap["opened"], reverse=True)[:limit], headers=HEADERS_OF_A_SECOND
            )
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except LookupError as error:
            await send_problem(send, 404, str(error.args[0]))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


def only_one(rows: Sequence[dict[str, Any]], wanted: str, exchange: str | None, path: str) -> dict[str, Any]:
    """The row of the symbol that follows `path` (`wanted`: with its slash), named as on the exchange or as its folder
    is; `BadRequest` where there is none, or where `exchange` would have to say which."""
    symbol = wanted.removeprefix("/")
    found = [row for row in rows if symbol in (row["symbol"], row["symbol"].replace("/", "_"))]
    if not wanted.startswith("/") or not found:
        on = f" on {exchange}" if exchange else ""
        raise BadRequest(404, f"{symbol}{on} is not collected; {path} lists what is.")
    if len(found) > 1:
        having = ", ".join(sorted(row["exchange"] for row in found))
        raise BadRequest(400, f"Several exchanges have {symbol}; add exchange= one of: {having}.")
    return found[0]
