"""How plausible the trades of each symbol are: the checks they passed and failed, hour by hour added up."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, send_problem
from serve_apps.bodies import HEADERS_OF_A_SECOND, send_json
from serve_apps.integrity import only_one
from serve_apps.parameters import known_query, whole_number
from serve_apps.shared_answer import NoAnswer

QUALITY: Final = "/api/v1/quality"
DEFAULT_HOURS: Final = 24
MOST_HOURS: Final = 168

#: (exchange or None, symbol or None, hours) -> rows, see `actors.symbol_shard.SymbolShard.quality`.
Quality = Callable[[str | None, str | None, int], Awaitable[Sequence[dict[str, Any]]]]


class QualityApp:
    """ASGI application that answers GET `/api/v1/quality?exchange=&hours=24` and
    `/api/v1/quality/{symbol}?exchange=&hours=24`."""

    def __init__(self, quality: Quality) -> None:
        self._quality = quality

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wanted = last_segment(scope, QUALITY)
            query = known_query(scope, {"exchange", "hours"})
            exchange, hours = query.get("exchange"), whole_number(query, "hours", DEFAULT_HOURS, MOST_HOURS)
            if wanted in ("", "/"):
                await send_json(send, await self._quality(exchange, None, hours), headers=HEADERS_OF_A_SECOND)
            else:
                rows = await self._quality(exchange, wanted.removeprefix("/"), hours)
                await send_json(send, only_one(rows, wanted, exchange, QUALITY), headers=HEADERS_OF_A_SECOND)
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])
