"""What answers of the market API are made of: JSON, and Arrow for those who compute."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from serve_apps.asgi import ANY_ORIGIN, Headers, Send, send_whole

JSON: Final = (b"content-type", b"application/json")
ARROW: Final = (b"content-type", b"application/vnd.apache.arrow.stream")
BINARY: Final = (b"content-type", b"application/octet-stream")
#: For anybody, and asked for anew each time, or good for a second.
HEADERS: Final = (ANY_ORIGIN, (b"cache-control", b"no-cache"))
HEADERS_OF_A_SECOND: Final = (ANY_ORIGIN, (b"cache-control", b"public, max-age=1"))


async def send_json(send: Send, said: Any, status: int = 200, headers: Headers = HEADERS) -> None:
    """Answer with what can be said in JSON."""
    await send_whole(send, status, (*headers, JSON), msgspec.json.encode(said))


def arrow_stream(rows: pa.RecordBatch) -> bytes:
    """As an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def binary_columns(columns: Mapping[str, Any], head: Mapping[str, Any]) -> bytes:
    """A line of JSON, which also says which columns there are, and then these as little-endian f64; NaN stands for
    null."""
    parts = [values_f64(column).tobytes() for column in columns.values()]
    entries = [
        {"name": name, "record_size": 8, "num_records": len(part) // 8, "data_length": len(part)}
        for name, part in zip(columns, parts, strict=True)
    ]
    return b"".join([msgspec.json.encode({"columns": entries, **head}), b"\n", *parts])


def values_f64(column: Any) -> Any:
    """The values of an Arrow column of numbers or truths as a numpy array of little-endian f64."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype("<f8", copy=False)


def json_rows(rows: pa.RecordBatch | pa.Table, names: Sequence[str]) -> list[Any]:
    """These columns row by row, for `send_json`: much cheaper than dicts."""
    return list(map(_row_type(tuple(names)), *(values(rows.column(name)) for name in names)))


def values(column: Any) -> list[Any]:
    """The values of an Arrow column; of one of floats NaN stands for null, which JSON has for both."""
    kind = column.type
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if pa.types.is_floating(kind) or (whole and not column.null_count):
        # Scalars, which `to_pylist` makes of each value, take ten times as long.
        found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    else:
        found = column.to_pylist()
    return found


@functools.lru_cache(maxsize=64)
def _row_type(names: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Row", names, gc=False)
