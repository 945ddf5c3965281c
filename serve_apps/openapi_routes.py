"""Everything that can be asked of the API: the routes of all applications, for the OpenAPI document."""

from typing import Any, Final

from actors.alerting.conditions import CONDITIONS
from serve_apps import (
    audit,
    auth,
    books,
    charts,
    configuration,
    consolidated,
    export_links,
    exports,
    features,
    health,
    integrity,
    overview,
    quality,
    reports_api,
    subscriptions,
    symbols_v1,
    trades,
)
from serve_apps.alerts import ALERTS, DEFAULT_DELIVERIES, DELIVERIES, MOST_DELIVERIES
from serve_apps.parameters import Route, number

_ALERT: Final = {"symbol": "BTCUSDT", "exchange": "binance", "condition": "price_above", "threshold": 70000}
_MADE: Final = {"alert_id": "0b9e2c1e-7d1c-4b43-9b53-2f9c4c7a9d11", **_ALERT, "is_active": True, "trigger_count": 0}
_ID: Final = {"alert_id": "As it was given when the alert was made."}
_BODY: Final = {"type": "object", "properties": {"condition": {"type": "string"}}}
_LIMIT: Final = number("limit", "The newest so many.", DEFAULT_DELIVERIES, MOST_DELIVERIES)


def _of_alerts(path: str, summary: str, **said: Any) -> Route:
    return Route(path, summary, needs_token=True, **{"errors": (400, 401, 404, 413, 503), **said})


ROUTES: Final[tuple[Route, ...]] = (
    *symbols_v1.ROUTES,
    charts.ROUTE,
    trades.ROUTE,
    books.ROUTE,
    books.OLD_ROUTE,
    features.ROUTE,
    *exports.ROUTES,
    *export_links.LINK_ROUTES,
    *consolidated.ROUTES,
    consolidated.ARBITRAGE_ROUTE,
    *integrity.ROUTES,
    integrity.GAPS_ROUTE,
    *quality.ROUTES,
    *subscriptions.ROUTES,
    health.ROUTE,
    *overview.ROUTES,
    audit.ROUTE,
    *auth.ROUTES,
    *configuration.ROUTES,
    *reports_api.ROUTES,
    _of_alerts(ALERTS, "All alerts", example=[_MADE]),
    _of_alerts(
        ALERTS,
        "Make an alert",
        method="POST",
        about=f"Conditions: {', '.join(CONDITIONS)}; see docs/alerts.md.",
        body=_BODY,
        body_example=_ALERT,
        example=_MADE,
        status=201,
    ),
    _of_alerts(f"{ALERTS}/{{alert_id}}", "One alert", segments=_ID, example=_MADE),
    _of_alerts(
        f"{ALERTS}/{{alert_id}}",
        "Change an alert: only what is sent",
        method="PUT",
        segments=_ID,
        body=_BODY,
        body_example={"threshold": 71000},
        example=_MADE,
    ),
    _of_alerts(f"{ALERTS}/{{alert_id}}", "Remove an alert", method="DELETE", segments=_ID, status=204),
    _of_alerts(f"{ALERTS}/{DELIVERIES}", "Who was told of what fired", parameters=(_LIMIT,), example=[]),
    _of_alerts(
        f"{ALERTS}/{{alert_id}}/{DELIVERIES}",
        "Who was told of one alert",
        parameters=(_LIMIT,),
        segments=_ID,
        example=[],
    ),
)
