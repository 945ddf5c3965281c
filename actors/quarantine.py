"""The newest trades that failed a check, and the newest level shifts and silences: a bounded number of each, in files
that a killed process leaves as they are.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.aggregation.quality import CHECKS, Judgement, explain, thresholds
from actors.aggregation.quality_kernels import Array, Rules
from storage.mapped_rows import MappedRows
from storage.schema import QUARANTINE, symbols_of

#: Each row has a `number`, counting up; 0 where there is none.
_NAMES: Final = [("number", "<i8"), ("exchange", "S16"), ("symbol", "S104")]
_TRADE: Final = ("ts_event", "ts_recv", "trade_id", "price", "size", "side")
FLAGGED: Final = np.dtype(
    [
        *_NAMES,
        ("ts_event", "<i8"),
        ("ts_recv", "<i8"),
        ("trade_id", "<i8"),
        ("price", "<f8"),
        ("size", "<f8"),
        ("side", "u1"),
        ("check", "u1"),
        ("value", "<f8"),
        ("threshold", "<f8"),
    ]
)
_EVENT: Final = ("kind", "from_ns", "to_ns", "from_price", "to_price")
EVENTS: Final = np.dtype(
    [
        *_NAMES,
        ("kind", "<i8"),
        ("from_ns", "<i8"),
        ("to_ns", "<i8"),
        ("from_price", "<f8"),
        ("to_price", "<f8"),
    ]
)


class Quarantine:
    """In `folder/name.quarantine` and `folder/name.events`, `most` of each. OSError when the disk fails."""

    def __init__(self, folder: Path, name: str, most: int) -> None:
        self._flagged = _Newest(folder / f"{name}.quarantine", FLAGGED, most)
        self._events = _Newest(folder / f"{name}.events", EVENTS, most)

    def add(self, exchange: str, trades: pa.RecordBatch, judgement: Judgement, rules: Rules) -> None:
        """Keep what was found in these trades."""
        failed = np.flatnonzero(judgement.verdicts)[-self._flagged.most :]
        if len(failed):
            rows = _named(FLAGGED, exchange, trades, failed)
            for name in _TRADE:
                rows[name] = np.asarray(trades.column(name))[failed]
            rows["check"], rows["value"] = judgement.verdicts[failed], judgement.values[failed]
            rows["threshold"] = thresholds(rows["check"], rows["value"], rules)
            self._flagged.add(rows)
        shown = judgement.events[-self._events.most :]
        if len(shown):
            rows = _named(EVENTS, exchange, trades, shown["row"])
            for name in _EVENT:
                rows[name] = shown[name]
            self._events.add(rows)

    def trades(self, exchange: str, symbol: str) -> pa.RecordBatch:
        """`storage.schema.QUARANTINE`, oldest first."""
        rows = self._flagged.of(exchange, symbol)
        checks = rows["check"].tolist()
        said = [explain(*one) for one in zip(checks, rows["value"].tolist(), rows["threshold"].tolist(), strict=True)]
        columns: dict[str, Any] = {
            "symbol": pa.array([symbol] * len(rows), pa.string()),
            "check_type": pa.array([CHECKS[check] for check in checks], pa.string()),
            "error_message": pa.array(said, pa.string()),
        }
        columns |= {name: pa.array(rows[name].copy()) for name in QUARANTINE.names if name not in columns}
        return pa.RecordBatch.from_arrays([columns[name] for name in QUARANTINE.names], schema=QUARANTINE)

    def clear(self, exchange: str, symbol: str) -> int:
        """Let go of the trades of a symbol; how many there were."""
        return self._flagged.clear(exchange, symbol)

    def events(self, exchange: str, symbol: str, kind: int) -> list[dict[str, Any]]:
        """Those of one kind, oldest first: `from_ns`, `to_ns`, `from_price` and `to_price`."""
        rows = self._events.of(exchange, symbol)
        rows = rows[rows["kind"] == kind]
        return [dict(zip(_EVENT[1:], row.tolist(), strict=True)) for row in rows[list(_EVENT[1:])]]

    def rows(self, exchange: str, symbol: str) -> tuple[Array, Array]:
        """Everything of a symbol, for `adopt`."""
        return self._flagged.of(exchange, symbol), self._events.of(exchange, symbol)

    def adopt(self, flagged: Array, events: Array) -> None:
        """Take rows of symbols that were another's."""
        # What comes through the object store cannot be written to.
        self._flagged.add(flagged[-self._flagged.most :].copy())
        self._events.add(events[-self._events.most :].copy())

    def forget(self, exchange: str, symbol: str) -> None:
        """Let go of everything of a symbol."""
        self._flagged.clear(exchange, symbol)
        self._events.clear(exchange, symbol)

    def close(self) -> None:
        self._flagged.close()
        self._events.close()


class _Newest:
    """A ring of rows in a file."""

    def __init__(self, path: Path, kind: "np.dtype[Any]", most: int) -> None:
        self.most = most
        self._file = MappedRows(path, kind, most)
        numbers = self._file.rows["number"]
        there = np.flatnonzero(numbers > 0)
        self._last = int(numbers.max())
        if (numbers[there] % most != there).any():
            # There was room for more or for less before.
            newest = _in_order(self._file.rows)[-most:]
            numbers[:] = 0
            self.add(newest)

    def add(self, rows: Array) -> None:
        numbers = self._last + 1 + np.arange(len(rows))
        places = numbers % self.most
        self._last += len(rows)
        held = self._file.rows
        held["number"][places] = 0
        rows["number"] = 0
        held[places] = rows
        # Last: what has a number is whole.
        held["number"][places] = numbers

    def of(self, exchange: str, symbol: str) -> Array:
        rows = self._file.rows
        return _in_order(rows[(rows["exchange"] == exchange.encode()) & (rows["symbol"] == symbol.encode())])

    def clear(self, exchange: str, symbol: str) -> int:
        rows = self._file.rows
        mine = (rows["exchange"] == exchange.encode()) & (rows["symbol"] == symbol.encode()) & (rows["number"] > 0)
        rows["number"][mine] = 0
        return int(np.count_nonzero(mine))

    def close(self) -> None:
        self._file.close()


def _in_order(rows: Array) -> Array:
    there = rows[rows["number"] > 0]
    return there[np.argsort(there["number"])]


def _named(kind: "np.dtype[Any]", exchange: str, trades: pa.RecordBatch, places: Array) -> Array:
    names, codes = symbols_of(trades)
    rows = np.zeros(len(places), kind)
    rows["exchange"] = exchange.encode()
    rows["symbol"] = [names[code].encode() for code in codes[places]]
    return rows
