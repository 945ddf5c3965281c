"""What clients can subscribe to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.live_topics import TOPICS, Channel, InvalidTopic, Topic, interval_of


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("trades", Topic("trades", "*", "*", "")),
        ("trades:binance", Topic("trades", "binance", "*", "")),
        ("quotes:bybit:spot:BTCUSDT", Topic("quotes", "bybit", "spot:BTCUSDT", "")),
        ("bars:binance:BTCUSDT", Topic("bars", "binance", "BTCUSDT", "1m")),
        ("bars:bybit:spot:BTCUSDT:5m", Topic("bars", "bybit", "spot:BTCUSDT", "5m")),
        ("bars:*:*:*", Topic("bars", "*", "*", "*")),
        ("indicators:bitfinex:tBTCF0:USTF0", Topic("indicators", "bitfinex", "tBTCF0:USTF0", "1m")),
        ("dashboard:BTC-*", Topic("dashboard", "*", "BTC-*", "")),
    ],
)
def test_parts_may_be_left_out_and_symbols_may_have_colons(text: str, topic: Topic) -> None:
    assert Topic.of(text) == topic


@pytest.mark.parametrize("text", ["", "prices:binance", ":", "TRADES", "trades:" + "x" * 300])
def test_what_is_no_topic_is_refused(text: str) -> None:
    with pytest.raises(InvalidTopic):
        Topic.of(text)


@given(st.text(max_size=250), st.sampled_from(["", *TOPICS]))
def test_whatever_a_client_says_is_a_topic_or_refused(text: str, topic: str) -> None:
    try:
        made = Topic.of(f"{topic}:{text}" if topic else text)
    except InvalidTopic:
        return
    # Also with what would mean something in a pattern.
    made.covers(Channel("trades", "binance", text, ""))
    assert made.covers(Channel(made.topic, made.exchange, made.symbol, made.timeframe))


def test_patterns_cover_what_they_say() -> None:
    topic = Topic.of("trades:*:BTC*")
    assert topic.covers(Channel("trades", "kraken", "BTC/USD", ""))
    assert not topic.covers(Channel("trades", "kraken", "XBTC/USD", ""))
    assert not topic.covers(Channel("quotes", "kraken", "BTC/USD", ""))
    assert not Topic.of("trades:*:B.C").covers(Channel("trades", "kraken", "BTC", ""))


def test_rates_are_updates_a_second() -> None:
    assert interval_of("bars", None) == 1
    assert interval_of("trades", None) == 0
    assert interval_of("bars", 0) == 0
    assert interval_of("trades", 4) == 0.25
    for wrong in (-1.0, 0.01, 1000.0, float("nan")):
        with pytest.raises(InvalidTopic):
            interval_of("bars", wrong)
