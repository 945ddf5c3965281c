"""Tables of a notebook, exact where something is unknown."""

from dataclasses import asdict, replace

import pandas as pd
import pytest

from actors.aggregation.arbitrage import Arbitrage, Rules
from cluster.frames import best_frame, episode_frame, gap_frame, integrity_frame, quality_frame
from cluster.instance import InstanceError
from storage.ledger_log import Gap
from tests.actors.aggregation.plain_consolidated import NOON, Quote, batch, opened

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


def test_the_best_quotes_come_by_instrument_and_those_of_one_by_exchange() -> None:
    book = opened(["binance", "okx"])
    book.take("okx", batch([Quote("BTC-USDT", NOON, 1, 100.0, 101.0, None)]))
    best = book.best(book.look(NOON))
    frame = best_frame(best, None)
    assert (frame.loc["BTC-USDT", "bid_price"], frame.loc["BTC-USDT", "exchanges"]) == (100.0, 1)
    assert pd.isna(frame.loc["ETH-USDT", "mid"])
    quotes = best_frame(best, "BTC-USDT")
    assert quotes.loc[("okx", "BTC-USDT"), "ts_event"] == pd.Timestamp(NOON, tz="UTC")
    assert quotes["left_out"].tolist() == ["waiting", ""]
    assert pd.isna(quotes.loc[("binance", "BTCUSDT"), "bid_price"])
    with pytest.raises(InstanceError, match="'BTC-EUR' is collected nowhere; there are BTC-PERPETUAL, "):
        best_frame(best, "BTC-EUR")


def test_episodes_of_arbitrage_have_times_and_how_long_they_lasted() -> None:
    book = opened(["binance", "okx"])
    arbitrage = Arbitrage(Rules({"binance": {"spot": 0.0}, "okx": {"spot": 0.0}}, 0.0, 0.0, {}), 10)
    book.take("binance", batch([Quote("BTCUSDT", NOON, 1, 100.0, 101.0)]))
    for at, bid in ((NOON, 110.0), (NOON + 3, 100.9), (NOON + 5, 110.0)):
        book.take("okx", batch([Quote("BTC-USDT", at, 1, bid, bid + 1)]))
        arbitrage.follow(book, book.look(at))
    frame = episode_frame(arbitrage.episodes(book))
    assert frame["opened"].map(lambda at: at.value - NOON).tolist() == [5, 0]
    assert frame["closed"].isna().tolist() == [True, False]
    assert frame["lasted"].iloc[1] == pd.Timedelta(3, unit="ns")
    assert episode_frame(Arbitrage(Rules({}, 0.0, 0.0, {}), 1).episodes(book)).empty
