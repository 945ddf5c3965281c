"""What both versions of Kraken's protocol have in common, and the list of its pairs."""

import json

import pyarrow as pa
import pytest

from actors.feeds.feed import ALL_CHANNELS, BookRules, Channel, Refusal
from actors.feeds.kraken import Kraken
from storage.schema import INSTRUMENTS
from tests.actors.feeds.checks import decode
from tests.actors.feeds.recordings import Recording

V1, V2 = "wss://ws.kraken.com", "wss://ws.kraken.com/v2"


def acknowledged(endpoint: str, channel: str, symbol: str, on: bool = True) -> str:
    """https://docs.kraken.com/api/docs/websocket-v1/subscriptionstatus
    https://docs.kraken.com/api/docs/websocket-v2/book"""
    if endpoint == V2:
        method = "subscribe" if on else "unsubscribe"
        return json.dumps({"method": method, "result": {"channel": channel, "symbol": symbol}, "success": True})
    status = "subscribed" if on else "unsubscribed"
    subscription = {"name": channel}
    return json.dumps(
        {"channelID": 1, "event": "subscriptionStatus", "pair": symbol, "status": status, "subscription": subscription}
    )


def refusal(endpoint: str, symbol: str) -> str:
    reason = f"Currency pair not supported {symbol}"
    if endpoint == V2:
        return json.dumps({"error": reason, "method": "subscribe", "success": False, "symbol": symbol})
    return json.dumps(
        {"errorMessage": reason, "event": "subscriptionStatus", "pair": symbol, "status": "error",
         "subscription": {"name": "ticker"}}
    )  # fmt: skip


def system(endpoint: str, state: str) -> str:
    """https://docs.kraken.com/api/docs/websocket-v1/systemstatus
    https://docs.kraken.com/api/docs/websocket-v2/status"""
    if endpoint == V2:
        return json.dumps({"channel": "status", "type": "update", "data": [{"api_version": "v2", "system": state}]})
    return json.dumps({"connectionID": 8628615390848610000, "event": "systemStatus", "status": state, "version": "1.9"})


@pytest.fixture(params=[V1, V2])
def endpoint(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def feed(endpoint: str, *symbols: str, channels: frozenset[Channel] = ALL_CHANNELS) -> Kraken:
    made = Kraken(symbols, endpoint, channels)
    made.subscribe(symbols)
    return made


def test_a_symbol_is_subscribed_once_all_its_channels_are_acknowledged(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B", "C/D")
    steps = [("trade", "A/B"), ("book", "C/D"), ("ticker", "A/B"), ("book", "A/B"), ("ohlc", "C/D"), ("trade", "X/Y")]
    complete = [decode(kraken, acknowledged(endpoint, *step)).subscribed for step in steps]
    assert complete == [frozenset()] * 3 + [{"A/B"}] + [frozenset()] * 2
    rest = [acknowledged(endpoint, channel, "C/D") for channel in ("trade", "ticker")]
    assert decode(kraken, *rest).subscribed == {"C/D"}


def test_only_channels_asked_for_have_to_be_acknowledged(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B", channels=frozenset(("book", "derivatives")))
    assert decode(kraken, acknowledged(endpoint, "book", "A/B")).subscribed == {"A/B"}


def test_a_refused_symbol_is_named_and_the_others_go_on(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B", "C/D", channels=frozenset(("trades",)))
    decoded = decode(kraken, refusal(endpoint, "A/B"), acknowledged(endpoint, "trade", "C/D"))
    assert decoded.refused == (Refusal(frozenset({"A/B"}), "Currency pair not supported A/B"),)
    assert decoded.subscribed == {"C/D"}
    kraken.unsubscribe(["A/B"])
    assert decode(kraken, refusal(endpoint, "A/B")).ignored == 1


def test_what_the_exchange_ends_by_itself_is_reported_and_what_we_end_is_not(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B", "C/D", channels=frozenset(("trades", "book")))
    decode(kraken, *(acknowledged(endpoint, name, symbol) for name in ("trade", "book") for symbol in ("A/B", "C/D")))
    ended = decode(kraken, acknowledged(endpoint, "trade", "A/B", on=False))
    assert ended.refused == (Refusal(frozenset({"A/B"}), "kraken ended channel trade"),)
    kraken.unsubscribe(["C/D"])
    assert decode(kraken, acknowledged(endpoint, "book", "C/D", on=False)).refused == ()
    kraken.renew_book("A/B")
    assert decode(kraken, acknowledged(endpoint, "book", "A/B", on=False)).refused == ()


def test_a_renewed_book_completes_its_symbol_again(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B", channels=frozenset(("trades", "book")))
    decode(kraken, acknowledged(endpoint, "trade", "A/B"), acknowledged(endpoint, "book", "A/B"))
    off, on = (json.loads(message) for message in kraken.renew_book("A/B"))
    key = "method" if endpoint == V2 else "event"
    assert (off[key], on[key]) == ("unsubscribe", "subscribe")
    answers = [acknowledged(endpoint, "book", "A/B", on=on) for on in (False, True)]
    assert decode(kraken, *answers).subscribed == {"A/B"}


def test_a_flood_of_garbage_breaks_every_book_without_growing_with_it(endpoint: str) -> None:
    symbols = [f"S{number}/USD" for number in range(100)]
    decoded = decode(feed(endpoint, *symbols), *(b"\xff" * length for length in range(2, 302)))
    assert len(decoded.rejected) == 300
    broken = decoded.books.to_pylist()
    assert {book["symbol"] for book in broken} == set(symbols)
    assert {book["ts_recv"] for book in broken} == {1_000, 1_299}
    assert len(broken) == 200


def test_maintenance_and_its_end_are_told_once(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B")
    states = ["online", "maintenance", "maintenance", "cancel_only", "online", "online"]
    notices = [decode(kraken, system(endpoint, state)).notices for state in states]
    assert notices == [(), ("maintenance",), (), (), ("resumed",), ()]


def test_symbols_are_asked_for_in_pieces(endpoint: str) -> None:
    symbols = [f"S{number}/USD" for number in range(450)]
    groups = Kraken.groups([*symbols, symbols[0]])
    assert [len(group) for group in groups] == [200, 200, 50]
    messages = [json.loads(message) for message in feed(endpoint, *groups[0]).subscribe(groups[0])]
    pieces = [message["params"]["symbol"] if endpoint == V2 else message["pair"] for message in messages]
    assert [len(piece) for piece in pieces] == [50] * 12
    assert [symbol for piece in pieces[:4] for symbol in piece] == symbols[:200]


@pytest.mark.parametrize(
    "symbol", ["", "BTCUSD", "BTC-USD", "BTC/USD/EUR", "/USD", "BTC/", "B C/USD", 'B"/USD', "É/USD"]
)
def test_a_name_no_pair_can_have_is_refused_in_one_line(symbol: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be a symbol of kraken: expected a name like BTC/USD$"):
        Kraken.groups(["BTC/USD", symbol])


def test_what_a_connection_says_of_itself(endpoint: str) -> None:
    kraken = feed(endpoint, "A/B")
    assert kraken.url == endpoint
    assert kraken.book_rules == BookRules("none", "kraken", 1000)
    assert kraken.greet() == []
    assert kraken.snapshot_request("A/B") is None
    with pytest.raises(ValueError, match="come with the subscription"):
        kraken.read_snapshot("A/B", b"{}", 1)
    assert json.loads(kraken.ping() or b"") == ({"method": "ping"} if endpoint == V2 else {"event": "ping"})
    assert kraken.exchange == "kraken"


def pairs(recording: Recording) -> pa.Table:
    bodies = [recording.rest[request.path] for request in Kraken.instrument_requests(["XBT/CHF"])]
    return Kraken.read_instruments(bodies)


def test_the_recorded_pairs_are_instruments_under_the_names_of_both_versions(kraken_recording: Recording) -> None:
    table = pairs(kraken_recording)
    assert table.schema == INSTRUMENTS
    rows = {row["symbol"]: row for row in table.to_pylist()}
    assert len(rows) == len(table)
    expected = {
        "instrument": "BTC-CHF", "kind": "spot", "base": "BTC", "quote": "CHF", "price_increment": 0.1,
        "price_decimals": 1, "size_increment": 1e-8, "size_decimals": 8, "active": True, "inverse": False,
    }  # fmt: skip
    for symbol in ("XBT/CHF", "BTC/CHF"):
        assert expected.items() <= rows[symbol].items()
    assert rows["XDG/XBT"]["instrument"] == rows["DOGE/BTC"]["instrument"] == "DOGE-BTC"
    asked = json.loads(kraken_recording.connections["ws-50"].sent[0])["pair"]
    assert set(asked) <= set(rows)
    answer = json.loads(kraken_recording.rest["/0/public/AssetPairs"])["result"]
    assert {pair["wsname"] for pair in answer.values() if "wsname" in pair} <= set(rows)


def test_a_tick_may_be_wider_than_the_last_digit_and_a_pair_may_be_closed() -> None:
    """https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs"""
    pair = {"wsname": "XBT/USD", "pair_decimals": 2, "lot_decimals": 8, "tick_size": "0.05", "status": "cancel_only"}
    body = json.dumps({"error": [], "result": {"XXBTZUSD": pair}}).encode()
    for row in Kraken.read_instruments([body]).to_pylist():
        assert (row["price_increment"], row["price_decimals"], row["active"]) == (0.05, 2, False)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"error":["EGeneral:Too many requests"]}', "Too many requests"),
        (b'{"error":[],"result":{"A":{"wsname":"A/B"}}}', "pair_decimals"),
        (b'{"error":[],"result":' + b'{"a":' * 100_000, "recursion"),
    ],
)
def test_an_unreadable_list_of_pairs_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Kraken.read_instruments([body])
