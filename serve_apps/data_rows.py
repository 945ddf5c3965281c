"""The rows that answer a query, column by column: all of a selection, or fewer of them for a chart
(`storage.thinned_rows`), and their bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from serve_apps.data_query import DataQuery
from storage.column_reader import Selection
from storage.thinned_rows import Rows, Values, columns_read, thinned

#: A window of a large answer has so many bytes of pages to read.
WINDOW_BYTES: Final = 8 * 1024 * 1024
PAGE: Final = 4096


def stored_columns(query: DataQuery) -> Sequence[str]:
    """What must be selected to answer."""
    return columns_read(query.row_type, query.columns, query.decimate)


def rows_of(query: DataQuery, selection: Selection) -> Rows:
    """The rows of `stored_columns` that answer. Reads the prices of all of them where the extremes are asked for."""
    return thinned(query.row_type, query.max_points, query.decimate, selection)


def pages_to_read(rows: Rows, record_sizes: Iterable[int]) -> int:
    """About so many bytes of the files are touched to answer."""
    if rows.sparse_by == 1:
        return rows.count * sum(record_sizes)
    return rows.count * sum([min(size * rows.sparse_by, PAGE) for size in record_sizes])


def joined(header: bytes, parts: Iterable[Values]) -> bytes:
    """Header and columns as one body. `ascontiguousarray` copies only what is not in one piece."""
    return b"".join([header, *map(np.ascontiguousarray, parts)])


def windows(parts: Iterable[Values]) -> Iterator[Values]:
    """Slices of the parts, in order, none of which has more than `WINDOW_BYTES` of pages to read."""
    for part in parts:
        step = max(1, WINDOW_BYTES // max(1, min(abs(part.strides[0]), PAGE)))
        for first in range(0, len(part), step):
            yield part[first : first + step]
