"""Sealed days as Parquet on any file system that pyarrow knows (a folder, S3, ...), and back: the same bytes, which the
seal proves each way.

A day is `{exchange}/{symbol folder}/{row type}/{YYYY-MM-DD}.parquet`, with the columns of the files and the seal in its
metadata. It is written under another name first, so that a file of that name is whole.
"""

import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from storage.column_layout import Column, folder_name
from storage.day_files import WRITE_ORDER, DamagedDay, Day
from storage.day_seal import Seal, broken, write_seal
from storage.file_operations import sync_filesystem, sync_folder, write_new_file
from storage.schema import COLUMNS, RowType

_EPOCH: Final = datetime.date(1970, 1, 1)
_SEAL: Final = b"rayfeed_seal"
_SYMBOL: Final = b"rayfeed_symbol"
_LEVEL: Final = 3
#: These count up, most by little.
_COUNTING: Final = frozenset({"time", "nanos", "id", "sequence"})


class Archive:
    """What is at `uri`: a folder, or what pyarrow has an address for (s3://bucket/path?region=...). ValueError for
    another."""

    def __init__(self, uri: str) -> None:
        try:
            if "://" in uri:
                self._files, self._root = pafs.FileSystem.from_uri(uri)
            else:
                self._files, self._root = pafs.LocalFileSystem(), str(Path(uri).absolute())
        except (pa.ArrowException, ValueError, OSError):
            # An address may hold a key; what pyarrow says repeats it.
            kind = uri.partition("://")[0]
            raise ValueError(f"the archive's address ({kind}://...) is none that pyarrow can open") from None

    def put(self, exchange: str, symbol: str, day: Day, seal: Seal) -> int:
        """Write a sealed day, and read it back; how many bytes it takes. OSError; `DamagedDay` when the day, or what is
        read back, is not what was sealed."""
        if wrong := next(broken(day, seal), None):
            raise DamagedDay(f"{day.folder}: {wrong}")
        columns = {name: np.fromfile(day.path(name), dtype) for name, dtype in COLUMNS[day.row_type].items()}
        metadata = {_SEAL: msgspec.json.encode(seal), _SYMBOL: symbol.encode()}
        table = pa.table({name: _arrow(values) for name, values in columns.items()}).replace_schema_metadata(metadata)
        path, part = self._path(exchange, symbol, day.row_type, day.day), f"{day.day}.part"
        folder = path.rpartition("/")[0]
        self._files.create_dir(folder, recursive=True)
        part = f"{folder}/{part}"
        counting = {name: "DELTA_BINARY_PACKED" for name in columns if name in _COUNTING}
        plain: Any = [name for name in columns if name not in _COUNTING]
        pq.write_table(
            table, part, filesystem=self._files, compression="zstd", compression_level=_LEVEL,
            use_dictionary=plain, column_encoding=counting,
        )  # fmt: skip
        _checked(pq.read_table(part, filesystem=self._files), day.row_type, path)
        self._files.move(part, path)
        size: int = self._files.get_file_info(path).size
        return size

    def has(self, exchange: str, symbol: str, row_type: RowType, day: int) -> bool:
        """OSError."""
        path = self._path(exchange, symbol, row_type, day)
        return bool(self._files.get_file_info(path).type == pafs.FileType.File)

    def get(self, exchange: str, symbol: str, row_type: RowType, day: int) -> dict[str, Column] | None:
        """The columns of a day since the epoch; None where the archive has none. OSError; `DamagedDay`."""
        if not self.has(exchange, symbol, row_type, day):
            return None
        path = self._path(exchange, symbol, row_type, day)
        try:
            table = pq.read_table(path, filesystem=self._files)
        except pa.ArrowException as error:
            raise DamagedDay(f"{path} cannot be read: {error}") from None
        return _checked(table, row_type, path)

    def days(self, exchange: str, symbol: str, row_type: RowType) -> list[int]:
        """Those the archive has, ascending. OSError."""
        folder = self._path(exchange, symbol, row_type, 0).rpartition("/")[0]
        found = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        names = [info.base_name for info in found if info.extension == "parquet"]
        return sorted((datetime.date.fromisoformat(name.removesuffix(".parquet")) - _EPOCH).days for name in names)

    def remove(self, exchange: str, symbol: str, row_type: RowType, day: int) -> None:
        """Take away a day that it has. OSError."""
        self._files.delete_file(self._path(exchange, symbol, row_type, day))

    def restore(self, exchange: str, symbol: str, day: Day) -> int:
        """Make the files of a day again, which has none; how many rows. OSError; FileExistsError; `DamagedDay`."""
        columns = self.get(exchange, symbol, day.row_type, day.day)
        if columns is None:
            raise FileNotFoundError(f"the archive has no such day of {exchange} {symbol}")
        if any(day.path(column).exists() for column in columns):
            raise FileExistsError(f"{day.folder} has files of that day")
        day.folder.mkdir(parents=True, exist_ok=True)
        # Who is killed meanwhile takes it all away again at the next start.
        write_new_file(day.removing)
        for column in WRITE_ORDER[day.row_type]:
            write_new_file(day.path(column), columns[column])
        sync_filesystem(day.folder)
        seal = _seal_of(columns)
        write_seal(day, seal)
        day.removing.unlink()
        sync_folder(day.folder)
        return seal.rows

    def _path(self, exchange: str, symbol: str, row_type: RowType, day: int) -> str:
        date = _EPOCH + datetime.timedelta(days=day)
        return f"{self._root}/{folder_name(exchange)}/{folder_name(symbol)}/{row_type}/{date.isoformat()}.parquet"


def _checked(table: pa.Table, row_type: RowType, path: str) -> dict[str, Column]:
    """The columns of an archived day, which are what was sealed. `DamagedDay`."""
    metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
    try:
        seal = msgspec.json.decode(metadata.get(_SEAL, b""), type=Seal)
        columns = {name: _column(table[name], dtype) for name, dtype in COLUMNS[row_type].items()}
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        raise DamagedDay(f"{path} is no archived day: {error}") from None
    if _seal_of(columns) != seal:
        raise DamagedDay(f"{path} is not what was sealed")
    return columns


def _seal_of(columns: Mapping[str, Column]) -> Seal:
    keys = columns["time"].astype(np.int64) * 10**9 + columns["nanos"]
    digests = {name: hashlib.sha256(values.data).hexdigest() for name, values in columns.items()}
    first, last = (int(keys[0]), int(keys[-1])) if len(keys) else (0, 0)
    return Seal(len(keys), first, last, digests)


def _arrow(values: Column) -> "pa.Array[Any]":
    if values.dtype.kind == "V":
        width = values.dtype.itemsize
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(values), [None, pa.py_buffer(values)])
    return pa.array(values)


def _column(array: "pa.ChunkedArray[Any]", dtype: "np.dtype[Any]") -> Column:
    if dtype.kind == "V":
        whole: Any = array.combine_chunks()
        return np.frombuffer(whole.buffers()[1], dtype, len(whole), whole.offset * dtype.itemsize)
    values = array.to_numpy()
    if values.dtype != dtype:
        raise ValueError(f"a column is {values.dtype}, expected {dtype}")
    return values
