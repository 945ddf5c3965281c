"""What answers of the market API are made of: JSON, and Arrow for those who compute."""

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
