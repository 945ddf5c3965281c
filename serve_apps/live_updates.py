"""Entries of the live log as updates: one per channel, its text made once for all who get it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa

from actors.live_hub import TOLD
from actors.live_log import Entry
from actors.parcels import packed
from serve_apps.live_topics import CHART, Channel
from storage.schema import INDICATOR_FIELDS, symbols_of

#: What updates say besides their channel; other columns are in binary frames alone.
_TRADE: Final = ("trade_id", "price", "size", "side", "ts_event", "ts_recv")
_QUOTE: Final = ("bid_price", "bid_size", "ask_price", "ask_size", "sequence", "ts_event", "ts_recv")
_BAR: Final = ("time", "open", "high", "low", "close", "volume", "quote_volume", "trade_count", "buy_volume", "vwap")
_BOOK: Final = ("state", "bids", "asks", "epoch", "sequence", "ts_event", "ts_recv")
FIELDS: Final = {
    "trades": _TRADE,
    "quotes": _QUOTE,
    "book": _BOOK,
    "bars": (*_BAR, "revision", "closed"),
    "indicators": ("time", *INDICATOR_FIELDS),
}
_CANDLE: Final = ("open", "high", "low", "close", "volume")
_SIDES: Final = {0: "buy", 1: "sell"}
_NANOS_PER_MS: Final = 1_000_000

Kind = Literal["update", "snapshot"]
Places = np.ndarray[Any, np.dtype[np.intp]]
_encode: Final = msgspec.json.Encoder().encode


class Update:
    """Rows of one channel that came together. Of those with the same `key` a client that is not given every update gets
    the newest, and of that the last row."""

    __slots__ = ("_arrow", "_batch", "_newest", "_places", "_text", "channel", "key", "rows", "seq")

    def __init__(
        self,
        channel: Channel,
        seq: int,
        rows: Sequence[dict[str, Any]],
        key: object = None,
        batch: pa.RecordBatch | None = None,
        places: Places | None = None,
    ) -> None:
        """`batch` has the same rows, at these places."""
        self.channel = channel
        self.seq = seq
        self.rows = rows
        self.key = (channel, key)
        self._batch = batch
        self._places = places
        self._text: str | None = None
        self._arrow: bytes | None = None
        self._newest: Update | None = None

    @property
    def text(self) -> str:
        """The message, as JSON."""
        if self._text is None:
            self._text = self.said("update")
        return self._text

    @property
    def arrow(self) -> bytes | None:
        """The message as an Arrow IPC stream, with channel and number in the metadata of its schema; None for a topic
        without."""
        if self._arrow is None and self._batch is not None and self._places is not None:
            names = ("topic", "exchange", "symbol", "timeframe")
            said = {**dict(zip(names, self.channel, strict=True)), "type": "update", "seq": str(self.seq)}
            rows = self._batch.take(self._places)
            table = pa.Table.from_batches([rows]).replace_schema_metadata(said)
            self._arrow = bytes(packed({"": table})[""])
        return self._arrow

    @property
    def newest(self) -> "Update":
        """With its last row alone."""
        if len(self.rows) == 1:
            return self
        if self._newest is None:
            last = None if self._places is None else self._places[-1:]
            self._newest = Update(self.channel, self.seq, self.rows[-1:], self.key[1], self._batch, last)
        return self._newest

    def said(self, kind: Kind) -> str:
        return message(kind, self.channel, self.seq, self.rows)


class ChartUpdate(Update):
    """A bar with its indicators, where these are known."""

    __slots__ = ()

    def said(self, kind: Kind) -> str:
        (bar,) = self.rows
        channel = self.channel
        said = {"type": kind, "symbol": channel.symbol, "exchange": channel.exchange, "timeframe": channel.timeframe}
        return _encode({**said, "seq": self.seq, **bar}).decode()


def message(kind: Kind, channel: Channel, seq: int, rows: Sequence[dict[str, Any]]) -> str:
    said: dict[str, Any] = {"type": kind, "topic": channel.topic, "seq": seq}
    if channel.exchange:
        said["exchange"] = channel.exchange
    said["symbol"] = channel.symbol
    if channel.timeframe:
        said["timeframe"] = channel.timeframe
    return _encode({**said, "data": rows}).decode()


def candle(bar: dict[str, Any], indicators: dict[str, Any] | None) -> dict[str, Any]:
    """A bar as charts have it: its time in milliseconds."""
    said = {"time": bar["time"] // _NANOS_PER_MS, "closed": bar["closed"]}
    return {**said, "bar": {name: bar[name] for name in _CANDLE}, "indicators": indicators}


class Reader:
    """Makes updates of entries, of those channels that are `wanted`. Remembers the newest indicators of those, to tell
    them with their bars."""

    def __init__(self, wanted: Callable[[Channel], bool]) -> None:
        self._wanted = wanted
        self._indicators: dict[tuple[str, str, str], dict[str, Any]] = {}

    def forget(self) -> None:
        self._indicators.clear()

    def updates(self, entry: Entry) -> Iterator[Update]:
        if entry.topic in TOLD:
            for row in msgspec.json.decode(entry.content):
                channel = Channel(entry.topic, entry.exchange, row["symbol"], "")
                if self._wanted(channel):
                    # No alert takes the place of another.
                    key = row.get("delivery_id")
                    yield Update(channel, entry.seq, [{name: row[name] for name in row if name != "symbol"}], key)
            return
        batch = pa.ipc.open_stream(entry.content).read_all().combine_chunks().to_batches()[0]
        places = self._places(entry, batch)
        wanted: Any = np.concatenate([*places.values(), np.empty(0, np.intp)])
        every = rows_of(entry.topic, batch if len(wanted) == batch.num_rows else batch.take(wanted))
        # Where the rows of a channel are among those that are wanted.
        at = dict(zip(wanted.tolist(), range(len(wanted)), strict=True)) if len(wanted) < batch.num_rows else None
        for channel, own in places.items():
            rows = [every[place if at is None else at[place]] for place in map(int, own)]
            if "timeframe" in batch.schema.names:
                yield from self._of_bars(channel, entry.seq, rows, batch, own)
            else:
                yield Update(channel, entry.seq, rows, batch=batch, places=own)

    def _places(self, entry: Entry, batch: pa.RecordBatch) -> dict[Channel, Places]:
        """Where the rows of each channel are that is wanted."""
        names, codes = symbols_of(batch)
        if "timeframe" not in batch.schema.names:
            order = np.argsort(codes, kind="stable")
            begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
            found = {
                Channel(entry.topic, entry.exchange, names[codes[own[0]]], ""): own
                for own in np.split(order, begins[1:])
                if len(own)
            }
            return {channel: own for channel, own in found.items() if self._wanted(channel)}
        series: dict[Channel, list[int]] = {}
        timeframes: list[Any] = batch.column("timeframe").to_pylist()
        for place, (code, timeframe) in enumerate(zip(map(int, codes), timeframes, strict=True)):
            series.setdefault(Channel(entry.topic, entry.exchange, names[code], timeframe), []).append(place)
        return {
            channel: np.array(own)
            for channel, own in series.items()
            if self._wanted(channel) or self._wanted(channel._replace(topic=CHART))
        }

    def _of_bars(
        self, channel: Channel, seq: int, rows: Sequence[dict[str, Any]], batch: pa.RecordBatch, places: Places
    ) -> Iterator[Update]:
        """One update per bar: the end of one and the beginning of the next are both told."""
        chart = channel._replace(topic=CHART)
        charted = self._wanted(chart)
        for place, row in enumerate(rows):
            if self._wanted(channel):
                yield Update(channel, seq, [row], row["time"], batch, places[place : place + 1])
            if charted and channel.topic == "indicators":
                self._indicators[channel[1:]] = row
            elif charted:
                known = self._indicators.get(channel[1:])
                now = known if known is not None and known["time"] == row["time"] else None
                yield ChartUpdate(chart, seq, [candle(row, now)], row["time"])


def rows_of(topic: str, batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any]]:
    """What JSON says of rows of a topic."""
    names = FIELDS[topic]
    columns = [_values(batch.column(name)) for name in names]
    if topic == "trades":
        side = names.index("side")
        columns[side] = [_SIDES.get(value) for value in columns[side]]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if topic == "book":
        return [{**row, **{side: _levels(row[side]) for side in ("bids", "asks")}} for row in rows]
    # What JSON cannot say (NaN) becomes null.
    return rows


def _values(column: Any) -> list[Any]:
    """As `to_pylist`, in a fraction of the time where that can be."""
    plain = column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist() if plain else column.to_pylist()
    return values


def _levels(levels: Sequence[dict[str, float]]) -> list[tuple[float, float]]:
    return [(level["price"], level["size"]) for level in levels]
