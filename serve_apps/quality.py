"""How plausible the trades of each symbol are: the checks they passed and failed, hour by hour added up."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from serve_apps.asgi import Receive, Scope, Send, last_segment
from serve_apps.bodies import HEADERS_OF_A_SECOND, send_json
from serve_apps.integrity import only_one
from serve_apps.parameters import Route, number
from serve_apps.symbol_names import EXCHANGE, ONE_EXCHANGE, SYMBOL

QUALITY: Final = "/api/v1/quality"
HOURS: Final = number("hours", "Of so many hours, the running one included.", 24, 168)
_COUNTS: Final = {"quality_score": 0.99, "score": 1.0, "total_checks": 100, "passed_checks": 99, "failed_checks": 1}
_EXAMPLE: Final = {"exchange": "binance", "symbol": "BTCUSDT", "hours": 24, **_COUNTS}
ROUTES: Final = (
    Route(
        QUALITY,
        "How plausible the trades of all symbols are",
        (ONE_EXCHANGE, HOURS),
        about="What is counted is said in docs/quality.md.",
        example=[_EXAMPLE],
    ),
    Route(
        QUALITY + "/{symbol}",
        "How plausible the trades of one symbol are, with its newest failures",
        (EXCHANGE, HOURS),
        example={**_EXAMPLE, "recent_failures": [], "recent_level_shifts": [], "recent_silences": []},
        segments={"symbol": SYMBOL},
    ),
)

#: (exchange or None, symbol or None, hours) -> rows, see `actors.symbol_shard.SymbolShard.quality`.
Quality = Callable[[str | None, str | None, int], Awaitable[Sequence[dict[str, Any]]]]


class QualityApp:
    """ASGI application that answers `ROUTES`."""

    def __init__(self, quality: Quality) -> None:
        self._quality = quality

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = last_segment(scope, QUALITY)
        if wanted in ("", "/"):
            query = ROUTES[0].query(scope)
            rows = await self._quality(ONE_EXCHANGE.of(query), None, HOURS.of(query))
            await send_json(send, rows, headers=HEADERS_OF_A_SECOND)
        else:
            query = ROUTES[1].query(scope)
            exchange = EXCHANGE.of(query)
            rows = await self._quality(exchange, wanted.removeprefix("/"), HOURS.of(query))
            await send_json(send, only_one(rows, wanted, exchange, QUALITY), headers=HEADERS_OF_A_SECOND)
