"""The overview against local servers that speak each provider's API and misbehave, and a real Redis: what it says then
is what docs/market_indicators.md says it says."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from actors.market_overview import REFRESHES, MarketOverview
from actors.overview.fields import COINS, FIELDS, MARKET, index_of, price_of
from actors.overview.own_feed import Market
from actors.overview.providers import Keys
from config.breaker_settings import BreakerSettings
from config.overview_settings import OverviewSettings, StaleSettings
from tests.actors.overview import bodies
from tests.actors.overview.market_server import FAULTS, PATHS, MarketServer, market_server
from tests.actors.overview.test_own_feed import DAY, MINUTE, bars, indicators
from tests.actors.polling.provider_server import silence, status
from tests.polling import until
from tests.servers import RedisServer, free_port

KEYS = Keys(coinmarketcap="cmc-secret", taapi="taapi/secret", finnhub="finnhub-secret")
SECRETS = ("cmc-secret", "taapi/secret", "taapi%2Fsecret", "finnhub-secret")
#: By provider, one of its numbers.
ONE_OF = {
    "binance": price_of("btc"),
    "coingecko": "market_cap_usd",
    "coinmarketcap": "market_cap_usd",
    "alternative.me": "fng_value",
    "taapi": "btc_rsi_14",
    "finnhub": index_of("SPY"),
}
#: Who stands in for whom.
INSTEAD = {"binance": "coingecko", "coingecko": "coinmarketcap"}


@pytest.fixture
async def server() -> AsyncIterator[MarketServer]:
    async with market_server() as running:
        yield running


class NoShards:
    """Nothing of our own is collected."""

    async def newest_seconds(self, markets: Iterable[Market]) -> dict[Market, pa.RecordBatch]:
        return {}

    async def bars(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        return None

    async def indicators(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        return None


class OwnFeed(NoShards):
    """`prices` of markets, each a tenth more than a day before; and fifteen days of bitcoin."""

    def __init__(self, prices: dict[str, float]) -> None:
        self.prices = {Market.of(name): price for name, price in prices.items()}
        self.now_ns: int | None = None

    @property
    def now(self) -> int:
        return time.time_ns() if self.now_ns is None else self.now_ns

    async def newest_seconds(self, markets: Iterable[Market]) -> dict[Market, pa.RecordBatch]:
        second = self.now // 10**9 * 10**9
        return {one: bars("1s", [(second, 1.0, self.prices[one])]) for one in markets if one in self.prices}

    async def bars(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        if timeframe == "1d":
            return bars("1d", [(self._day(ago), 1.0, 2.0) for ago in range(limit - 1, -1, -1)])
        before = self.prices[market] / 1.1
        return bars("5m", [(self.now - ago * MINUTE, before, before) for ago in range(1500, 0, -5)])

    async def indicators(self, market: Market, timeframe: str, limit: int) -> pa.RecordBatch | None:
        return indicators(self._day(1), 44.5)

    def _day(self, ago: int) -> int:
        return self.now // DAY * DAY - ago * DAY


class Told:
    """Who is told the summary."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    async def __call__(self, topic: str, rows: Sequence[dict[str, Any]]) -> None:
        assert topic == "dashboard"
        self.rows += rows


def settings(url: str, stale_s: float = 60, **changed: Any) -> OverviewSettings:
    quick = {"url": url, "requests_per_minute": 60_000}
    often = {**quick, "interval_s": 0.05}
    twice = {**quick, "global_interval_s": 0.05, "prices_interval_s": 0.05}
    groups = dict.fromkeys(StaleSettings.model_fields, stale_s)
    given: dict[str, Any] = {
        "interval_s": 0.05,
        "timeout_s": 0.3,
        "first_retry_s": 0.05,
        "longest_retry_s": 0.1,
        "breaker": BreakerSettings(first_wait_s=0.2, longest_wait_s=0.2),
        "stale_after_s": StaleSettings(**groups),
        "lease_s": 0.5,
        **dict.fromkeys(("binance", "alternative_me", "taapi", "finnhub"), often),
        **dict.fromkeys(("coingecko", "coinmarketcap"), twice),
    }
    return OverviewSettings.model_validate({**given, **changed})


@asynccontextmanager
async def running(url: str, own: Any = None, keys: Keys = KEYS, **given: Any) -> AsyncIterator[MarketOverview]:
    of_actor = {
        name: given.pop(name) for name in ("redis_url", "prefix", "tell", "outside", "recorded") if name in given
    }
    overview = MarketOverview(settings(url, **given), keys, own or NoShards(), **{"outside": True, **of_actor})
    await overview.start()
    try:
        yield overview
        told = await overview.status()
        assert told["running"], told["failure"]
        assert told["failure"] == ""
    finally:
        await overview.stop()


async def heard(overview: MarketOverview, *conditions: Any) -> dict[str, Any]:
    """The summary once it fits."""
    summary: dict[str, Any] | None = None

    async def fits() -> bool:
        nonlocal summary
        summary = await overview.summary()
        return summary is not None and all(condition(summary) for condition in conditions)

    try:
        await until(fits)
    except AssertionError:
        raise AssertionError(summary and summary["fields"], (await overview.limits())["providers"]) from None
    assert summary is not None
    return summary


def by(field: str, source: str | None, stale: bool = False) -> Any:
    def fits(summary: dict[str, Any]) -> bool:
        one = summary["fields"][field]
        return bool(one["source"] == source and one["stale"] == stale)

    return fits


def value(summary: dict[str, Any], field: str) -> Any:
    if field.startswith("us_stock_indices."):
        return summary["us_stock_indices"][field.partition(".")[2]]["price"]
    return summary[field]


def nothing_is_zero(summary: dict[str, Any]) -> None:
    assert 0 not in [value(summary, field) for field in FIELDS if "change" not in field]


async def test_everything_comes_from_the_best_source_and_says_so(server: MarketServer) -> None:
    told = Told()
    # One that took long to answer would be stood in for.
    async with running(server.url, tell=told, timeout_s=5) as overview:
        summary = await heard(overview, lambda said: not said["partial_failure"])
    assert {name: one["source"] for name, one in summary["fields"].items()} == {
        **{name: "binance" for coin in COINS for name in (price_of(coin), f"{coin}_change_24h")},
        **dict.fromkeys(MARKET, "coingecko"),
        "fng_value": "alternative.me",
        "btc_rsi_14": "taapi",
        **{index_of(symbol): "finnhub" for symbol in ("DIA", "SPY", "QQQM")},
    }
    assert {coin: summary[price_of(coin)] for coin in COINS} == bodies.PRICES
    assert (summary["market_cap_usd"], summary["fng_value"], summary["btc_rsi_14"]) == (3.34e12, 40, 61.5)
    # Who stands in is not asked while nobody is missing.
    assert server.asked("coinmarketcap") == 0
    assert server.requests["/api/v3/simple/price"] == []
    assert {row["symbol"] for row in told.rows} == {"summary"}
    assert summary in [row["summary"] for row in told.rows]
    assert server.requests["/api/v1/quote"][0][1]["X-Finnhub-Token"] == "finnhub-secret"
    assert "secret=taapi/secret&" in server.requests["/rsi"][0][2]


async def test_our_own_feed_comes_first_and_nobody_else_is_asked_for_what_it_knows(server: MarketServer) -> None:
    own = OwnFeed({"binance:BTCUSDT": 90_000.0, "coinbase:ETH-USD": 3000.0})
    async with running(server.url, own) as overview:
        summary = await heard(overview, by(price_of("btc"), "own:binance"), by(price_of("bnb"), "binance"))
        assert (summary["btc_price_usd"], summary["btc_rsi_14"]) == (90_000.0, 44.5)
        assert summary["btc_change_24h"] == pytest.approx(10)
        assert summary["fields"]["eth_price_usd"]["source"] == "own:coinbase"
        assert server.asked("taapi") == 0
        # It falls silent.
        own.prices = {}
        summary = await heard(overview, by(price_of("btc"), "binance"))
        assert summary["btc_price_usd"] == bodies.PRICES["btc"]
        own.prices = {Market("kraken", "BTC/USD"): 90_100.0}
        await heard(overview, by(price_of("btc"), "own:kraken"))


async def test_without_the_internet_our_own_feed_alone_answers_and_the_rest_is_null(server: MarketServer) -> None:
    async with running(server.url, OwnFeed({"binance:BTCUSDT": 90_000.0}), outside=False) as overview:
        summary = await heard(overview, by(price_of("btc"), "own:binance"))
        refreshed = await overview.refresh()
        limits = await overview.limits()
    assert refreshed[1] is not None
    assert summary["market_cap_usd"] is None
    assert summary["fields"]["market_cap_usd"] == {"source": None, "as_of": None, "stale": True}
    assert summary["partial_failure"]
    assert not any(server.requests.values())
    assert (len(limits["off"]), limits["providers"]) == (6, {})


async def test_of_a_recording_the_time_is_that_of_its_trades(server: MarketServer) -> None:
    own = OwnFeed({"binance:BTCUSDT": 60_000.0})
    own.now_ns = 1_500_000_000 * 10**9
    async with running(server.url, own, outside=False, recorded=True) as overview:
        summary = await heard(overview, by(price_of("btc"), "own:binance"))
    assert summary["fields"]["btc_price_usd"]["as_of"] == "2017-07-14T02:40:00.000Z"


async def test_nothing_at_all_is_said_while_nothing_is_known(server: MarketServer) -> None:
    for provider in PATHS:
        server.fail(provider, status(500))
    told = Told()
    async with running(server.url, tell=told) as overview:
        await until(lambda: all(server.asked(provider) for provider in PATHS))
        assert await overview.summary() is None
        assert await overview.refresh() == (0.0, None)
    assert told.rows == []


# What docs/market_indicators.md says, fault by fault.


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("provider", PATHS)
async def test_who_fails_from_the_beginning_is_replaced_or_its_numbers_are_null(
    server: MarketServer, provider: str, fault: str
) -> None:
    if provider == "coinmarketcap":
        # Asked only where CoinGecko does not answer.
        server.fail("coingecko", status(500))
    server.fail(provider, FAULTS[fault](provider))
    others = [name for name in PATHS if name not in (provider, "coingecko", "coinmarketcap")]
    with capture_logs() as logs:
        async with running(server.url) as overview:
            wanted = [by(ONE_OF[name], name) for name in others]
            summary = await heard(
                overview, by(ONE_OF[provider], INSTEAD.get(provider), provider not in INSTEAD), *wanted
            )
            nothing_is_zero(summary)
            if provider not in INSTEAD:
                assert value(summary, ONE_OF[provider]) is None
                assert summary["partial_failure"]
            await until(lambda: server.asked(provider) >= 1)
            limits, told = await overview.limits(), await overview.status()
    assert "/elsewhere" not in server.requests
    for text in (repr(limits), repr(told), repr(logs), repr(summary), repr(overview)):
        assert not [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("fault", FAULTS)
async def test_who_fails_later_is_replaced_or_its_last_numbers_stay_and_become_stale(
    server: MarketServer, fault: str
) -> None:
    fields = {ONE_OF[provider]: INSTEAD.get(provider, provider) for provider in PATHS if provider != "coinmarketcap"}
    async with running(server.url, stale_s=1) as overview:
        before = await heard(overview, lambda said: not said["partial_failure"])
        for provider in PATHS.keys() - {"coinmarketcap"}:
            # CoinGecko's prices stay, as Binance's are to be replaced by them.
            server.faults[PATHS[provider][-1]] = FAULTS[fault](provider)
        if fault == "429":
            # Who asks for a rest is not asked for anything else either.
            fields[price_of("btc")] = "coinmarketcap"
        gone = [by(field, source, source not in INSTEAD.values()) for field, source in fields.items()]
        summary = await heard(overview, *gone)
        for field, source in fields.items():
            if source not in INSTEAD.values():
                assert value(summary, field) == value(before, field)
        assert summary["partial_failure"]
        nothing_is_zero(summary)
        # Who stands in fails too.
        server.fail("coingecko", FAULTS[fault]("coingecko"))
        server.fail("coinmarketcap", FAULTS[fault]("coinmarketcap"))
        summary = await heard(overview, lambda said: all(one["stale"] for one in said["fields"].values()))
        nothing_is_zero(summary)
        assert summary["fields"]["market_cap_usd"]["source"] in ("coinmarketcap", "coingecko")
        if fault in ("429", "403"):
            # They are left alone: for as long as they asked for, or for an hour.
            return
        server.faults.clear()
        await heard(overview, lambda said: not said["partial_failure"], by(price_of("btc"), "binance"))


@pytest.mark.parametrize(
    ("path", "field", "jumped", "after"),
    [
        ("/api/v3/ticker/24hr", price_of("btc"), lambda: bodies.binance({"btc": 50_000.0}, time.time()), 50_000.0),
        ("/api/v3/global", "market_cap_usd", lambda: bodies.coingecko_global(time.time(), 2e12), 2e12),
        ("/fng/", "fng_value", lambda: bodies.fear_greed("90", time.time()), 90),
        ("/rsi", "btc_rsi_14", lambda: bodies.taapi(9.5), 9.5),
        ("/api/v1/quote?symbol=SPY", index_of("SPY"), lambda: bodies.finnhub(300.0, time.time()), 300.0),
    ],
)
async def test_a_jump_is_told_only_when_it_is_said_again(
    server: MarketServer, path: str, field: str, jumped: Any, after: float
) -> None:
    async with running(server.url, keys=Keys(taapi="a", finnhub="b")) as overview:
        before = await heard(overview, lambda said: value(said, field) is not None)
        base = path.partition("?")[0]
        good, answered = server.good[base], len(server.requests[base])
        times = 0

        def once() -> Any:
            nonlocal times
            times += 1
            return jumped() if times == 1 else good()

        server.good[path] = once
        seen: set[Any] = set()

        async def watched() -> bool:
            summary = await overview.summary()
            assert summary is not None
            seen.add(value(summary, field))
            return len(server.requests[base]) > answered + 12

        await until(watched)
        assert value(before, field) in seen
        assert after not in seen
        assert times > 1
        # The same provider may not say the same of the same moment: here each answer is of another.
        moments = iter(range(1, 10_000))

        def again() -> Any:
            body = jumped()
            next_s = time.time() - 100 + next(moments) / 1000
            if path == "/api/v3/global":
                body["data"]["updated_at"] = next_s
            if base == "/api/v1/quote":
                body["t"] = next_s
            if path == "/fng/":
                body["data"][0]["timestamp"] = str(int(time.time()) - 5 * next(moments))
            return body

        server.good[path] = again
        await heard(overview, lambda said: value(said, field) == after)


async def test_one_coin_that_costs_nothing_is_asked_for_elsewhere_and_the_others_are_not(server: MarketServer) -> None:
    server.good["/api/v3/ticker/24hr"] = lambda: bodies.binance({**bodies.PRICES, "bnb": 0.0}, time.time())
    async with running(server.url, timeout_s=5) as overview:
        summary = await heard(overview, by(price_of("bnb"), "coingecko"), by(price_of("btc"), "binance"))
        assert summary["bnb_price_usd"] == pytest.approx(620.7201)
        assert (await overview.limits())["providers"]["binance"]["breaker"]["state"] == "closed"


async def test_a_price_of_long_ago_is_no_price_and_another_is_asked(server: MarketServer) -> None:
    server.good["/api/v3/ticker/24hr"] = lambda: bodies.binance(now_s=time.time() - 200)
    async with running(server.url) as overview:
        await heard(overview, by(price_of("btc"), "coingecko"))
        question = (await overview.limits())["providers"]["binance"]["questions"]["binance"]
        assert "btc_price_usd: too old" in question["error"]


async def test_one_index_that_fails_does_not_take_the_others_along(server: MarketServer) -> None:
    server.faults["/api/v1/quote?symbol=DIA"] = status(500)
    async with running(server.url) as overview:
        summary = await heard(overview, by(index_of("SPY"), "finnhub"), by(index_of("QQQM"), "finnhub"))
        assert summary["us_stock_indices"]["DIA"]["status"] == "unknown"
        assert summary["us_stock_indices"]["SPY"]["status"] == "success"
        await until(lambda: len([1 for *_, query in server.requests["/api/v1/quote"] if "DIA" in query]) > 5)
        assert (await overview.limits())["providers"]["finnhub"]["breaker"]["state"] == "closed"


async def test_all_three_sources_of_a_price_are_tried_in_order(server: MarketServer) -> None:
    server.fail("binance", status(500))
    server.fail("coingecko", status(503))
    async with running(server.url) as overview:
        await heard(overview, by(price_of("btc"), "coinmarketcap"), by("market_cap_usd", "coinmarketcap"))
        first = {path: server.requests[path][0][0] for path in (*PATHS["binance"], *PATHS["coinmarketcap"])}
        assert first["/api/v3/ticker/24hr"] < first["/v2/cryptocurrency/quotes/latest"]
        server.fail("coingecko", None)
        await heard(overview, by(price_of("btc"), "coingecko"), by("market_cap_usd", "coingecko"))
        server.fail("binance", None)
        await heard(overview, by(price_of("btc"), "binance"))


async def test_the_rest_that_is_asked_for_is_kept(server: MarketServer) -> None:
    server.faults["/fng/"] = status(429, Retry_After="1")
    async with running(server.url) as overview:
        await until(lambda: overview._schedule.status(0)["alternative.me"]["limited"] == 1)
        server.fail("alternative.me", None)
        assert (await overview.status())["last_error"] == "alternative.me: too many requests, resting for 1 s"
        await heard(overview, by("fng_value", "alternative.me"))
        assert (await overview.status())["last_error"] == ""
    times = [at for at, *_ in server.requests["/fng/"]]
    assert 0.99 <= times[1] - times[0] < 3


@pytest.mark.parametrize(("code", "headers"), [(418, {}), (503, {"Retry_After": "20"})])
async def test_a_ban_and_a_plea_for_time_are_rests_too(
    server: MarketServer, code: int, headers: dict[str, str]
) -> None:
    server.fail("binance", status(code, **headers))
    async with running(server.url) as overview:
        await heard(overview, by(price_of("btc"), "coingecko"))
        limits = await overview.limits()
        assert limits["providers"]["binance"]["limited"] >= 1
        assert limits["providers"]["binance"]["failed"] == 0
        assert not limits["rate_limit_status"]["btc_api_circuit_breaker_open"]


async def test_the_breaker_keeps_a_dead_provider_from_being_asked_and_says_so_once(server: MarketServer) -> None:
    server.fail("binance", status(500, {"msg": "taapi/secret\nis broken"}))
    breaker = BreakerSettings(first_wait_s=60, longest_wait_s=60)
    with capture_logs() as logs:
        async with running(server.url, breaker=breaker) as overview:
            await until(lambda: server.asked("binance") == 5)
            await heard(overview, by(price_of("btc"), "coingecko"))
            before = len(server.requests["/fng/"])
            await until(lambda: len(server.requests["/fng/"]) > before + 10)
            limits, told = await overview.limits(), await overview.status()
    assert server.asked("binance") == 5
    assert limits["rate_limit_status"]["btc_api_circuit_breaker_open"]
    assert not limits["rate_limit_status"]["can_fetch_btc_now"]
    assert limits["providers"]["binance"]["questions"]["binance"]["error"] == "500 *** is broken"
    assert "left alone: binance" in told["remark"]
    assert [log["event"] for log in logs] == ["a provider is left alone for a while"]


async def test_who_is_slow_holds_nobody_up(server: MarketServer) -> None:
    server.fail("coingecko", silence(30))
    async with running(server.url, timeout_s=5) as overview:
        began = time.monotonic()
        await heard(overview, by(price_of("btc"), "binance"), by("fng_value", "alternative.me"))
        assert time.monotonic() - began < 2


async def test_a_refresh_asks_again_and_too_many_are_told_to_wait(server: MarketServer) -> None:
    hourly = {"url": server.url, "requests_per_minute": 60_000, "interval_s": 3600}
    async with running(server.url, alternative_me=hourly, interval_s=60) as overview:
        await heard(overview, by("fng_value", "alternative.me"))
        # It is young: nobody is asked, and the answer is what is known.
        wait, summary = await overview.refresh()
        assert (wait, len(server.requests["/fng/"])) == (0.0, 1)
        assert summary is not None
        assert summary["fng_value"] == 40
        waits = [(await overview.refresh())[0] for _ in range(REFRESHES)]
        assert waits[: REFRESHES - 1] == [0.0] * (REFRESHES - 1)
        assert 0 < waits[-1] <= 10


# With others, by way of Redis.


async def test_of_two_instances_one_asks_and_both_tell_the_same_and_the_next_one_goes_on_when_it_dies(
    server: MarketServer, tmp_path: Path
) -> None:
    # Longer than a busy machine stops a process for: nobody else is to take the lead while the first one lives.
    lease = {"lease_s": 3.0}
    with RedisServer(tmp_path) as redis:
        told = Told()
        async with running(server.url, redis_url=redis.url, **lease) as leader:
            await heard(leader, by("fng_value", "alternative.me"))
            async with running(server.url, redis_url=redis.url, tell=told, **lease) as follower:

                async def role_of(overview: MarketOverview) -> str:
                    return str((await overview.limits())["role"])

                await heard(follower, by("fng_value", "alternative.me"))
                assert [await role_of(one) for one in (leader, follower)] == ["leader", "follower"]
                assert (await follower.status())["requests"] == 0
                assert (await leader.status())["requests"] > 5
                summary = await follower.summary()
                assert summary is not None
                await until(lambda: summary["timestamp"] in [row["summary"]["timestamp"] for row in told.rows])
                # The leader dies without a word.
                assert leader._task is not None
                leader._task.cancel()

                async def leads() -> bool:
                    return await role_of(follower) == "leader"

                await until(leads)

                async def asks() -> bool:
                    return bool((await follower.status())["requests"] > 5)

                await until(asks)
                await heard(follower, by("fng_value", "alternative.me"), by(price_of("btc"), "binance"))
            await leader.start()


async def test_a_new_leader_begins_with_what_was_told_last(server: MarketServer, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with running(server.url, redis_url=redis.url) as overview:
            before = await heard(overview, lambda said: not said["partial_failure"])
        for provider in PATHS:
            server.fail(provider, status(500))
        async with running(server.url, redis_url=redis.url) as overview:
            after = await heard(overview, by("market_cap_usd", "coingecko", stale=True))
            assert after["market_cap_usd"] == before["market_cap_usd"]
            assert after["us_stock_indices"]["SPY"]["status"] == "stale"
            assert after["fields"]["fng_value"]["as_of"] == before["fields"]["fng_value"]["as_of"]


async def test_who_followed_goes_on_alone_with_what_the_leader_told_last(server: MarketServer, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        async with running(server.url, redis_url=redis.url) as leader:
            await heard(leader, lambda said: not said["partial_failure"])
            async with running(server.url, redis_url=redis.url) as follower:
                before = await heard(follower, lambda said: not said["partial_failure"])
                for provider in PATHS:
                    server.fail(provider, status(500))
                redis.stop()

                async def is_alone() -> bool:
                    return bool((await follower.limits())["role"] == "alone")

                await until(is_alone)
                now = (await heard(follower))["timestamp"]
                after = await heard(follower, lambda said: said["timestamp"] > now)
                assert after["market_cap_usd"] == before["market_cap_usd"]
                assert after["fields"]["market_cap_usd"]["source"] == "coingecko"


async def test_without_redis_it_goes_on_alone_and_with_it_again_when_it_is_back(
    server: MarketServer, tmp_path: Path
) -> None:
    redis = RedisServer(tmp_path)
    async with running(server.url, redis_url=redis.url) as overview:
        summary = await heard(overview, by(price_of("btc"), "binance"))
        assert (await overview.limits())["role"] == "alone"
        with redis:

            async def leads() -> bool:
                return str((await overview.limits())["role"]) == "leader"

            await until(leads)
            await heard(overview, lambda said: said["timestamp"] > summary["timestamp"])


async def test_without_a_network_it_runs_knows_nothing_and_keeps_the_log_short(server: MarketServer) -> None:
    closed = f"http://127.0.0.1:{free_port()}"
    with capture_logs() as logs:
        async with running(closed) as overview:

            async def given_up() -> bool:
                providers = (await overview.limits())["providers"].values()
                return all(one["breaker"]["state"] != "closed" for one in providers)

            await until(given_up)
            assert await overview.summary() is None
            assert "6 providers" in (await overview.status())["actor"]
    assert len(logs) <= len(PATHS)


def test_the_page_that_says_what_happens_then_names_every_fault_that_is_tried_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "market_indicators.md").read_text()
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert rows >= {*FAULTS, "jump", "too old"}
