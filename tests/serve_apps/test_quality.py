"""How plausible trades are, over HTTP without Ray."""

from pathlib import Path
from typing import Any

import pytest

from config import load
from serve_apps.market import MarketApp, Resource
from serve_apps.quality import QUALITY, QualityApp
from serve_apps.shared_answer import NoAnswer
from tests.actors.aggregation.plain_quality import SECOND, Trade, batch, many
from tests.actors.batches import NOON
from tests.actors.shards import Shard
from tests.serve_apps.asgi_client import ask, check_problem

HOUR = 3600 * SECOND


class Shards:
    """A real shard with trades of two exchanges; `away`: it does not answer."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.away = False

    async def quality(self, exchange: str | None, symbol: str | None, hours: int) -> list[dict[str, Any]]:
        if self.away:
            raise NoAnswer("nobody answers")
        return await self.shard.quality(exchange, symbol, hours)


@pytest.fixture
async def shards(tmp_path: Path) -> Any:
    shard = Shard(load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5}}))
    earlier = many("BTC/USD", [100.0] * 30, NOON - 5 * HOUR)
    now = many("BTC/USD", [100.0] * 4 + [300.0] * 12, NOON, first_id=31)
    bad = [Trade("ETH/USD", NOON + n, NOON + n, n, -1.0, 1.0) for n in range(1, 13)]
    await shard.send("kraken", {"trades": batch([*earlier, *now, *bad])}, NOON + 60 * SECOND)
    await shard.send("coinbase", {"trades": batch(many("ETH/USD", [7.0] * 3, NOON))}, NOON + 60 * SECOND)
    yield Shards(shard)
    await shard.stop()


@pytest.fixture
def app(shards: Shards) -> MarketApp:
    return MarketApp([Resource(QUALITY, ("GET", "HEAD"), QualityApp(shards.quality))])


@pytest.mark.parametrize("name", ["BTC%2FUSD", "BTC_USD"])
async def test_one_symbol_says_what_its_trades_failed_and_when(app: MarketApp, name: str) -> None:
    answer = await ask(app, f"{QUALITY}/{name}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    said = answer.json
    assert (said["exchange"], said["symbol"], said["hours"]) == ("kraken", "BTC/USD", 24)
    assert (said["total_checks"], said["passed_checks"], said["failed_checks"]) == (46, 36, 10)
    assert said["quality_score"] == 36 / 46
    assert said["failed"] == {"valid_values": 0, "data_freshness": 0, "price_anomaly": 10, "volume_sanity": 0}
    assert 0 < said["score"] < 1
    assert (said["level_shifts"], said["silences"]) == (1, 1)
    last_before, first_now = NOON - 5 * HOUR + 29 * SECOND, NOON
    assert said["recent_silences"] == [
        {"from_ns": last_before, "to_ns": first_now, "from_price": 100.0, "to_price": 100.0}
    ]
    [shift] = said["recent_level_shifts"]
    assert (shift["from_ns"], shift["to_price"]) == (NOON + 4 * SECOND, 300.0)
    times = [failure["time"] for failure in said["recent_failures"]]
    assert (len(times), times) == (10, sorted(times, reverse=True))
    assert said["recent_failures"][0]["check_type"] == "price_anomaly"
    assert "200.000% from the last good one" in said["recent_failures"][0]["error_message"]


async def test_hours_say_how_far_back_is_counted(app: MarketApp) -> None:
    assert (await ask(app, f"{QUALITY}/BTC_USD?hours=1")).json["total_checks"] == 16
    assert (await ask(app, f"{QUALITY}/BTC_USD?hours=168")).json["total_checks"] == 46


async def test_no_more_than_ten_of_the_newest_failures_are_told(app: MarketApp) -> None:
    said = (await ask(app, f"{QUALITY}/ETH_USD?exchange=kraken")).json
    assert (said["failed_checks"], said["quality_score"]) == (12, 0.0)
    assert [failure["trade_id"] for failure in said["recent_failures"]] == [*range(12, 2, -1)]


async def test_all_symbols_have_a_row_by_exchange(app: MarketApp) -> None:
    answer = await ask(app, QUALITY)
    assert answer.headers["cache-control"] == "public, max-age=1"
    rows = answer.json
    assert {(row["exchange"], row["symbol"]): row["total_checks"] for row in rows} == {
        ("kraken", "BTC/USD"): 46,
        ("kraken", "ETH/USD"): 12,
        ("coinbase", "ETH/USD"): 3,
    }
    assert [row["symbol"] for row in (await ask(app, f"{QUALITY}?exchange=coinbase&hours=2")).json] == ["ETH/USD"]
    assert (await ask(app, f"{QUALITY}?exchange=nasdaq")).json == []


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        (f"{QUALITY}/NOPE", 404, "NOPE is not collected"),
        (f"{QUALITY}/BTC_USD?exchange=coinbase", 404, "BTC_USD on coinbase is not collected"),
        (f"{QUALITY}/ETH_USD", 400, "exchange= one of: coinbase, kraken"),
        (f"{QUALITY}/BTC_USD?hours=0", 400, "hours must be a whole number from 1 to 168"),
        (f"{QUALITY}/BTC_USD?hours=169", 400, "hours must be"),
        (f"{QUALITY}/BTC_USD?hours=-1", 400, "hours must be"),
        (f"{QUALITY}/BTC_USD?hours=1.5", 400, "hours must be"),
        (f"{QUALITY}/BTC_USD?hours=0000000024", 400, "hours must be"),
        (f"{QUALITY}/BTC_USD?hours=%C2%B2", 400, "hours must be"),
        (f"{QUALITY}?hour=24", 400, "no hour here"),
        (f"{QUALITY}BTC_USD", 404, "is not collected"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_what_is_wrong(
    app: MarketApp, target: str, status: int, says: str
) -> None:
    await check_problem(app, target, status, says)


async def test_while_nobody_answers_it_says_when_to_ask_again(app: MarketApp, shards: Shards) -> None:
    shards.away = True
    answer = await ask(app, QUALITY)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await ask(app, QUALITY, "POST")).status == 405
