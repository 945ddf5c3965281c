"""Every mistake in an alert is one line that names it."""

from dataclasses import replace
from typing import Any

import pytest

from actors.alerting.addresses import is_public
from actors.alerting.definitions import AlertError, UnknownAlert, placed, shown
from storage.alert_log import Alert
from tests.actors.alerting.tables import EXCHANGE, NOW, PRICE, RULES, SECOND, book_with, fired, prices

HOOK = {"channels": ["webhook"], "metadata": {"webhook_url": "https://example.org/hook"}}
RSI = {**PRICE, "condition": "rsi_above", "threshold": 70}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"timeframe": "2m"}, "timeframe: there is no '2m', only 1s, 1m, 5m, 15m, 1h, 4h, 1d"),
        ({"threshold": -5}, "threshold is -5: expected a number, 0 or more"),
        ({"threshold": float("nan")}, "threshold is nan: expected a number, 0 or more"),
        ({"threshold": float("inf")}, "threshold is inf: expected a number, 0 or more"),
        ({"threshold": 10**400}, "threshold"),
        ({"threshold": None}, "threshold is missing: expected a number, 0 or more"),
        ({"threshold": "100"}, "`$.threshold`"),
        ({"condition": "rsi_above", "threshold": 101}, "threshold is 101: expected a number from 0 to 100"),
        ({"condition": "macd_crossover", "threshold": None}, "bullish"),
        ({"condition": "bollinger_above", "threshold": 2}, "threshold is 2: bollinger_above takes none"),
        ({"condition": "price_is_nice"}, "condition: there is no 'price_is_nice', only price_above, price_below"),
        ({"channels": ["pigeon"]}, "channels: there is no 'pigeon', only websocket, webhook, slack, email"),
        ({"channels": []}, "channels: expected one or more of websocket, webhook, slack, email"),
        ({"channels": "websocket"}, "`$.channels`"),
        ({"channels": ["webhook"]}, "metadata.webhook_url is missing: channel webhook sends there"),
        ({"channels": ["slack"]}, "metadata.slack_webhook_url is missing: channel slack sends there"),
        ({"channels": ["email"]}, "metadata.email is missing: channel email sends there"),
        ({"cooldown_seconds": -1}, "cooldown_seconds is -1: expected 0 to"),
        ({"cooldown_seconds": 1.5}, "`$.cooldown_seconds`"),
        ({"one_time": "yes"}, "`$.one_time`"),
        ({"note": "two\nlines"}, "note: expected one line"),
        ({"note": "x" * 501}, "note: expected one line"),
        ({"treshold": 1}, "unknown field `treshold`"),
        ({"user_id": 1}, "unknown field `user_id`"),
        ({"metadata": {"webhook": "https://example.org"}}, "unknown field `webhook`"),
        ({"metadata": []}, "`$.metadata`"),
    ],
)
def test_a_mistake_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(AlertError) as error:
        book_with({**PRICE, **wrong})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["exchange", "symbol", "condition", "channels"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(AlertError, match=f"`{missing}`"):
        book_with({name: value for name, value in PRICE.items() if name != missing})


def test_mail_needs_a_server_in_the_settings() -> None:
    given = {**PRICE, "channels": ["email"], "metadata": {"email": "me@example.org"}}
    with pytest.raises(AlertError, match=r"channels: .* the settings have no alerts.smtp"):
        book_with(given, rules=replace(RULES, mail=False))
    assert book_with(given).alert("a0").metadata.email == "me@example.org"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/hook",
        "//example.org/hook",
        "ftp://example.org/hook",
        "file:///etc/passwd",
        "gopher://example.org",
        "http://",
        "http:///hook",
        "http://user:secret@example.org/",
        "http://user@example.org/",
        "http://example.org:99999/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: other",
        "http://example.org/" + "x" * 2000,
        "http://127.0.0.1/",
        "http://127.1.2.3:8080/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://192.168.0.1/",
        "http://172.16.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[ff02::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://localhost/",
        "http://LOCALHOST:9000/",
        "http://me.localhost/",
    ],
)
@pytest.mark.parametrize(("channel", "field"), [("webhook", "webhook_url"), ("slack", "slack_webhook_url")])
def test_a_url_that_nothing_may_be_sent_to_is_refused_without_being_shown(url: str, channel: str, field: str) -> None:
    with pytest.raises(AlertError) as error:
        book_with({**PRICE, "channels": [channel], "metadata": {field: url}})
    assert f"metadata.{field}" in str(error.value)
    assert "secret" not in str(error.value)
    assert "latest" not in str(error.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/x", "http://[::1]/", "http://localhost/", "http://10.0.0.1/"])
def test_private_addresses_are_good_where_the_settings_say_so(url: str) -> None:
    rules = replace(RULES, private_targets=True)
    assert book_with({**PRICE, **HOOK, "metadata": {"webhook_url": url}}, rules=rules).alerts


@pytest.mark.parametrize(
    "url", ["https://hooks.slack.com/services/T0/B0/x", "http://8.8.8.8/", "http://[2606:4700::1]/"]
)
def test_public_addresses_are_good(url: str) -> None:
    assert book_with({**PRICE, **HOOK, "metadata": {"webhook_url": url}}).alerts


@pytest.mark.parametrize(
    "address",
    [
        "me",
        "me@",
        "@example.org",
        "me@example.org, you@example.org",
        "me@example.org\r\nBcc: all@example.org",
        "me@example.org\n",
        "<me@example.org>",
        "me you@example.org",
        "me@[127.0.0.1]",
        "mé@example.org",
        "a..b@example.org",
        "me@example.org?bcc=x",
        "x" * 65 + "@example.org",
    ],
)
def test_what_is_more_than_one_plain_mail_address_is_refused(address: str) -> None:
    with pytest.raises(AlertError, match=r"metadata.email: expected an address like name@example.org"):
        book_with({**PRICE, "channels": ["email"], "metadata": {"email": address}})


def test_addresses_of_the_internet_are_public_and_others_are_not() -> None:
    assert all(map(is_public, ("1.1.1.1", "2606:4700:4700::1111", "64:ff9b::101:101")))
    assert not any(map(is_public, ("fe80::1%eth0", "2002:a00:1::", "::ffff:192.168.1.1", "239.1.1.1", "240.0.0.1")))


COLLECTED = {"binance": ("BTCUSDT", "ETHUSDT"), "bybit": ("BTCUSDT",), "kraken": ("BTC/USD",)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"exchange": "nasdaq", "symbol": "BTCUSDT"}, "exchange: there is no 'nasdaq', only binance, bybit, kraken"),
        ({"exchange": "kraken", "symbol": "BTC/USX"}, "not collected on kraken; did you mean BTC/USD?"),
        ({"exchange": "kraken", "symbol": "?" * 500}, "not collected on kraken; see rayfeed symbols list"),
        ({"exchange": "binance", "symbol": 5}, "symbol: expected a name"),
        ({"exchange": 5, "symbol": "BTCUSDT"}, "exchange: there is no 5"),
        ({"exchange": [], "symbol": "BTCUSDT"}, "exchange: there is no []"),
        ({"exchange": "binance", "symbol": ["BTCUSDT"]}, "symbol: expected a name"),
        ({"symbol": "BTCUSDT"}, "exchange: BTCUSDT is on binance, bybit; say which one is meant"),
        ({"symbol": "BTCUSDX"}, "'BTCUSDX' is not collected; did you mean BTCUSDT"),
        ({}, "symbol: expected a name"),
    ],
)
def test_a_place_where_nothing_is_collected_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(AlertError) as error:
        placed(given, COLLECTED)
    assert says in str(error.value)
    assert len(str(error.value)) < 300


def test_the_exchange_may_be_left_out_where_one_alone_has_the_symbol() -> None:
    assert placed({"symbol": "BTC/USD", "note": "x"}, COLLECTED)["exchange"] == "kraken"


def test_an_alert_is_shown_with_what_was_not_said_but_not_with_how_far_it_is() -> None:
    alert = shown(book_with(PRICE).alert("a0"))
    assert alert == {
        "alert_id": "a0",
        **PRICE,
        "timeframe": None,
        "metadata": {"email": None, "webhook_url": None, "slack_webhook_url": None},
        "cooldown_seconds": 300,
        "one_time": False,
        "note": "",
        "created_at": NOW,
        "is_active": True,
        "last_triggered_at": None,
        "trigger_count": 0,
        "holds": None,
    }
    assert shown(book_with(RSI).alert("a0"))["timeframe"] == "1m"


def test_addresses_are_not_in_what_a_log_would_show() -> None:
    alert = book_with({**PRICE, **HOOK}).alert("a0")
    assert isinstance(alert, Alert)
    assert "example.org" not in repr(alert)


def test_a_change_keeps_what_it_does_not_name() -> None:
    book = book_with({**PRICE, **HOOK, "note": "old"})
    book.change("a0", {"note": "new", "metadata": {"email": "me@example.org"}}, NOW)
    alert = book.alert("a0")
    assert (alert.note, alert.threshold, alert.metadata.webhook_url) == ("new", 100, "https://example.org/hook")
    assert alert.metadata.email == "me@example.org"
    with pytest.raises(AlertError, match=r"metadata.webhook_url is missing"):
        book.change("a0", {"metadata": {"webhook_url": None}}, NOW)
    assert book.alert("a0") is alert


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": -1}, "threshold is -1"),
        ({"symbol": "ETHUSDT"}, "symbol: that of an alert cannot be changed"),
        ({"alert_id": "b"}, "unknown field `alert_id`"),
        ({"trigger_count": 5}, "unknown field `trigger_count`"),
        ({"is_active": 1}, "`$.is_active`"),
        ({"metadata": 5}, "`$.metadata`"),
    ],
)
def test_a_change_that_cannot_be_is_named_and_changes_nothing(change: dict[str, Any], says: str) -> None:
    book = book_with(PRICE)
    before = shown(book.alert("a0"))
    with pytest.raises(AlertError) as error:
        book.change("a0", change, NOW)
    assert says in str(error.value)
    assert shown(book.alert("a0")) == before


def test_another_threshold_begins_anew_and_another_note_does_not() -> None:
    book = book_with(PRICE)
    assert len(fired(book.take("trades", EXCHANGE, prices(105), NOW))) == 1
    book.change("a0", {"note": "changed"}, NOW + 5 * SECOND)
    assert book.take("trades", EXCHANGE, prices(106, start=NOW + 10 * SECOND), NOW) == []
    book.change("a0", {"threshold": 104}, NOW + 15 * SECOND)
    assert fired(book.take("trades", EXCHANGE, prices(107, start=NOW + 20 * SECOND), NOW)) == [(20, 107)]


def test_of_an_inactive_alert_nothing_is_heard() -> None:
    book = book_with(PRICE)
    book.change("a0", {"is_active": False}, NOW)
    assert book.take("trades", EXCHANGE, prices(99, 105), NOW) == []


def test_there_are_no_more_alerts_than_the_settings_allow() -> None:
    with pytest.raises(AlertError, match=r"there are 1 alerts already \(setting alerts.max_alerts\)"):
        book_with(PRICE, PRICE, rules=replace(RULES, most=1))


def test_a_removed_alert_is_unknown_and_nobody_is_told_of_it_any_more() -> None:
    book = book_with(PRICE)
    book.take("trades", EXCHANGE, prices(105), NOW)
    assert book.waiting
    book.remove("a0")
    assert not book.waiting
    for act in (book.alert, book.remove, lambda alert_id: book.change(alert_id, {}, NOW)):
        with pytest.raises(UnknownAlert, match="there is no alert 'a0'"):
            act("a0")
    assert book.take("trades", EXCHANGE, prices(99, 105, start=NOW + 9 * SECOND), NOW) == []
