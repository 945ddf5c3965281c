"""What answers of the market API are made of: JSON, and Arrow for those who compute."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from serve_apps.asgi import ANY_ORIGIN, Headers, Send, send_whole

JSON: Final = (b"content-type", b"application/json")
ARROW: Final = (b"content-type", b"application/vnd.apache.arrow.stream")
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
