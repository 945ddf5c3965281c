"""What exchanges really sent passes, but for a trade of 0.4 BTC among many of 0.002."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.aggregation.quality import CHECKS, Quality
from actors.aggregation.quality_kernels import Rules
from actors.feeds.registry import FEEDS
from tests.actors.aggregation.plain_quality import RULES
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import recording_of

#: Trades of each recording: live ones, and those from before the recording that came with it.
RECORDED = {
    "binance": (2, 0),
    "bitfinex": (0, 210),
    "coinbase": (97, 10),
    "deribit": (0, 0),
    "kraken": (10, 0),
    "okx": (71, 3),
}
#: (symbol, size, check) of those that are flagged; every other trade passes.
FLAGGED = {"okx": [("BTC-USDT", 0.39724969, "volume_sanity")]}


def recorded(recordings: Path, exchange: str) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Live trades in the order they came, and past ones in the order they were made."""
    lines = sorted(capture_files.recorded(recordings / f"{exchange}.jsonl"), key=lambda fields: int(fields["t_ns"]))
    symbols = recording_of(recordings, exchange).symbols
    feed = FEEDS[exchange](symbols, lines[0]["url"].partition("/stream")[0])
    feed.subscribe(symbols)
    frames = [fields["data"].encode() for fields in lines]
    decoded = feed.decode(frames, np.array([fields["t_ns"] for fields in lines]))
    return decoded.trades, decoded.history.sort_by("ts_event")


def flagged(trades: pa.RecordBatch, rules: Rules) -> list[tuple[str, float, str]]:
    verdicts = Quality(rules).judge(trades).verdicts.tolist()
    return [
        (row["symbol"], row["size"], CHECKS[verdict])
        for row, verdict in zip(trades.to_pylist(), verdicts, strict=True)
        if verdict
    ]


@pytest.mark.parametrize("exchange", RECORDED)
def test_recorded_trades_pass(recordings: Path, exchange: str) -> None:
    live, past = recorded(recordings, exchange)
    assert (live.num_rows, past.num_rows) == RECORDED[exchange]
    assert flagged(live, RULES) == FLAGGED.get(exchange, [])
    # Past ones are not judged, as they are old; by their prices and sizes they pass too.
    assert flagged(past, RULES._replace(late_ns=2**62)) == []
