"""Tables of a notebook, exact where something is unknown."""

from dataclasses import asdict, replace

import pandas as pd

from cluster.attach import gap_frame, integrity_frame
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


def test_integrity_is_found_by_exchange_and_symbol() -> None:
    row = {"symbol": "BTC/USD", "state": "gapped", "why": "", "proof": "ids", "last_id": ID, "trades": 5, "missing": 0}
    unknown = {"since": None, "first_id": None, "gaps_open": None, "gaps_closed": 1}
    frame = integrity_frame(
        [{"exchange": "okx", **row, **unknown}, {"exchange": "kraken", **row, **unknown, "since": NOW, "first_id": ID}]
    )
    found = frame.loc[("kraken", "BTC/USD")]
    assert (found["state"], found["first_id"], found["since"].value) == ("gapped", ID, NOW)
    assert pd.isna(frame.loc[("okx", "BTC/USD"), "since"])
