"""The compiled reader may only be faster: whatever it reads, the JSON decoder reads the same."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.feeds import FEEDS
from actors.feeds.binance import Binance
from actors.feeds.coinbase import Coinbase
from actors.feeds.feed import Feed
from actors.feeds.layouts import KnownLayouts, Layout
from actors.feeds.rows import NOTHING, PRICE, QUOTE, TRADE
from tests.actors.feeds.checks import all_rows, decode, decode_checked
from tests.actors.feeds.conftest import Recording
from tests.actors.feeds.test_binance import AGGREGATE, frame
from tests.actors.feeds.test_binance import QUOTE as BINANCE_QUOTE
from tests.actors.feeds.test_coinbase import MATCH
from tests.actors.feeds.test_hostile_frames import SYMBOLS, mixtures

PRICES = KnownLayouts([Layout(TRADE, '"<price>"')], [])
TIMES = KnownLayouts([Layout(TRADE, '"<iso_time>"')], [])
NUMBERS = KnownLayouts([Layout(TRADE, "<number>")], [])


def slow(feed: Feed) -> Feed:
    """The feed without layouts, so that every frame goes through the JSON decoder."""
    assert isinstance(feed, Binance | Coinbase)
    feed._layouts = KnownLayouts([], [])
    return feed


def compact(text: str) -> bytes:
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


@settings(max_examples=300, deadline=None)
@given(mixtures())
def test_with_and_without_layouts_every_frame_has_the_same_outcome(
    mixture: tuple[str, list[bytes], list[bool]],
) -> None:
    exchange, frames, _ = mixture
    # The layouts are those of the wire, which has no spaces.
    frames = [frame.replace(b'": ', b'":').replace(b', "', b',"') for frame in frames]
    ts_recv = np.arange(5_000, 5_000 + len(frames))
    fast = decode_checked(FEEDS[exchange](SYMBOLS[exchange]), frames, ts_recv)
    careful = decode_checked(slow(FEEDS[exchange](SYMBOLS[exchange])), frames, ts_recv)
    assert all_rows([fast]) == all_rows([careful])
    assert (fast.rejected, fast.errors, fast.ignored) == (careful.rejected, careful.errors, careful.ignored)
    assert fast.subscribed == careful.subscribed


def test_the_recordings_follow_the_layouts_and_read_the_same_without_them(
    binance_recording: Recording, coinbase_recording: Recording
) -> None:
    binance = Binance(["NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"])
    products = {message["product_id"] for message in coinbase_recording.messages if "product_id" in message}
    coinbase = Coinbase(sorted(products))
    for feed, recording, counts in ((binance, binance_recording, (2, 84)), (coinbase, coinbase_recording, (97, 107))):
        kinds = feed._layouts.read(recording.frames).kind
        assert ((kinds == TRADE).sum(), (kinds == QUOTE).sum()) == counts
        fast = decode_checked(feed, recording.frames, recording.ts_recv)
        careful = decode_checked(slow(feed), recording.frames, recording.ts_recv)
        assert all_rows([fast]) == all_rows([careful])


@pytest.mark.parametrize(
    ("feed", "text"),
    [
        (Coinbase(["SKL-BTC"]), json.dumps(MATCH)),
        (Coinbase(["SKL-BTC"]), json.dumps({
            "type": "ticker", "sequence": 5, "product_id": "SKL-BTC", "price": "14.7", "open_24h": "1",
            "volume_24h": "1", "low_24h": "1", "high_24h": "1", "volume_30d": "1", "best_bid": "14.6",
            "best_bid_size": "2", "best_ask": "14.8", "best_ask_size": "3", "side": "buy",
            "time": "2024-02-29T16:43:30.244075Z", "trade_id": 8, "last_size": "0.04",
        })),
        (Binance(["NKNUSDT"]), frame(AGGREGATE)),
        (Binance(["NKNUSDT"]), frame(BINANCE_QUOTE)),
    ],
)  # fmt: skip
def test_the_frames_of_today_follow_a_layout(feed: Binance | Coinbase, text: str) -> None:
    kinds = feed._layouts.read([compact(text), text.encode()]).kind
    assert kinds[0] != NOTHING
    assert kinds[1] == NOTHING
    assert all_rows([decode(feed, compact(text))]) == all_rows([decode(feed, text)])


def test_a_frame_cut_anywhere_or_followed_by_anything_follows_no_layout() -> None:
    feed = Coinbase(["SKL-BTC"])
    whole = compact(json.dumps(MATCH))
    pieces = [whole[:length] for length in range(len(whole))] + [whole + b" ", whole + whole]
    assert not feed._layouts.read(pieces).kind.any()
    assert feed._layouts.read([whole, *pieces, whole]).kind.nonzero()[0].tolist() == [0, len(pieces) + 1]


@given(st.from_regex(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?", fullmatch=True))
def test_a_price_that_is_read_is_the_float_nearest_to_its_text(text: str) -> None:
    rows = PRICES.read([f'"{text}"'.encode()])
    if rows.kind[0] == TRADE:
        assert rows.values[PRICE, 0] == float(text)
    else:
        digits = text.replace(".", "").strip("0")
        assert len(digits) > 15 or not digits or len(text) > 17


@pytest.mark.parametrize("text", ["", "0", "0.0", ".5", "5.", "01", "-1", "+1", "1e5", "nan", " 1", "9" * 19, "1.2.3"])
def test_a_price_that_raises_a_question_is_left_alone(text: str) -> None:
    assert PRICES.read([f'"{text}"'.encode()]).kind[0] == NOTHING


@given(st.datetimes(datetime(1990, 1, 1), datetime(2210, 1, 1)))
def test_a_time_that_is_read_is_exact(moment: datetime) -> None:
    rows = TIMES.read([f'"{moment.isoformat(timespec="microseconds")}Z"'.encode()])
    expected = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (moment.resolution) * 1000
    if rows.kind[0] == TRADE:
        assert rows.ts_event[0] == expected
    else:
        assert moment.year not in range(2000, 2200)


@pytest.mark.parametrize(
    "day",
    ["2023-02-29", "2100-02-29", "2021-04-31", "2021-00-01", "2021-13-01", "2021-01-00", "2021-01-32", "2021-1--1"],
)
def test_a_day_that_no_calendar_has_is_left_alone(day: str) -> None:
    assert TIMES.read([f'"{day}T00:00:00.000000Z"'.encode()]).kind[0] == NOTHING


@given(st.integers(0, 10**20))
def test_a_number_that_is_read_is_exact(number: int) -> None:
    rows = NUMBERS.read([str(number).encode()])
    assert (rows.kind[0] == TRADE) == (number < 10**18)
    if rows.kind[0] == TRADE:
        assert rows.number[0] == number
