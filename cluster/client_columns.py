"""What `/api/data` answers as Arrow tables, and how to ask for it. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa

from storage.schema import COLUMNS, QUOTES, TRADES, RowType

Kind = Literal["trades", "quotes"]

#: Of each kind: the type of its rows, and from which stored column each one comes besides `ts_event`.
_STORED: Final[dict[Kind, tuple[RowType, pa.Schema, dict[str, str]]]] = {
    "trades": ("TRADES", TRADES, {"trade_id": "id", "price": "price64", "size": "size64", "side": "side"}),
    "quotes": (
        "MD",
        QUOTES,
        {
            "sequence": "sequence",
            "bid_price": "best_bid64",
            "bid_size": "best_bid_size64",
            "ask_price": "best_ask64",
            "ask_size": "best_ask_size64",
            "last_price": "price64",
            "last_size": "size64",
        },
    ),
}
_SECOND_NS: Final = 1_000_000_000


class BadAnswer(ValueError):
    """Bytes that are not what `/api/data` answers, or not all of it."""


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of one symbol from `start_ns` to `end_ns`, both included."""

    kind: Kind
    exchange: str
    symbol: str
    start_ns: int
    end_ns: int

    @property
    def target(self) -> str:
        """Path and query: whole seconds, so that ranges are the same for many who ask."""
        row_type, _, columns = _STORED[self.kind]
        query = {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "type": row_type,
            "start": max(0, self.start_ns // _SECOND_NS),
            "end": max(0, self.end_ns // _SECOND_NS),
            "columns": ",".join(("time", "nanos", *columns.values())),
        }
        return f"/api/data?{urlencode(query)}"

    def halves(self) -> "tuple[Range, Range]":
        """Two that are the same together; ValueError for a second, which cannot be asked for in parts."""
        middle = (self.start_ns + self.end_ns) // 2 // _SECOND_NS * _SECOND_NS
        if middle <= self.start_ns:
            raise ValueError("a single second has more rows than one answer can hold")
        first = Range(self.kind, self.exchange, self.symbol, self.start_ns, middle - 1)
        return first, Range(self.kind, self.exchange, self.symbol, middle, self.end_ns)


def table_of(asked: Range, body: bytes) -> pa.Table:
    """The rows of an answer: `ts_event` (int64 ns) and the columns of `storage.schema.TRADES` or `QUOTES` that are
    stored. A number that is not known is null. Columns of 8 bytes are views of `body`. `BadAnswer` when it is not the
    answer to that."""
    row_type, schema, columns = _STORED[asked.kind]
    kinds, found, place = COLUMNS[row_type], {}, body.find(b"\n") + 1
    try:
        for column in json.loads(body[:place])["columns"]:
            name, length = column["name"], column["data_length"]
            found[name] = np.frombuffer(body, kinds[name], length // kinds[name].itemsize, place)
            place += length
        time = found["time"].astype(np.int64) * _SECOND_NS + found["nanos"]
        values = {"ts_event": pa.array(time)}
        for name, stored in columns.items():
            # NaN stands for what is not known.
            plain: Any = pa.array(found[stored], from_pandas=True)
            values[name] = plain.cast(schema.field(name).type)
    except (ValueError, KeyError, TypeError) as error:
        raise BadAnswer(f"an answer of {len(body)} bytes is not what {asked.target} answers: {error}") from None
    if place != len(body):
        raise BadAnswer(f"an answer of {len(body)} bytes should have {place}")
    first, last = np.searchsorted(time, asked.start_ns), np.searchsorted(time, asked.end_ns, "right")
    return pa.table(values).slice(int(first), int(last - first))
