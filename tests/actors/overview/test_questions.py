"""Each provider's answer becomes the numbers it holds, and nothing else becomes a number."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.overview.fields import COINS, FEAR_GREED, MARKET, RSI, Quote, change_of, flaw, index_of, jumps, price_of
from actors.overview.providers import Keys, providers
from actors.overview.question import Question, complaint, shown
from actors.polling.provider import Failed
from config.overview_settings import OverviewSettings
from tests.actors.overview import bodies

KEYS = Keys(coinmarketcap="cmc-key", taapi="ta/api secret"[:6] + "+=x", finnhub="finn-key")
ALL = providers(OverviewSettings(), KEYS, outside=True)
QUESTIONS = {question.name: question for question in ALL.questions}
GOOD: dict[str, Any] = {
    "binance": bodies.binance(),
    "coingecko_prices": bodies.coingecko_prices(),
    "coingecko_global": bodies.coingecko_global(),
    "cmc_prices": bodies.cmc_prices(),
    "cmc_global": bodies.cmc_global(),
    "alternative.me": bodies.fear_greed(),
    "taapi": bodies.taapi(),
    "finnhub_DIA": bodies.finnhub(441.2),
    "finnhub_SPY": bodies.finnhub(590.1),
    "finnhub_QQQM": bodies.finnhub(208.5),
}
NOW_NS = bodies.NOW_S * 10**9


def values(name: str, said: Any) -> dict[str, Any]:
    return {field: heard.value for field, heard in QUESTIONS[name].read(bodies.encoded(said)).items()}


def test_every_question_is_asked_about_here() -> None:
    assert GOOD.keys() == QUESTIONS.keys()


@pytest.mark.parametrize("name", GOOD)
def test_a_good_answer_has_all_its_numbers_and_none_is_a_flaw(name: str) -> None:
    heard = QUESTIONS[name].read(bodies.encoded(GOOD[name]))
    assert set(heard) == set(QUESTIONS[name].fields)
    for field, one in heard.items():
        assert flaw(field, one.value, NOW_NS if one.as_of is None else one.as_of, NOW_NS) == ""


def test_numbers_are_those_that_were_said() -> None:
    for name in ("binance", "cmc_prices"):
        assert values(name, GOOD[name]) == {
            **{price_of(coin): bodies.PRICES[coin] for coin in COINS},
            **{change_of(coin): bodies.CHANGES[coin] for coin in COINS},
        }
    gecko = values("coingecko_prices", GOOD["coingecko_prices"])
    assert gecko[price_of("link")] == pytest.approx(15.5155)
    assert values("coingecko_global", GOOD["coingecko_global"]) == dict(
        zip(MARKET, (3.34e12, 1.9e11, 1.5, 56.9, 11.7), strict=True)
    )
    assert values("cmc_global", GOOD["cmc_global"]) == dict(
        zip(MARKET, (3.31e12, 1.8e11, 1.25, 56.5, 11.5), strict=True)
    )
    assert values("alternative.me", GOOD["alternative.me"]) == {FEAR_GREED: 40}
    assert values("taapi", GOOD["taapi"]) == {RSI: 61.5}
    assert values("finnhub_SPY", GOOD["finnhub_SPY"]) == {index_of("SPY"): Quote(590.1, 1.2, 0.2038)}


def test_times_are_those_that_were_said() -> None:
    as_of = {name: next(iter(QUESTIONS[name].read(bodies.encoded(GOOD[name])).values())).as_of for name in GOOD}
    assert {name: None if ns is None else ns / 1e9 - bodies.NOW_S for name, ns in as_of.items()} == pytest.approx(
        {
            "binance": -0.001,
            "coingecko_prices": -20,
            "coingecko_global": -60,
            "cmc_prices": -1,
            "cmc_global": -1,
            "alternative.me": -(bodies.NOW_S % 86400),
            "taapi": None,
            "finnhub_DIA": -3600,
            "finnhub_SPY": -3600,
            "finnhub_QQQM": -3600,
        },
        abs=1e-5,
    )


def test_a_number_that_is_missing_or_zero_is_left_out_and_the_others_stay() -> None:
    said = values("binance", bodies.binance({**bodies.PRICES, "bnb": 0.0}))
    assert len(said) == 12
    assert price_of("bnb") not in said
    assert change_of("bnb") not in said
    gecko = bodies.coingecko_prices()
    del gecko["solana"]
    gecko["ripple"]["usd_24h_change"] = None
    assert len(values("coingecko_prices", gecko)) == 11
    whole = bodies.coingecko_global()
    del whole["data"]["market_cap_percentage"]["eth"]
    assert set(values("coingecko_global", whole)) == set(MARKET) - {"eth_market_cap_percentage"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("binance", []),
        ("binance", {"code": -1121, "msg": "Invalid symbol."}),
        ("binance", [{"symbol": "BTCUSDT", "lastPrice": "many", "priceChangePercent": "1"}]),
        ("coingecko_prices", {}),
        ("coingecko_global", {"data": {}}),
        ("coingecko_global", bodies.coingecko_global(cap=0)),
        ("coingecko_global", {"status": {"error_code": 429}}),
        ("cmc_global", {"data": {"quote": {"EUR": {}}}}),
        ("cmc_prices", {"data": {}}),
        ("alternative.me", {"data": []}),
        ("alternative.me", {"data": [{"value": "greedy"}]}),
        ("alternative.me", {"data": [{"value": "40.5"}]}),
        ("alternative.me", {"data": [{"value": 10**400}]}),
        ("binance", [{"symbol": "BTCUSDT", "lastPrice": "1", "priceChangePercent": "1", "closeTime": 10**400}]),
        ("finnhub_SPY", bodies.finnhub(590.1) | {"t": 10**400}),
        ("taapi", {"value": None}),
        ("taapi", {"value": "61"}),
        ("finnhub_SPY", {"c": 0, "d": None, "dp": None, "t": 0}),
        ("finnhub_SPY", {"c": 590.1, "d": None, "dp": None}),
        ("finnhub_SPY", {}),
    ],
)
def test_an_answer_without_its_numbers_is_a_failure(name: str, said: Any) -> None:
    with pytest.raises(Failed):
        QUESTIONS[name].read(bodies.encoded(said))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _mutated(said: Any, path: list[int], value: Any) -> Any:
    """The same with something else somewhere inside."""
    if not path or not isinstance(said, dict | list) or not said:
        return value
    keys = list(said) if isinstance(said, dict) else list(range(len(said)))
    key = keys[path[0] % len(keys)]
    copy = dict(said) if isinstance(said, dict) else list(said)
    copy[key] = _mutated(said[key], path[1:], value)
    return copy


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 9), max_size=4), _JSON, st.integers(0, 3))
def test_whatever_a_provider_says_is_numbers_of_its_own_or_a_failure(
    name: str, path: list[int], value: Any, cut: int
) -> None:
    body = json.dumps(_mutated(GOOD[name], path, value)).encode()
    question: Question = QUESTIONS[name]
    for given_body in (body, body[: len(body) * cut // 3]):
        try:
            heard = question.read(given_body)
        except Failed:
            continue
        assert heard
        assert set(heard) <= set(question.fields)
        for field, one in heard.items():
            as_of = NOW_NS if one.as_of is None else one.as_of
            # Says what is wrong, whatever it is.
            assert isinstance(flaw(field, one.value, as_of, NOW_NS), str)
            assert isinstance(jumps(field, one.value, one.value), bool)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(body: bytes) -> None:
    complaint(body)
    for question in ALL.questions:
        with contextlib.suppress(Failed):
            question.read(body)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e9, float("nan"), float("inf")])
def test_prices_out_of_bounds_are_none(value: float) -> None:
    assert flaw(price_of("btc"), value, NOW_NS, NOW_NS) == "out of bounds"


def test_what_is_too_old_or_of_the_future_is_no_news() -> None:
    name = price_of("btc")
    assert flaw(name, 1e5, NOW_NS - 179 * 10**9, NOW_NS) == ""
    assert flaw(name, 1e5, NOW_NS - 181 * 10**9, NOW_NS) == "too old"
    assert flaw(name, 1e5, NOW_NS + 301 * 10**9, NOW_NS) == "of the future"
    assert flaw(index_of("SPY"), Quote(590.0, float("nan"), 0.1), NOW_NS, NOW_NS) == "out of bounds"


def test_keys_go_where_they_belong_and_are_shown_nowhere() -> None:
    assert QUESTIONS["cmc_global"].request.headers["X-CMC-PRO-API-KEY"] == "cmc-key"
    assert QUESTIONS["finnhub_DIA"].request.headers["X-Finnhub-Token"] == "finn-key"
    assert "secret=ta%2Fapi%2B%3Dx&" in QUESTIONS["taapi"].request.path
    with_keys = [question for question in ALL.questions if question.provider in ("binance", "coingecko")]
    assert not [one for one in with_keys if "key" in str(one.request).lower() or "secret" in one.request.path]
    for said in (repr(ALL), repr(KEYS), repr(QUESTIONS["taapi"]), repr(QUESTIONS["cmc_global"])):
        assert not [secret for secret in ALL.secrets if secret in said or "ta%2F" in said]
    text = shown("GET /rsi?secret=ta%2Fapi%2B%3Dx: finn-key\r\nta/api+=x", ALL.secrets)
    assert text == "GET /rsi?secret=***: *** ***"


def test_without_a_key_or_the_internet_nobody_is_asked() -> None:
    some = providers(OverviewSettings(), Keys(finnhub="two\nlines"), outside=True)
    assert set(some.by_name) == {"binance", "coingecko", "alternative.me"}
    assert some.off == {
        "coinmarketcap": "needs a key: set CMC_API_KEY",
        "taapi": "needs a key: set TAAPI_SECRET",
        "finnhub": "FINNHUB_API_KEY has characters that no key has",
    }
    none = providers(OverviewSettings(), KEYS, outside=False)
    assert (none.questions, len(none.off)) == ((), 6)
