"""Tables of a notebook, exact where something is unknown."""

from dataclasses import asdict, replace

import pandas as pd

from cluster.attach import gap_frame, integrity_frame, quality_frame
from storage.ledger_log import Gap

NOW = 1_769_860_800_123_456_789
ID = (1 << 62) + 1
GAP = Gap("kraken", "BTC/USD", NOW, ID, ID + 2, NOW, NOW + 1, 3, NOW + 2, "connection lost")


def test_gaps_keep_every_digit_beside_those_that_have_none() -> None:
    window = replace(GAP, gap_id=NOW - 1, first_id=None, last_id=None, missing=None, closed=NOW + 3, evidence="seen")
    frame = gap_frame([asdict(GAP), asdict(window)])
    assert list(frame.index) == [NOW - 1, NOW]
    assert (frame.loc[NOW, "first_id"], frame.loc[NOW, "missing"]) == (ID, 3)
    assert frame.loc[NOW - 1, "first_id"] is pd.NA
    assert frame["from"].map(lambda at: at.value).tolist() == [NOW, NOW]
    assert frame.loc[NOW - 1, "closed"] == pd.Timestamp(NOW + 3, tz="UTC")
    assert frame["closed"].isna().tolist() == [False, True]
    assert gap_frame([]).empty


def test_quality_has_a_column_for_each_check() -> None:
    failed = {"valid_values": 0, "data_freshness": 1, "price_anomaly": 2, "volume_sanity": 0}
    row = {"exchange": "kraken", "symbol": "BTC/USD", "hours": 24, "quality_score": 0.97, "score": 1.0}
    row |= {"total_checks": 100, "passed_checks": 97, "failed_checks": 3, "failed": failed, "zero_sizes": 0}
    row |= {"duplicates": 0, "level_shifts": 0, "silences": 1, "completeness": 1.0, "lateness_ms": 20.0}
    frame = quality_frame([row | {"last_trade": NOW}, row | {"symbol": "ETH/USD", "last_trade": None}])
    found = frame.loc[("kraken", "BTC/USD")]
    assert (found["failed_checks"], found["data_freshness"], found["price_anomaly"]) == (3, 1, 2)
    assert (found["quality_score"], found["last_trade"].value) == (0.97, NOW)
    assert pd.isna(frame.loc[("kraken", "ETH/USD"), "last_trade"])
    assert quality_frame([]).empty


def test_integrity_is_found_by_exchange_and_symbol() -> None:
    row = {"symbol": "BTC/USD", "state": "gapped", "why": "", "proof": "ids", "last_id": ID, "trades": 5, "missing": 0}
    unknown = {"since": None, "first_id": None, "gaps_open": None, "gaps_closed": 1}
    frame = integrity_frame(
        [{"exchange": "okx", **row, **unknown}, {"exchange": "kraken", **row, **unknown, "since": NOW, "first_id": ID}]
    )
    found = frame.loc[("kraken", "BTC/USD")]
    assert (found["state"], found["first_id"], found["since"].value) == ("gapped", ID, NOW)
    assert pd.isna(frame.loc[("okx", "BTC/USD"), "since"])
