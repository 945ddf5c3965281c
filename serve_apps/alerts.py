"""Alerts over HTTP: to make, look at, change and remove them, and who was told. All of it needs the token of the data
folder, as alerts hold addresses that are secrets.
"""

from typing import Any, Final, Protocol

import msgspec

from actors.alerting.definitions import AlertError, NotWritten, UnknownAlert
from serve_apps.asgi import BadRequest, Receive, Scope, Send, last_segment, read_body, send_whole
from serve_apps.parameters import known_query, whole_number
from serve_apps.shared_answer import NoAnswer
from serve_apps.token import check_token

ALERTS: Final = "/api/v1/alerts"
DELIVERIES: Final = "deliveries"
MOST_BYTES: Final = 16 << 10
MOST_DELIVERIES: Final = 10_000
DEFAULT_DELIVERIES: Final = 100
_HEADERS: Final = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


class Alerts(Protocol):
    """The alerter, as this application uses it; see `actors.alerter.Alerter`, also for what is raised."""

    async def add_alert(self, given: dict[str, Any]) -> dict[str, Any]: ...
    async def change_alert(self, alert_id: str, given: dict[str, Any]) -> dict[str, Any]: ...
    async def remove_alert(self, alert_id: str) -> None: ...
    async def alerts(self) -> list[dict[str, Any]]: ...
    async def alert(self, alert_id: str) -> dict[str, Any]: ...
    async def deliveries(self, alert_id: str | None, limit: int) -> list[dict[str, Any]]: ...


class AlertsApp:
    """ASGI application: GET and POST of `/api/v1/alerts`, GET, PUT and DELETE of `/api/v1/alerts/{id}`, and GET of
    `/api/v1/alerts/deliveries` and `/api/v1/alerts/{id}/deliveries?limit=`."""

    def __init__(self, alerts: Alerts, token: str) -> None:
        self._alerts = alerts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_token(scope, self._token, "Looking at alerts and changing them")
            status, said = await self._answer(scope, receive)
            if status == 204:
                await send_whole(send, status, (), b"")
            else:
                await send_whole(send, status, _HEADERS, msgspec.json.encode(said))
        except UnknownAlert as error:
            raise BadRequest(404, f"{error}; GET {ALERTS} lists them.") from None
        except NotWritten as error:
            raise NoAnswer(str(error)) from None
        except AlertError as error:
            raise BadRequest(400, str(error)) from None

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        match method, [part for part in last_segment(scope, ALERTS).split("/") if part]:
            case "GET", []:
                return 200, await self._alerts.alerts()
            case "POST", []:
                return 201, await self._alerts.add_alert(await _body(receive))
            case "GET", [one] if one == DELIVERIES:
                return 200, await self._alerts.deliveries(None, _limit(scope))
            case "GET", [alert_id]:
                return 200, await self._alerts.alert(alert_id)
            case "PUT", [alert_id]:
                return 200, await self._alerts.change_alert(alert_id, await _body(receive))
            case "DELETE", [alert_id]:
                await self._alerts.remove_alert(alert_id)
                return 204, None
            case "GET", [alert_id, last] if last == DELIVERIES:
                return 200, await self._alerts.deliveries(alert_id, _limit(scope))
        raise BadRequest(
            404,
            f"Here are GET and POST of {ALERTS}, GET, PUT and DELETE of {ALERTS}/{{id}}, "
            f"GET of {ALERTS}/{DELIVERIES} and {ALERTS}/{{id}}/{DELIVERIES}.",
        )


async def _body(receive: Receive) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await read_body(receive, MOST_BYTES), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(400, f"The body must be a JSON object: {error}.") from None


def _limit(scope: Scope) -> int:
    return whole_number(known_query(scope, ("limit",)), "limit", DEFAULT_DELIVERIES, MOST_DELIVERIES)
