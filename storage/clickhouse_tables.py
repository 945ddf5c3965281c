"""What the tables hold that `storage/sql` makes: the rows that are given for each, what is added to them, what tells
them apart and when they are old.
"""

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from storage.record_schema import ALERTS, AUDIT_LOG, REPORTS, USERS
from storage.schema import (
    ARBITRAGE,
    BARS,
    DERIVATIVES,
    FEATURES,
    GAPS,
    INDICATORS,
    LIQUIDATIONS,
    ORDER_ID,
    QUALITY,
    QUOTES,
    SYMBOL,
    SYMBOLS,
    TRADES,
)

_TYPES: Final[dict[Any, str]] = {
    pa.bool_(): "UInt8",
    pa.uint8(): "UInt8",
    pa.int8(): "Int8",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float64(): "Float64",
    pa.string(): "String",
    SYMBOL: "String",
    ORDER_ID: "FixedString(16)",
}


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` that are written; of those with the same `key` one stays. With `versioned` that is the one that came last,
    and there is a column that says so."""

    rows: pa.Schema
    key: tuple[str, ...]
    #: The column (ns) that says how old a row is; "" where rows do not grow old.
    time: str = ""
    versioned: bool = False

    @property
    def has_exchange(self) -> bool:
        """Whether the exchange is a column that the rows do not have themselves."""
        return "exchange" in self.key and "exchange" not in self.rows.names

    @property
    def columns(self) -> dict[str, str]:
        """Its columns in the database and their types, without what is only said about how they are kept."""
        added = {"exchange": "String"} if self.has_exchange else {}
        version = {"version": "UInt64"} if self.versioned else {}
        return added | {field.name: _type_of(field) for field in self.rows} | version


def _type_of(field: "pa.Field[Any]") -> str:
    name = _TYPES[field.type]
    return f"Nullable({name})" if field.nullable else name


_BY_BAR: Final = ("exchange", "symbol", "timeframe", "time")

#: What the table `bars` holds: `vwap` follows from the rest.
STORED_BARS: Final = pa.schema([field for field in BARS if field.name != "vwap"])

TABLES: Final[dict[str, Table]] = {
    "trades": Table(TRADES, ("exchange", "symbol", "trade_id"), "ts_event"),
    "quotes": Table(QUOTES, ("exchange", "symbol", "ts_event", "sequence"), "ts_event"),
    "bars": Table(STORED_BARS, _BY_BAR, "time", versioned=True),
    "indicators": Table(INDICATORS, _BY_BAR, "time", versioned=True),
    "features": Table(FEATURES, _BY_BAR, "time", versioned=True),
    "derivatives": Table(DERIVATIVES, ("exchange", "symbol", "ts_event", "ts_recv"), "ts_event"),
    "liquidations": Table(
        LIQUIDATIONS, ("exchange", "symbol", "ts_event", "ts_recv", "price", "size", "side"), "ts_event"
    ),
    "gaps": Table(GAPS, ("exchange", "symbol", "gap_id"), "opened"),
    "quality": Table(QUALITY, ("exchange", "symbol", "time"), "time", versioned=True),
    "arbitrage": Table(ARBITRAGE, ("buy_exchange", "buy_symbol", "sell_exchange", "sell_symbol", "opened"), "opened"),
    "symbols": Table(SYMBOLS, ("exchange", "symbol"), versioned=True),
    "alerts": Table(ALERTS, ("alert_id", "ts_event"), "fired_at"),
    "audit_log": Table(AUDIT_LOG, ("time", "id"), "time"),
    "published_reports": Table(REPORTS, ("id",), versioned=True),
    "users": Table(USERS, ("user_id",), versioned=True),
}
