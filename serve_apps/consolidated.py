"""What is known over all exchanges: the best bid and ask of every instrument, and where buying at one exchange and
selling at another pays.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from serve_apps.asgi import (
    BadRequest,
    Receive,
    Scope,
    Send,
    last_segment,
    send_problem,
)
from serve_apps.bodies import send_json
from serve_apps.parameters import known_query, whole_number
from serve_apps.shared_answer import NoAnswer

BBO: Final = "/api/v1/bbo"
ARBITRAGE: Final = "/api/v1/arbitrage"
MOST_EPISODES: Final = 5000
DEFAULT_EPISODES: Final = 1000
KINDS: Final = ("spot", "perpetual")

#: `storage.schema.CONSOLIDATED`, of all instruments; raises `NoAnswer`.
Best = Callable[[], Awaitable[pa.RecordBatch]]
#: `storage.schema.ARBITRAGE`: open ones, best first, then the newest of those that are over; raises `NoAnswer`.
Episodes = Callable[[], Awaitable[pa.RecordBatch]]


class BestApp:
    """ASGI application that answers GET `/api/v1/bbo?kind=spot|perpetual&exchange=` and `/api/v1/bbo/{instrument}`."""

    def __init__(self, best: Best) -> None:
        self._best = best

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            wanted = last_segment(scope, BBO)
            if wanted in ("", "/"):
                query = known_query(scope, {"kind", "exchange"})
                if (kind := query.get("kind", "spot")) not in KINDS:
                    raise BadRequest(400, f"kind must be one of: {', '.join(KINDS)}; not {kind[:40]!r}.")
                rows = _with_values(await self._best(), {"kind": query.get("kind")}).to_pylist()
                if (exchange := query.get("exchange")) is not None:
                    rows = [row for row in rows if exchange in (quote["exchange"] for quote in row["quotes"])]
                await send_json(send, rows)
            else:
                known_query(scope, set())
                await send_json(send, _one(await self._best(), wanted))
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


class ArbitrageApp:
    """ASGI application that answers GET `/api/v1/arbitrage?instrument=&buy_exchange=&sell_exchange=&open=0|1&limit=`:
    what is open now, the most profitable first, and what is over, the newest first."""

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if last_segment(scope, ARBITRAGE) not in ("", "/"):
                raise BadRequest(404, f"There is nothing here; {ARBITRAGE} lists opportunities, {BBO} the best quotes.")
            equal = ("instrument", "buy_exchange", "sell_exchange")
            query = known_query(scope, {*equal, "open", "limit"})
            limit = whole_number(query, "limit", DEFAULT_EPISODES, MOST_EPISODES)
            if (only_open := query.get("open", "0")) not in ("0", "1"):
                raise BadRequest(400, "open must be 1 (only what is open) or 0 (all).")
            found = _with_values(await self._episodes(), {name: query.get(name) for name in equal})
            if only_open == "1":
                found = found.filter(pc.is_null(found.column("closed")))
            await send_json(send, found.slice(0, limit).to_pylist())
        except BadRequest as error:
            await send_problem(send, error.status, str(error))
        except NoAnswer as error:
            await send_problem(send, 503, str(error), [(b"retry-after", b"1")])


def _with_values(rows: pa.RecordBatch, values: dict[str, str | None]) -> pa.RecordBatch:
    """Those with these values, where one is wanted."""
    for name, value in values.items():
        if value is not None:
            rows = rows.filter(pc.equal(rows.column(name), pa.scalar(value)))
    return rows


def _one(rows: pa.RecordBatch, wanted: str) -> dict[str, Any]:
    name = wanted.removeprefix("/")
    found = _with_values(rows, {"instrument": name}).to_pylist()
    if not wanted.startswith("/") or not found:
        raise BadRequest(404, f"{name[:100]} is collected nowhere; {BBO} lists what is.")
    return found[0]
