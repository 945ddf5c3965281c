"""Tables as shards send them, cut into the series that alerts look at: trades of a symbol in the order of their time
and id, closed bars of a timeframe with their indicators.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from actors.alerting.conditions import Columns, Floats
from storage.alert_log import Place
from storage.schema import INDICATOR_FIELDS, symbols_of
from storage.timeframes import TIMEFRAMES

#: Closed bars of one series that wait for their indicators, which come right behind them.
MOST_BARS: Final = 1000

Numbers = np.ndarray[Any, np.dtype[np.int64]]
#: Symbol and timeframe.
SeriesName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Events:
    """Of one series, ascending by (`at`, `order`); `price` is NaN where it is not known."""

    at: Numbers
    order: Numbers
    price: Floats
    columns: Columns

    def __len__(self) -> int:
        return len(self.at)

    def place(self, position: int) -> Place:
        return int(self.at[position]), int(self.order[position])

    @property
    def extremes(self) -> Columns:
        """The lowest and the highest price."""
        return {"price": np.array([self.price.min(), self.price.max()])}

    def after(self, seen: Place) -> int:
        """The position of the first event behind that place."""
        if not len(self) or self.place(0) > seen:
            return 0
        begin, end = (int(np.searchsorted(self.at, seen[0], side)) for side in ("left", "right"))
        return begin + int(np.searchsorted(self.order[begin:end], seen[1], "right"))

    def where(self, known: np.ndarray[Any, np.dtype[np.bool_]]) -> "Events":
        columns = {name: values[known] for name, values in self.columns.items()}
        return Events(self.at[known], self.order[known], self.price[known], columns)


def trades(table: pa.Table, wanted: Collection[str]) -> Iterator[tuple[str, Events]]:
    """Of `storage.schema.TRADES` those of the wanted symbols; what is no price is left out."""
    columns = [table[name].to_numpy() for name in ("ts_event", "trade_id", "price")]
    for symbol, rows in _rows_of(table, wanted):
        at, order, price = (values[rows] for values in columns)
        sorted_by = np.lexsort((order, at))
        sorted_by = sorted_by[~np.isnan(price[sorted_by])]
        if len(sorted_by):
            yield symbol, Events(at[sorted_by], order[sorted_by], price[sorted_by], {"price": price[sorted_by]})


class ClosedBars:
    """What indicators do not say of the bars of an exchange: close and volume. Bars come before their indicators."""

    def __init__(self) -> None:
        self._waiting: dict[SeriesName, dict[int, tuple[float, float]]] = {}

    def add(self, table: pa.Table, wanted: Collection[SeriesName]) -> None:
        """Take `storage.schema.BARS`; a revised bar replaces the one before."""
        for series, rows in _series_of(table, wanted):
            waiting = self._waiting.setdefault(series, {})
            closed = rows[table["closed"].to_numpy()[rows]]
            said = zip(*(_values(table, name)[closed].tolist() for name in ("time", "close", "volume")), strict=True)
            waiting.update((time, (close, volume)) for time, close, volume in said)
            for time in sorted(waiting)[:-MOST_BARS]:
                del waiting[time]

    def with_indicators(self, table: pa.Table, wanted: Collection[SeriesName]) -> Iterator[tuple[SeriesName, Events]]:
        """Of `storage.schema.INDICATORS` the wanted series, with `close` and `volume`. An event is at the end of its
        bar."""
        for series, rows in _series_of(table, wanted):
            time = table["time"].to_numpy()[rows]
            sorted_by = np.argsort(time, kind="stable")
            rows, time = rows[sorted_by], time[sorted_by]
            waiting = self._waiting.get(series, {})
            bars = np.array([waiting.get(start, (np.nan, np.nan)) for start in time.tolist()]).reshape(-1, 2)
            columns = {name: _values(table, name)[rows] for name in INDICATOR_FIELDS}
            columns |= {"close": bars[:, 0], "volume": bars[:, 1]}
            for start in [start for start in waiting if start <= time[-1]]:
                del waiting[start]
            at = time + TIMEFRAMES[series[1]]
            yield series, Events(at, np.zeros(len(at), np.int64), bars[:, 0], columns)


def _rows_of(table: pa.Table, wanted: Collection[str]) -> Iterator[tuple[str, Numbers]]:
    names, codes = symbols_of(table)
    places = [code for code, name in enumerate(names) if name in wanted]
    if not places:
        return
    rows = np.flatnonzero(np.isin(codes, places))
    rows = rows[np.argsort(codes[rows], kind="stable")]
    for own in np.split(rows, np.flatnonzero(np.diff(codes[rows])) + 1):
        if len(own):
            yield names[codes[own[0]]], own


def _series_of(table: pa.Table, wanted: Collection[SeriesName]) -> Iterator[tuple[SeriesName, Numbers]]:
    for symbol, rows in _rows_of(table, {symbol for symbol, _ in wanted}):
        timeframes = np.array(table["timeframe"].take(rows).to_pylist(), dtype=np.str_)
        for series in sorted(series for series in wanted if series[0] == symbol):
            if len(own := rows[timeframes == series[1]]):
                yield series, own


def _values(table: pa.Table, name: str) -> Any:
    """Null is NaN."""
    return table[name].to_numpy()
