"""Something that fired."""

from typing import Any

from storage.alert_log import Firing
from tests.actors.alerting.tables import NOW


def firing(**more: Any) -> Firing:
    known = {
        "alert_id": "3f0c",
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "timeframe": None,
        "condition": "price_above",
        "threshold": 100.0,
        "value": 101.5,
        "price": 101.5,
        "ts_event": NOW,
        "fired_at": NOW + 1,
        "message": "binance BTCUSDT: price 101.5 is above 100",
        "note": "",
    }
    return Firing(**{**known, **more})
