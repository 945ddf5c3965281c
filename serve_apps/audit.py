"""Who changed what and what happened to the instance: the audit log, the newest first, page by page. It needs the token
of the data folder.
"""

import base64
import binascii
from typing import Any, Final

import msgspec

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment
from serve_apps.bar_series import Query
from serve_apps.bodies import send_json
from serve_apps.parameters import Parameter, Route, choice, moment, number, text
from serve_apps.token import check_token
from storage.clickhouse import Parameter as Bound
from storage.record_schema import AUDIT_LOG

AUDIT: Final = "/api/v1/audit"
MOST: Final = 1000
_HEADERS: Final = ((b"cache-control", b"no-store"),)
_FIRST, _AFTER = 0, 2**63 - 1

LIMIT: Final = number("limit", "Rows of a page at most.", 100, MOST)
EVENT: Final[Parameter[str | None]] = text("event", "Only these events.", "symbols_added")
ONE_EXCHANGE: Final[Parameter[str | None]] = text("exchange", "Only what is about this exchange.", "binance")
ONE_SYMBOL: Final[Parameter[str | None]] = text("symbol", "Only what is about this symbol.", "BTCUSDT")
SEVERITY: Final = choice("severity", "Only these; all of them by default.", "", ("", "info", "warning", "error"))
START: Final = moment("start", "Only what happened at or after this time.")
END: Final = moment("end", "Only what happened before this time.", "2026-01-31T13:00:00Z")
CURSOR: Final[Parameter[str | None]] = text("cursor", "next_cursor of the page before; with its other parameters.")

ROUTE: Final = Route(
    AUDIT,
    "The audit log, the newest first",
    (LIMIT, EVENT, ONE_EXCHANGE, ONE_SYMBOL, SEVERITY, START, END, CURSOR),
    about="`time` is in ns since the epoch. What happened reaches the log within a few seconds.",
    example={
        "rows": [
            {"time": 1769860800000000000, "id": "0b9e", "event": "symbols_added", "severity": "info"}
            | {"component": "symbols", "exchange": "binance", "symbol": "BTCUSDT", "user": ""}
            | {"message": "collected from now on", "details": {}}
        ],
        "next_cursor": None,
    },
    errors=(400, 401, 503),
    needs_token=True,
)


class AuditApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(self, query: Query, token: str) -> None:
        self._query = query
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_token(scope, self._token, "Reading the audit log")
        if last_segment(scope, AUDIT) not in ("", "/"):
            raise BadRequest(404, f"There is nothing here; {AUDIT} is the audit log.")
        query = ROUTE.query(scope)
        start, end, limit, cursor = START.of(query), END.of(query), LIMIT.of(query), CURSOR.of(query)
        conditions = ["time >= {start:Int64}", "time < {end:Int64}"]
        bound: dict[str, Bound] = {"start": start or _FIRST, "end": _AFTER if end is None else end, "limit": limit + 1}
        for one in (EVENT, ONE_EXCHANGE, ONE_SYMBOL, SEVERITY):
            if value := one.of(query):
                conditions.append(f"{one.name} = {{{one.name}:String}}")
                bound[one.name] = value
        if cursor is not None:
            conditions.append("(time, id) < ({cursor_time:Int64}, {cursor_id:String})")
            bound |= _read_cursor(cursor)
        sql = (
            f"SELECT {', '.join(AUDIT_LOG.names)} FROM audit_log FINAL WHERE {' AND '.join(conditions)}"  # noqa: S608
            " ORDER BY time DESC, id DESC LIMIT {limit:UInt32}"
        )
        rows: list[dict[str, Any]] = (await self._query(sql, bound)).to_pylist()
        more, rows = len(rows) > limit, rows[:limit]
        said = [{**row, "details": msgspec.Raw(row["details"].encode() or b"{}")} for row in rows]
        await send_json(send, {"rows": said, "next_cursor": _cursor(rows[-1]) if more else None}, headers=_HEADERS)


def _cursor(row: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(f"{row['time']} {row['id']}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> dict[str, Bound]:
    try:
        said = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        time, _, row_id = said.partition(" ")
        if not (time.isascii() and time.isdigit() and len(time) <= 19 and row_id):
            raise ValueError(time)
    except (binascii.Error, ValueError):
        raise BadRequest(400, "cursor must be next_cursor of the page before, as it was.") from None
    return {"cursor_time": min(int(time), _AFTER), "cursor_id": row_id}
