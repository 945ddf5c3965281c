"""How plausible the trades of a running instance are: over HTTP, in a notebook and in ClickHouse."""

from typing import Any

from tests.cluster.running import Instance, command
from tests.polling import wait_until

EXCHANGE, SYMBOL = "binance", "BTCUSDT"
QUALITY = f"/api/v1/quality/{SYMBOL}?exchange={EXCHANGE}"


def counted(instance: Instance) -> Any:
    """The columns of what is in ClickHouse of all symbols."""
    sql = "SELECT sum(total) AS total, sum(passed) AS passed, count() AS hours FROM quality FINAL"
    return instance.inside(f"answer = ray.get(find_actor('database').query.remote({sql!r})).to_pydict()")


def test_every_symbol_that_trades_has_a_row_and_trades_of_a_sound_market_pass(simulated: Instance) -> None:
    wait_until(lambda: all(row["total_checks"] > 20 for row in simulated.json("/api/v1/quality?hours=1")))
    rows = simulated.json("/api/v1/quality?hours=1")
    assert {(row["exchange"], row["symbol"]) for row in rows} == set(simulated.collected())
    assert all(row["failed"]["price_anomaly"] == 0 and row["completeness"] == 1.0 for row in rows)
    status, _, body = simulated.get("/api/v1/quality/NOPE")
    assert (status, b"NOPE is not collected" in body) == (404, True)


def test_trades_of_an_exchange_whose_clock_is_wrong_are_flagged_everywhere_and_stored(simulated: Instance) -> None:
    before = simulated.json(QUALITY)
    arguments = ("fault", EXCHANGE, "skew", "ms=9000", "--data", str(simulated.data))
    assert command("sim", *arguments).returncode == 0

    def flagged() -> bool:
        now = simulated.json(QUALITY)
        return bool(now["failed"]["data_freshness"] > before["failed"]["data_freshness"] and now["recent_failures"])

    wait_until(flagged, 60.0)
    failure = simulated.json(QUALITY)["recent_failures"][0]
    assert failure["check_type"] == "data_freshness"
    assert "before it was made, more than 5 s" in failure["error_message"]
    held = simulated.inside(
        f"frame = feed.quarantine({EXCHANGE!r}, {SYMBOL!r}); frame = frame[frame['check_type'] == 'data_freshness'];"
        "answer = frame[['trade_id', 'value']].to_dict('list')"
    )
    assert failure["trade_id"] in held["trade_id"]
    assert all(-10 < value < -5 for value in held["value"])
    wait_until(lambda: failure["trade_id"] in simulated.rows(EXCHANGE, SYMBOL, "TRADES", "id")["id"])
    failed = simulated.inside(f"answer = int(feed.quality().loc[({EXCHANGE!r}, {SYMBOL!r}), 'data_freshness'])")
    assert failed >= len(held["trade_id"])
    assert simulated.inside(f"answer = feed.clear_quarantine({EXCHANGE!r}, {SYMBOL!r})") >= len(held["trade_id"])


def test_counts_reach_clickhouse_within_a_minute(simulated: Instance) -> None:
    wait_until(lambda: counted(simulated)["hours"][0] >= 4, 90.0)
    counts = counted(simulated)
    total, passed = counts["total"][0], counts["passed"][0]
    assert 0 < passed <= total
