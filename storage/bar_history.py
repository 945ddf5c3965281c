"""Bars of days that are over, kept so that a start need not read all trades again.

They are what the trades of those days say and nothing else: each day has a stamp of its trades, and a day whose trades
have another one by now is to be read again. A file that is missing, or that cannot be read, costs the time to do so.

One Arrow file for each symbol: `folder/EXCHANGE/SYMBOL.arrow`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from storage.column_days import Stamp
from storage.column_layout import folder_name
from storage.file_operations import write_new_file

#: Sums are exact: three words of `actors.aggregation.exact_sums`.
_SUM: Final = pa.binary(24)
#: One row per bar, by timeframe and time; `state` is what indicators remember (`actors.aggregation.indicators.STATE`).
HISTORY: Final = pa.schema(
    [
        pa.field("timeframe", pa.string(), nullable=False),
        *(
            pa.field(name, kind, nullable=False)
            for name, kind in (
                ("time", pa.int64()),
                ("open", pa.float64()),
                ("high", pa.float64()),
                ("low", pa.float64()),
                ("close", pa.float64()),
                ("trade_count", pa.int64()),
                ("first_ts", pa.int64()),
                ("first_id", pa.int64()),
                ("last_ts", pa.int64()),
                ("last_id", pa.int64()),
                ("bought", _SUM),
                ("sold", _SUM),
                ("quote", _SUM),
                ("revision", pa.int32()),
                ("state", pa.binary(112)),
            )
        ),
    ]
)
_DAYS: Final = b"days"


@dataclass(frozen=True, slots=True)
class BarHistory:
    """`bars` (HISTORY) of the days (since the epoch) in `days`, with the stamps of their trades."""

    bars: pa.RecordBatch
    days: Mapping[int, Stamp]


def write_history(folder: Path, exchange: str, symbol: str, history: BarHistory) -> None:
    """OSError when the disk fails; what was there before stays then."""
    path = _path(folder, exchange, symbol)
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = pa.BufferOutputStream()
    schema = HISTORY.with_metadata({_DAYS: json.dumps({str(day): stamp for day, stamp in history.days.items()})})
    with pa.ipc.new_file(sink, schema) as file:
        file.write_batch(history.bars.replace_schema_metadata(schema.metadata))
    new = path.with_suffix(".new")
    write_new_file(new, np.frombuffer(sink.getvalue(), np.uint8))
    new.replace(path)


def read_history(folder: Path, exchange: str, symbol: str) -> BarHistory | None:
    """None where there is none that can be used."""
    try:
        with pa.ipc.open_file(pa.BufferReader(_path(folder, exchange, symbol).read_bytes())) as file:
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
            if len(batches) != 1 or not file.schema.equals(HISTORY):
                return None
            days = json.loads((file.schema.metadata or {})[_DAYS])
            return BarHistory(batches[0], {int(day): Stamp(*stamp) for day, stamp in days.items()})
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError):
        return None


def _path(folder: Path, exchange: str, symbol: str) -> Path:
    return folder / folder_name(exchange) / f"{folder_name(symbol)}.arrow"
