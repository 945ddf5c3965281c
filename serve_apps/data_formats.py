"""Rows as Arrow, Parquet, CSV or NDJSON, a block of rows at a time, and compressed on the way. What is not known is
null (NaN and zero order ids in the files). No row is touched alone.
"""

import io
import zlib
from collections.abc import Buffer, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serve_apps.data_query import Format
from storage.column_layout import Column
from storage.schema import COLUMNS
from storage.thinned_rows import TIME_NS, Rows, Values

CONTENT_TYPES: Final[dict[Format, bytes]] = {
    "binary": b"application/octet-stream",
    "arrow": b"application/vnd.apache.arrow.stream",
    "parquet": b"application/vnd.apache.parquet",
    "csv": b"text/csv; charset=utf-8",
    "ndjson": b"application/x-ndjson",
}
Encoding = Literal["zstd", "gzip"]
#: What pays where the client takes it, best first. Columns of numbers cost gzip more time than a network of 100 Mbit/s
#: needs for them; Parquet is compressed in itself.
ENCODINGS: Final[dict[Format, Sequence[Encoding]]] = {
    "binary": ("zstd",),
    "arrow": ("zstd",),
    "parquet": (),
    "csv": ("zstd", "gzip"),
    "ndjson": ("zstd", "gzip"),
}
#: So many rows are encoded at once.
BLOCK_ROWS: Final = 1 << 16

_ARROW_TYPES: Final[dict[str, Any]] = {
    TIME_NS: pa.int64(),
    **{
        name: pa.binary(16) if kind.kind == "V" else pa.from_numpy_dtype(kind)
        for columns in COLUMNS.values()
        for name, kind in columns.items()
    },
}
#: Where the dashes of a UUID are among its 36 characters.
_DASHES: Final = (8, 13, 18, 23)


def encoded(form: Format, columns: Sequence[str], rows: Rows) -> Iterator[bytes]:
    """The pieces of the body; a column asked for twice is in it once. Each step reads and encodes one block."""
    names = list(dict.fromkeys(columns))
    blocks = _blocks(names, rows)
    if form in ("csv", "ndjson"):
        return _text(names, blocks, as_json=form == "ndjson")
    schema = pa.schema([pa.field(name, _ARROW_TYPES[name]) for name in names])
    batches = (pa.RecordBatch.from_arrays(list(map(_arrow, block)), schema=schema) for block in blocks)
    return _written(_WRITERS[form], schema, batches)


def compressed(encoding: Encoding, pieces: Iterable[Buffer]) -> Iterator[bytes]:
    """The pieces as one gzip or zstd stream."""
    if encoding == "gzip":
        packer = zlib.compressobj(1, wbits=31)
        yield from filter(None, map(packer.compress, pieces))
        yield packer.flush()
        return
    sink = _Sink()
    with pa.CompressedOutputStream(sink, encoding) as stream:
        for piece in pieces:
            stream.write(piece)
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """Holds what Arrow writes until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        self._size += len(data)
        return len(data)

    def taken(self) -> Iterator[bytes]:
        if written := b"".join(self._written):
            self._written.clear()
            yield written


_WRITERS: Final[Mapping[Format, Callable[[Any, pa.Schema], Any]]] = {
    "arrow": pa.ipc.new_stream,
    "parquet": lambda sink, schema: pq.ParquetWriter(sink, schema, compression="zstd"),
}


def _blocks(names: Sequence[str], rows: Rows) -> Iterator[list[Values]]:
    """Some rows of all columns at a time."""
    for parts in zip(*map(rows.parts, names), strict=True):
        for first in range(0, len(parts[0]), BLOCK_ROWS):
            yield [part[first : first + BLOCK_ROWS] for part in parts]


def _written(
    writer_of: Callable[[Any, pa.Schema], Any], schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[bytes]:
    sink = _Sink()
    with writer_of(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield from sink.taken()
    yield from sink.taken()


def _arrow(values: Values) -> Any:
    column = np.ascontiguousarray(values)
    if column.dtype.kind != "V":
        return pa.array(column, from_pandas=True)
    known = np.packbits(column.view("<u8").reshape(-1, 2).any(axis=1), bitorder="little")
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(column), [pa.py_buffer(known), pa.py_buffer(column)])


def _text(names: Sequence[str], blocks: Iterable[Sequence[Values]], as_json: bool) -> Iterator[bytes]:
    """Lines are put together from columns of texts; numbers and UUIDs need no escapes."""
    befores = [
        f'{"," if number else "{"}"{name}":' if as_json else "," * bool(number) for number, name in enumerate(names)
    ]
    if not as_json:
        yield f"{','.join(names)}\n".encode()
    for block in blocks:
        pieces: list[Any] = []
        for before, values in zip(befores, block, strict=True):
            pieces += [before, _texts(np.ascontiguousarray(values), as_json)]
        lines = pc.binary_join_element_wise(*pieces, "}\n" if as_json else "\n", "")
        text, ends = lines.buffers()[2], np.frombuffer(lines.buffers()[1], np.int32)
        yield memoryview(text)[: ends[len(lines)]].tobytes()


def _texts(column: Column, as_json: bool) -> Any:
    if column.dtype.kind == "V":
        texts = _uuids(column)
        if as_json:
            texts = pc.binary_join_element_wise('"', texts, '"', "")
    else:
        # JSON has no infinity, which an f32 may be where the price is not.
        known = np.where(np.isfinite(column), column, np.nan) if as_json and column.dtype.kind == "f" else column
        texts = pc.cast(pa.array(known, from_pandas=True), pa.string())
    return pc.fill_null(texts, "null" if as_json else "")


def _uuids(column: Column) -> Any:
    digits = np.frombuffer(column.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    characters = np.full((len(column), 36), ord("-"), np.uint8)
    characters[:, [place for place in range(36) if place not in _DASHES]] = digits
    known = np.packbits(column.view("<u8").reshape(-1, 2).any(axis=1), bitorder="little")
    ends = np.arange(len(column) + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(len(column), pa.py_buffer(ends), pa.py_buffer(characters), pa.py_buffer(known))
