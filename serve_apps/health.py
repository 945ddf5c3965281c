"""How the whole is: every part, how old the data of every exchange is, and one word for all of it. What does not answer
is named, and nothing is said to be well because nobody asked.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment
from serve_apps.bodies import send_json
from serve_apps.parameters import Route
from serve_apps.shared_answer import NoAnswer

HEALTH: Final = "/api/v1/health"
_HEADERS: Final = ((b"access-control-allow-origin", b"*"), (b"cache-control", b"no-store"))
#: Without these nothing can be collected or asked.
_VITAL: Final = ("shard:",)
#: What is told of each kind of part, where it says it.
_SHOWN: Final = (
    *("kind", "version", "available", "pending", "spooled_bytes", "rows_written", "tables_dropped", "tables_rejected"),
    *("state", "lag_ms", "heard_s", "data_s", "symbols", "book_states", "batches_in_flight"),
    *("blocked", "duplicates", "dropped", "bytes_pending", "last_error", "replicas"),
)

ROUTE: Final = Route(
    HEALTH,
    "How the whole is",
    about="`status` is healthy, degraded (something is away or late; what there is is served) or unhealthy (with 503: "
    "nothing can be collected or stored). `age_s` says when a part last answered, `data_s` of a feed how long ago data "
    "came last.",
    example={
        "status": "healthy",
        "reasons": [],
        "components": {"database": {"status": "ok", "age_s": 0.2, "failure": "", "kind": "embedded"}},
        "feeds": {"binance": {"state": "streaming", "lag_ms": 3.1, "data_s": 0.02, "last_error": ""}},
    },
    errors=(503,),
)

#: What `Supervisor.status` says; raises `NoAnswer`.
Status = Callable[[], Awaitable[Mapping[str, Mapping[str, Any]]]]


class HealthApp:
    """ASGI application that answers `ROUTE`."""

    def __init__(self, status: Status) -> None:
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if last_segment(scope, HEALTH) not in ("", "/"):
            raise BadRequest(404, f"There is nothing here; {HEALTH} says how all is.")
        ROUTE.query(scope)
        try:
            said = report(await self._status())
        except NoAnswer:
            missing = {"status": "not answering", "age_s": None, "failure": "it does not answer"}
            said = {
                "status": "unhealthy",
                "reasons": ["the supervisor does not answer"],
                "components": {"supervisor": missing},
                "feeds": {},
            }
        if said["status"] == "unhealthy":
            await send_json(send, said, 503, (*_HEADERS, (b"retry-after", b"1")))
        else:
            await send_json(send, said, headers=_HEADERS)


def report(said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """See `ROUTE`, of `Supervisor.status`."""
    components: dict[str, dict[str, Any]] = {}
    feeds: dict[str, dict[str, Any]] = {}
    reasons: list[str] = []
    vital: list[str] = []
    for name, one in said.items():
        why = _wrong(one)
        shown = {key: one[key] for key in _SHOWN if key in one}
        components[name] = {
            "status": "ok" if not why else "not answering" if not one["answers"] else "failing",
            "age_s": one["age_s"],
            "failure": why,
            **shown,
        }
        if why:
            reasons.append(f"{name}: {why}")
            vital += [name] if name.startswith(_VITAL) else []
        if "exchange" in one:
            feeds[one["exchange"]] = {key: one.get(key) for key in ("state", "lag_ms", "data_s", "last_error")}
            if not why and one.get("state") != "streaming":
                reasons.append(f"{one['exchange']}: {one.get('last_error') or one.get('state')}")
    if not said:
        vital, reasons = ["nothing"], ["nothing runs yet"]
    status = "unhealthy" if vital else "degraded" if reasons else "healthy"
    return {"status": status, "reasons": reasons, "components": components, "feeds": feeds}


def _wrong(one: Mapping[str, Any]) -> str:
    if not one["answers"]:
        return str(one.get("failure") or "does not answer")[:300]
    if failure := one.get("failure") or one.get("blocked"):
        return str(failure)[:300]
    if one.get("available") is False:
        return str(one.get("last_error") or "is away")[:300]
    return ""
