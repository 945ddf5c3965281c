"""How rows lie in column files: names of folders and files, and conversion between Arrow and columns.

A symbol's rows of one UTC day are one file per column, `{column}.{DD}.{MM}.{YY}.bin`: no header, row i is
element i of every file. Rows are ordered by (time, nanos, identity). Nothing here touches the file system.
"""

import datetime
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.schema import COLUMNS, QUOTES, TRADES, UNKNOWN_SIDE, RowType

SECONDS_PER_DAY: Final = 86_400
NANOS_PER_SECOND: Final = 1_000_000_000
NANOS_PER_DAY: Final = SECONDS_PER_DAY * NANOS_PER_SECOND

#: Values of one column, one per row; its dtype is in `storage.schema.COLUMNS`.
Column = npt.NDArray[Any]

#: Put behind the names of files that were set aside, as nothing proved their rows.
UNPROVEN: Final = ".unproven"

_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()

#: Days since the epoch whose file names a two-digit year can tell apart: 2000-01-01 to 2099-12-31.
FIRST_DAY: Final = datetime.date(2000, 1, 1).toordinal() - _EPOCH
LAST_DAY: Final = datetime.date(2099, 12, 31).toordinal() - _EPOCH

_SAFE_NAME: Final = re.compile(r"[\w:-][\w:.-]*")
_DATE: Final = r"\.(\d\d)\.(\d\d)\.(\d\d)"
_TIME_FILE: Final = re.compile(rf"time{_DATE}\.bin", re.ASCII)
_MARKER: Final = re.compile(rf"merging{_DATE}", re.ASCII)
_SEAL: Final = re.compile(rf"sealed{_DATE}\.json", re.ASCII)
_REMOVAL: Final = re.compile(rf"removing{_DATE}", re.ASCII)
_COMMITS: Final = re.compile(rf"commits{_DATE}", re.ASCII)
_LONGEST_NAME: Final = 100

_NO_ORDER_ID: Final = bytes(16)


@lru_cache(maxsize=16_384)
def folder_name(name: str) -> str:
    """The folder of an exchange or symbol: `/` becomes `_`.

    Raises ValueError for a name that is not safe as one path component: empty, with a leading dot, with
    anything but letters, digits and `_:.-`, or longer than 100 bytes.
    """
    folder = name.replace("/", "_")
    if not _SAFE_NAME.fullmatch(folder) or len(folder.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"{name[:_LONGEST_NAME]!r} cannot name a folder: use up to {_LONGEST_NAME} letters, digits "
            "and _:.-/ without a leading dot"
        )
    return folder


#: A file in a symbol's folder that holds its native name, where the folder is called otherwise.
NAME_FILE: Final = "symbol"


@lru_cache(maxsize=4096)
def day_name(day: int) -> str:
    """`DD.MM.YY` of a day since the epoch (UTC). Raises ValueError outside 2000..2099."""
    if not FIRST_DAY <= day <= LAST_DAY:
        raise ValueError(f"day {day} since the epoch is not in the years 2000 to 2099")
    return datetime.date.fromordinal(_EPOCH + day).strftime("%d.%m.%y")


def file_name(column: str, day: int) -> str:
    """The file of one column of one day since the epoch (UTC)."""
    return f"{column}.{day_name(day)}.bin"


def merge_file_name(column: str, day: int) -> str:
    """The file that is about to replace `file_name(column, day)`."""
    return f"{file_name(column, day)}.merge"


def marker_name(day: int) -> str:
    """The file that exists while merged files take the place of a day's files, one after another."""
    return f"merging.{day_name(day)}"


def commits_name(day: int) -> str:
    """The file that says which rows of a day that is written to survive a power cut (`storage.day_commits`)."""
    return f"commits.{day_name(day)}"


def seal_name(day: int) -> str:
    """The file that holds the checksums of a day that is over (`storage.day_seal`)."""
    return f"sealed.{day_name(day)}.json"


def removing_name(day: int) -> str:
    """The file that exists while a day's files are taken away, one after another."""
    return f"removing.{day_name(day)}"


def day_of_time_file(name: str) -> int | None:
    """The day since the epoch whose `time` file has this name; None for every other name."""
    return _day(_TIME_FILE, name)


def day_of_marker(name: str) -> int | None:
    """The same of `marker_name`."""
    return _day(_MARKER, name)


def day_of_commits(name: str) -> int | None:
    """The same of `commits_name`."""
    return _day(_COMMITS, name)


def day_of_seal(name: str) -> int | None:
    """The same of `seal_name`."""
    return _day(_SEAL, name)


def day_of_removal(name: str) -> int | None:
    """The same of `removing_name`."""
    return _day(_REMOVAL, name)


def _day(kind: re.Pattern[str], name: str) -> int | None:
    match = kind.fullmatch(name)
    if match is None:
        return None
    day, month, year = map(int, match.groups())
    try:
        return datetime.date(2000 + year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None


def split_time(ns: Column) -> tuple[Column, Column]:
    """(time, nanos), both u32, of int64 nanoseconds since the epoch.

    Raises ValueError for a time outside the years 2000 to 2099, which no file name can hold.
    """
    if ns.size and (ns.min() < FIRST_DAY * NANOS_PER_DAY or ns.max() >= (LAST_DAY + 1) * NANOS_PER_DAY):
        raise ValueError("a row's time is not in the years 2000 to 2099")
    time, nanos = np.divmod(ns, NANOS_PER_SECOND)
    return time.astype("<u4"), nanos.astype("<u4")


def join_time(time: Column, nanos: Column) -> Column:
    """int64 nanoseconds since the epoch of u32 seconds and u32 nanoseconds."""
    ns: Column = time.astype(np.int64) * NANOS_PER_SECOND + nanos
    return ns


def to_columns(row_type: RowType, batch: pa.RecordBatch) -> dict[str, Column]:
    """Every column of `COLUMNS[row_type]` for a batch of `TRADES` ("TRADES") or `QUOTES` ("MD") rows.

    All rows belong to one symbol, which is not looked at. Arrays have the length of the batch and may share
    its memory. What is null becomes NaN, `UNKNOWN_SIDE` or a zero order id. Raises ValueError for a null
    where the schema has none, and for a time outside the years 2000 to 2099.
    """
    time, nanos = split_time(_whole(batch, "ts_event"))
    if row_type == "TRADES":
        price, size = _real(batch, "price"), _real(batch, "size")
        return {
            "time": time,
            "nanos": nanos,
            "id": _whole(batch, "trade_id").astype("<i8", copy=False).view("<u8"),
            "price": _single(price),
            "size": _single(size),
            "side": _whole(batch, "side").astype("<u4"),
            "maker_order_id": _order_ids(batch, "maker_order_id"),
            "taker_order_id": _order_ids(batch, "taker_order_id"),
            "price64": price,
            "size64": size,
        }
    price, size = _real(batch, "last_price"), _real(batch, "last_size")
    bid, ask = _real(batch, "bid_price"), _real(batch, "ask_price")
    side = batch.column("last_side").fill_null(UNKNOWN_SIDE)
    return {
        "time": time,
        "nanos": nanos,
        "price": _single(price),
        "volume": _single(size),
        "side": side.to_numpy(zero_copy_only=False).astype("<u4"),
        "best_bid": _single(bid),
        "best_ask": _single(ask),
        "price64": price,
        "size64": size,
        "best_bid64": bid,
        "best_bid_size64": _real(batch, "bid_size"),
        "best_ask64": ask,
        "best_ask_size64": _real(batch, "ask_size"),
        "sequence": _whole(batch, "sequence").astype("<i8", copy=False).view("<u8"),
    }


def from_columns(symbol: str, columns: Mapping[str, Column]) -> pa.Table:
    """The `TRADES` table of one symbol's stored columns (all of `COLUMNS["TRADES"]` but the f32 ones).

    `ts_recv` is not stored and comes back as `ts_event`; a zero order id comes back as null.
    """
    ts_event = pa.array(join_time(columns["time"], columns["nanos"]))
    codes = np.zeros(len(ts_event), np.int32)
    return pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(codes, pa.array([symbol], pa.string())),
            ts_event,
            ts_event,
            pa.array(columns["id"].view(np.int64)),
            pa.array(columns["price64"]),
            pa.array(columns["size64"]),
            pa.array(columns["side"].astype(np.uint8)),
            _arrow_order_ids(columns["maker_order_id"]),
            _arrow_order_ids(columns["taker_order_id"]),
        ],
        schema=TRADES,
    )


def quotes_of_columns(symbol: str, columns: Mapping[str, Column]) -> pa.Table:
    """The `QUOTES` table of one symbol's stored columns (all of `COLUMNS["MD"]` but the f32 ones).

    `ts_recv` is not stored and comes back as `ts_event`; what is not known comes back as null.
    """
    ts_event = pa.array(join_time(columns["time"], columns["nanos"]))
    codes = np.zeros(len(ts_event), np.int32)
    side = columns["side"].astype(np.uint8)
    stored = ("best_bid64", "best_bid_size64", "best_ask64", "best_ask_size64", "price64", "size64")
    return pa.Table.from_arrays(
        [
            pa.DictionaryArray.from_arrays(codes, pa.array([symbol], pa.string())),
            ts_event,
            ts_event,
            pa.array(columns["sequence"].view(np.int64)),
            *(pa.array(columns[name], from_pandas=True) for name in stored),
            pa.array(side, mask=side == UNKNOWN_SIDE),
        ],
        schema=QUOTES,
    )


def _whole(batch: pa.RecordBatch, name: str) -> Column:
    array = batch.column(name)
    if array.null_count:
        raise ValueError(f"column {name} has {array.null_count} nulls, which its schema does not allow")
    return array.to_numpy()


def _real(batch: pa.RecordBatch, name: str) -> Column:
    return batch.column(name).to_numpy(zero_copy_only=False).astype("<f8", copy=False)


def _single(values: Column) -> Column:
    with np.errstate(over="ignore"):  # beyond f32 is infinity there and exact in the f64 column
        return values.astype("<f4")


def _order_ids(batch: pa.RecordBatch, name: str) -> Column:
    array = batch.column(name)
    dtype = COLUMNS["TRADES"][name]
    if array.null_count == len(array):
        return np.zeros(len(array), dtype)
    if array.null_count:
        array = array.fill_null(_NO_ORDER_ID)
    values = array.buffers()[1]
    assert values is not None
    return np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)


def _arrow_order_ids(column: Column) -> "pa.Array[Any]":
    words = np.ascontiguousarray(column).view("<u8").reshape(-1, 2)
    known = np.packbits(words.any(axis=1), bitorder="little")
    buffers: list[pa.Buffer | None] = [pa.py_buffer(known), pa.py_buffer(words)]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(words), buffers)
