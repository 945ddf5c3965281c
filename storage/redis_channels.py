"""Channels of Redis: what is told once to those who listen at that moment, one message for a batch of rows.

Trades go as the Arrow IPC stream they came as; bars as JSON, as a page shows them.
"""

from typing import Any, Final

import msgspec
import pyarrow as pa

from storage.redis import NANOSECONDS, finite
from storage.schema import INDICATOR_FIELDS

#: Closed bars, and the bars and indicators of charts, which may be open.
COMPLETED_BARS: Final = "completed_bars"
CHART_UPDATES: Final = "chart_updates"

_CHART: Final = ("open", "high", "low", "close", "volume")
_encode: Final = msgspec.json.Encoder().encode


def trades_channel(exchange: str) -> str:
    return f"trades:{exchange}"


def completed_bars(exchange: str, bars: pa.Table) -> bytes | None:
    """The bars of a batch (`storage.schema.BARS`) that are closed, with `time` in seconds; None without any."""
    rows = bars.filter(bars["closed"]).drop_columns(["closed"]).to_pylist()
    if not rows:
        return None
    told = [{**finite(row, *row), "time": row["time"] // NANOSECONDS} for row in rows]
    return _encode({"exchange": exchange, "bars": told})


def chart_updates(exchange: str, bars: pa.Table, indicators: pa.Table | None) -> bytes | None:
    """All bars of a batch with their indicators (`storage.schema.INDICATORS`) where these came along, with `time` in
    milliseconds; None without bars."""
    known = {}
    for row in [] if indicators is None else indicators.to_pylist():
        known[_key(row)] = finite(row, *INDICATOR_FIELDS)
    updates: list[dict[str, Any]] = [
        {
            "symbol": row["symbol"],
            "timeframe": row["timeframe"],
            "time": row["time"] // 1_000_000,
            "closed": row["closed"],
            "bar": finite(row, *_CHART),
            "indicators": known.get(_key(row)),
        }
        for row in bars.to_pylist()
    ]
    return _encode({"exchange": exchange, "updates": updates}) if updates else None


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["symbol"], row["timeframe"], row["time"]
