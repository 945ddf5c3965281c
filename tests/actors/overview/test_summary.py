"""What others get of what is known."""

import json

from hypothesis import given
from hypothesis import strategies as st

from actors.overview.fields import COINS, FIELDS, INDICES, MARKET, Quote
from actors.overview.knowledge import Known
from actors.overview.summary import aged, is_known, restored, rfc3339, summary

NOW = 1_732_268_400_500_000_000
KEYS = {
    *(f"{coin}_price_usd" for coin in COINS),
    *(f"{coin}_change_24h" for coin in COINS),
    *MARKET,
    *("fng_value", "btc_rsi_14", "us_stock_indices"),
    *("fetch_duration_ms", "partial_failure", "last_updated", "timestamp"),
}


def value_of(name: str) -> float | Quote:
    return Quote(590.1, -1.2, -0.2) if name.startswith("us_stock") else 40.0


ALL = {name: Known(value_of(name), "binance", NOW - 10**9, False) for name in FIELDS}


def test_there_are_the_26_keys_and_where_each_comes_from() -> None:
    said = summary(ALL, NOW, 0.21)
    assert len(KEYS) == 26
    assert said.keys() == {*KEYS, "fields"}
    assert said["btc_price_usd"] == 40.0
    assert (said["fng_value"], isinstance(said["fng_value"], int)) == (40, True)
    spy = {"price": 590.1, "change": -1.2, "change_percent": -0.2, "status": "success"}
    assert said["us_stock_indices"] == dict.fromkeys(INDICES, spy)
    assert (said["fetch_duration_ms"], said["partial_failure"]) == (210, False)
    assert (said["last_updated"], said["timestamp"]) == ("2024-11-22T09:39:59.500Z", "2024-11-22T09:40:00.500Z")
    origin = {"source": "binance", "as_of": "2024-11-22T09:39:59.500Z", "stale": False}
    assert said["fields"] == dict.fromkeys(FIELDS, origin)


def test_what_nobody_knows_is_null_and_never_zero() -> None:
    said = summary(dict.fromkeys(FIELDS), NOW, 0)
    assert not is_known(said)
    numbers = {name: said[name] for name in KEYS - {"us_stock_indices", "fetch_duration_ms", "timestamp"}}
    assert set(numbers.values()) == {None, True}
    assert said["us_stock_indices"]["DIA"] == {
        "price": None,
        "change": None,
        "change_percent": None,
        "status": "unknown",
    }
    assert said["fields"]["btc_rsi_14"] == {"source": None, "as_of": None, "stale": True}


def test_one_stale_value_is_a_partial_failure_and_says_so() -> None:
    said = summary({**ALL, "us_stock_indices.DIA": Known(Quote(1, 2, 3), "finnhub", NOW, True)}, NOW, 0)
    assert said["partial_failure"]
    assert said["us_stock_indices"]["DIA"]["status"] == "stale"
    assert [name for name, one in said["fields"].items() if one["stale"]] == ["us_stock_indices.DIA"]


def test_told_again_by_somebody_who_gets_nothing_newer_all_is_stale() -> None:
    said = aged(summary(ALL, NOW, 0))
    assert all(one["stale"] for one in said["fields"].values())
    assert said["partial_failure"]
    assert said["us_stock_indices"]["SPY"]["status"] == "stale"
    assert "does not answer" in said["note"]
    assert (said["btc_price_usd"], said["timestamp"]) == (40.0, "2024-11-22T09:40:00.500Z")


def test_what_was_told_can_be_taken_over_after_a_restart() -> None:
    said = json.loads(json.dumps(summary(ALL, NOW, 0)))
    found = dict(restored(said))
    assert found == {name: Known(value_of(name), "binance", NOW - 10**9, True) for name in FIELDS}


_ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["fields", "source", "as_of", "btc_price_usd", "us_stock_indices"]), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["fields", "us_stock_indices", "btc_price_usd"]), _ANY))
def test_what_is_no_summary_is_passed_over(said: dict[str, object]) -> None:
    for _, known in restored(said):
        assert isinstance(known.value, float)


def test_a_number_without_end_is_passed_over() -> None:
    origin = {"source": "binance", "as_of": rfc3339(NOW), "stale": False}
    assert list(restored({"btc_price_usd": 10**400, "fields": {"btc_price_usd": origin}})) == []


def test_times_are_written_as_rfc_3339_says() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
