"""What a shard and a collector know of a symbol, as one row."""

from typing import Any

import pytest

from actors.integrity import combined


def collected(**changes: Any) -> dict[str, Any]:
    """A symbol that is received since 5, whose book is good since 7."""
    row = {"symbol": "BTCUSDT", "state": "subscribed", "reason": "", "received": 5, "lost": None, "lost_why": ""}
    return row | {"book": "synced", "book_since": 7, "book_why": ""} | changes


def stored(**changes: Any) -> dict[str, Any]:
    """A symbol with nothing missing since 6."""
    row = {"exchange": "binance", "symbol": "BTCUSDT", "proof": "ids", "state": "synced", "since": 6, "why": ""}
    counts = {"first_id": 1, "last_id": 9, "trades": 9, "missing": 0, "gaps_open": 0, "gaps_closed": 2}
    return row | counts | changes


def test_all_is_good_since_the_last_part_became_good() -> None:
    assert combined("binance", "BTCUSDT", collected(), stored()) == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "state": "synced",
        "since": 7,
        "why": "",
        "proof": "ids",
        "trades_state": "synced",
        "book_state": "synced",
        "first_id": 1,
        "last_id": 9,
        "trades": 9,
        "missing": 0,
        "gaps_open": 0,
        "gaps_closed": 2,
    }


@pytest.mark.parametrize(
    ("of_collector", "of_shard", "state", "since", "why"),
    [
        ({}, {"state": "gapped", "since": 8, "why": "ids 3..4"}, "gapped", 8, "ids 3..4"),
        ({"book": "syncing", "book_since": 9, "book_why": "no snapshot yet"}, {}, "syncing", 9, "no snapshot yet"),
        (
            {"book": "syncing", "book_since": 9, "book_why": "no snapshot yet"},
            {"state": "gapped", "since": 12, "why": "ids 3..4"},
            "gapped",
            12,
            "ids 3..4",
        ),
        (
            {"state": "waiting", "received": None, "lost": 10, "lost_why": "connection lost"},
            {"state": "gapped", "since": 8, "why": "ids 3..4"},
            "stale",
            10,
            "connection lost",
        ),
        (
            {"state": "waiting", "received": None, "lost": 0, "lost_why": "the collector was started", "book": None},
            {},
            "syncing",
            None,
            "the collector was started",
        ),
        ({"state": "waiting", "received": None, "book": None}, {}, "syncing", None, "not subscribed yet"),
        ({"state": "refused", "reason": "no such symbol", "received": None}, {}, "stale", None, "no such symbol"),
        (
            {"book": "gapped", "book_since": 8, "book_why": "a hole"},
            {"state": "gapped", "since": 6, "why": "b"},
            "gapped",
            6,
            "a hole",
        ),
    ],
)
def test_a_symbol_is_as_good_as_what_is_worst_about_it(
    of_collector: dict[str, Any], of_shard: dict[str, Any], state: str, since: int | None, why: str
) -> None:
    row = combined("binance", "BTCUSDT", collected(**of_collector), stored(**of_shard))
    assert (row["state"], row["since"], row["why"]) == (state, since, why)


def test_a_symbol_without_trades_or_book_is_judged_by_its_connection() -> None:
    row = combined("binance", "BTCUSDT", collected(book=None), None)
    assert (row["state"], row["since"], row["trades_state"], row["book_state"]) == ("synced", 5, None, None)
    assert (row["proof"], row["missing"], row["gaps_open"]) == (None, None, None)


def test_who_does_not_answer_is_not_taken_for_good() -> None:
    row = combined("binance", "BTCUSDT", "its collector does not answer", stored())
    assert (row["state"], row["why"], row["trades"]) == ("stale", "its collector does not answer", 9)
    row = combined("binance", "BTCUSDT", collected(), "its shard does not answer")
    assert (row["state"], row["why"], row["trades"]) == ("stale", "its shard does not answer", None)
