"""What the layouts read, and that they and the JSON decoder make the same of whatever comes."""

import numpy as np

from actors.feeds.deribit import Deribit
from actors.feeds.events import Events
from actors.feeds.feed import Credentials
from actors.feeds.symbol_codes import SymbolCodes
from tests.actors.feeds.checks import same_outcomes, survives, without_layouts
from tests.actors.feeds.mutations import mutated
from tests.actors.feeds.recordings import Recording
from tests.actors.feeds.test_deribit import (
    CHANGE_DATA,
    PERPETUAL,
    SNAPSHOT_DATA,
    TICKER,
    TRADE,
    TRADE_OF_2021,
    answer,
    message,
    recorded_symbols,
    subscribed,
)


def test_layouts_read_the_recording_and_todays_messages() -> None:
    feed = subscribed(PERPETUAL)
    option = "BTC-15SEP26-77000-C"
    feed.subscribe([option])
    stats = {"high": 0.0118, "low": 0.0065, "price_change": -38.6792, "volume": 1555.0, "volume_usd": 1268694.68}
    greeks = {"delta": 0.47736, "gamma": 2.8e-5, "vega": 18.43602, "theta": -217.49347, "rho": 1.31068}
    before = {"timestamp": 1789344931096, "state": "open", "stats": stats, "greeks": greeks, "index_price": 76900.24}
    between = {"settlement_price": 0.00897474, "min_price": 0.0001, "max_price": 0.0365, "open_interest": 534.4}
    after = {"mark_iv": 31.2, "bid_iv": 29.57, "ask_iv": 33.74, "underlying_price": 76904.4}
    ticker = {
        **before,
        "instrument_name": option,
        "last_price": 0.0065,
        **between,
        "mark_price": 0.0069,
        "interest_rate": 0.0,
        "estimated_delivery_price": 76900.24,
        "best_ask_price": 0.0075,
        "best_bid_price": 0.0065,
        **after,
        "underlying_index": "BTC-15SEP26",
        "best_ask_amount": 10.0,
        "best_bid_amount": 10.0,
    }
    frames = [
        message("book.BTC-PERPETUAL.100ms", SNAPSHOT_DATA).encode(),
        message("book.BTC-PERPETUAL.100ms", CHANGE_DATA).encode(),
        message("trades.BTC-PERPETUAL.raw", [TRADE, TRADE]).encode(),
        message("trades.BTC-PERPETUAL.100ms", [TRADE_OF_2021]).encode(),
        message("ticker.BTC-PERPETUAL.agg2", TICKER).encode(),
        message(f"ticker.{option}.100ms", ticker).encode(),
    ]
    assert left_to_the_json_decoder(feed, frames) == []


def left_to_the_json_decoder(feed: Deribit, frames: list[bytes]) -> list[int]:
    events = Events(np.arange(len(frames)), SymbolCodes())
    return list(vars(feed)["_layouts"].read(frames, events).others)


def test_layouts_read_all_recorded_data(deribit_recording: Recording) -> None:
    feed = subscribed(*recorded_symbols(deribit_recording))
    assert left_to_the_json_decoder(feed, deribit_recording.connection.frames) == [0]


def samples() -> list[bytes]:
    today = [
        message("book.BTC-PERPETUAL.100ms", SNAPSHOT_DATA),
        message("book.BTC-PERPETUAL.100ms", CHANGE_DATA),
        message("trades.BTC-PERPETUAL.100ms", [TRADE, TRADE]),
        message("trades.BTC-PERPETUAL.100ms", [TRADE | {"liquidation": "MT"}]),
        message("trades.BTC-PERPETUAL.raw", [TRADE_OF_2021]),
        message("ticker.BTC-PERPETUAL.100ms", TICKER),
        answer(10, result=["book.BTC-PERPETUAL.100ms"]),
        answer(11, error={"code": 11050, "message": "bad_request"}),
        '{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}',
    ]
    return [frame.encode() for frame in today]


def test_layouts_and_the_json_decoder_agree_on_mutated_frames(deribit_recording: Recording) -> None:
    symbols = [PERPETUAL, *recorded_symbols(deribit_recording)]
    fast, slow = subscribed(*symbols), without_layouts(subscribed(*symbols))
    frames = [*deribit_recording.connection.frames, *samples()]
    same_outcomes(fast, slow, frames)
    same_outcomes(fast, slow, list(mutated(frames, 10_000, seed=3)))


def test_hostile_frames_cost_nothing(deribit_recording: Recording) -> None:
    symbols = [PERPETUAL, *recorded_symbols(deribit_recording)]
    feed = subscribed(*symbols, credentials=Credentials("key", "secret"))
    survives(feed, [*deribit_recording.connection.frames, *samples()], seed=4)
