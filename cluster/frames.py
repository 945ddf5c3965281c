"""What actors say, as tables for notebooks and commands: one row per symbol, gap, episode, alert and so on, times in
UTC, null where something is not known.
"""

from dataclasses import fields
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from actors.aggregation.quality import CHECKS
from actors.alerting.definitions import shown_fields
from cluster.instance import InstanceError
from storage.alert_log import Attempt
from storage.ledger_log import Gap
from storage.schema import QUOTED

#: What a row says of quality, before and after how many trades failed each check.
_QUALITY_BEFORE: Final = ("quality_score", "score", "total_checks", "passed_checks", "failed_checks")
_QUALITY_AFTER: Final = (
    "zero_sizes", "duplicates", "level_shifts", "silences", "completeness", "lateness_ms", "last_trade"
)  # fmt: skip


def integrity_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What the supervisor says of integrity, by exchange and symbol."""
    # Not as numbers from the start: one that is unknown would make floats of all.
    frame = pd.DataFrame(rows, dtype=object).set_index(["exchange", "symbol"]).sort_index()
    frame["since"] = _times(frame["since"])
    for name in ("first_id", "last_id", "trades", "missing", "gaps_open", "gaps_closed"):
        frame[name] = frame[name].astype("Int64")
    return frame


def gap_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of gaps by their id; `from_ns` and `to_ns` become the times `from` and `to`."""
    frame = pd.DataFrame(rows, columns=[field.name for field in fields(Gap)], dtype=object)
    for name in ("from_ns", "to_ns", "opened", "closed"):
        frame[name] = _times(frame[name])
    for name in ("gap_id", "first_id", "last_id", "missing", "attempts", "backfilled", "revision"):
        frame[name] = frame[name].astype("Int64")
    return frame.rename(columns={"from_ns": "from", "to_ns": "to"}).set_index("gap_id").sort_index()


def quality_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """What the shards say of quality, by exchange and symbol; a column for each check that can fail."""
    flat = [{**row, **row["failed"]} for row in rows]
    columns = ["exchange", "symbol", *(_QUALITY_BEFORE), *CHECKS.values(), *(_QUALITY_AFTER)]
    frame = pd.DataFrame(flat, columns=columns)
    # Not as numbers from the start: one that is unknown would make floats of all.
    frame["last_trade"] = _times(pd.Series([row["last_trade"] for row in rows], dtype=object))
    return frame.set_index(["exchange", "symbol"])


def best_frame(best: pa.RecordBatch, instrument: str | None) -> pd.DataFrame:
    """What the market watch says of the best quotes; see `Attached.best`."""
    rows = best.to_pylist()
    if instrument is None:
        frame = pd.DataFrame(rows, columns=[name for name in best.schema.names if name != "quotes"])
        return frame.set_index("instrument")
    quotes = next((row["quotes"] for row in rows if row["instrument"] == instrument), None)
    if quotes is None:
        known = ", ".join(row["instrument"] for row in rows)
        raise InstanceError(f"{instrument!r} is collected nowhere; there are {known or 'no instruments yet'}")
    frame = pd.DataFrame(quotes, columns=[field.name for field in QUOTED], dtype=object)
    for name in ("ts_event", "ts_recv"):
        frame[name] = _times(frame[name])
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        frame[name] = frame[name].astype(float)
    return frame.set_index(["exchange", "symbol"])


def episode_frame(episodes: pa.RecordBatch) -> pd.DataFrame:
    """Rows of arbitrage with `lasted`, the time from open to close, NaT while it is open."""
    frame: pd.DataFrame = episodes.to_pandas()
    for name in ("opened", "closed", "peak"):
        frame[name] = _times(pd.Series(episodes.column(name).to_pylist(), dtype=object))
    frame["lasted"] = frame["closed"] - frame["opened"]
    return frame


def alert_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Alerts by their id, without their targets."""
    names = [name for name in shown_fields() if name != "metadata"]
    frame = pd.DataFrame(rows, columns=names, dtype=object)
    for name in ("created_at", "last_triggered_at"):
        frame[name] = _times(frame[name])
    return frame.set_index("alert_id")


def delivery_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=Attempt.__struct_fields__, dtype=object)
    for name in ("began", "ended", "next_at"):
        frame[name] = _times(frame[name])
    return frame


def _times(ns: "pd.Series[Any]") -> "pd.Series[Any]":
    return pd.to_datetime(ns.astype("Int64"), unit="ns", utc=True)
