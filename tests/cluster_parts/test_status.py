"""What `rayfeed status` says of integrity."""

from typing import Any

from rich.console import Console

from cluster.instance import Details
from cluster.status import MOST_SYMBOLS, table
from cluster.status_command import _well


def shown(integrity: list[dict[str, Any]]) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table(Details("127.0.0.1", 1, 2, ray_dashboard="here"), {}, integrity))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return lines[lines.index("", 1) + 1 :]


def row(exchange: str, symbol: str, state: str = "synced", **more: Any) -> dict[str, Any]:
    known = {"since": 1_769_860_800_000_000_000, "why": "", "gaps_open": 0, "gaps_closed": 2}
    return {"exchange": exchange, "symbol": symbol, "state": state, **known, **more}


def test_exchanges_are_counted_and_what_is_not_synced_is_named() -> None:
    lines = shown(
        [
            row("kraken", "BTC/USD", "gapped", why="connection lost", gaps_open=1),
            row("binance", "BTCUSDT"),
            row("binance", "ETHUSDT"),
            row("kraken", "ETH/USD", "stale", since=None, why="its shard is away", gaps_open=None, gaps_closed=None),
        ]
    )
    assert [" ".join(line.split()) for line in lines] == [
        "exchange synced syncing gapped stale gaps open gaps closed",
        "binance 2 0 4",
        "kraken 1 1 1 2",
        "exchange symbol state since (UTC) why",
        "kraken BTC/USD gapped 2026-01-31 12:00:00 connection lost",
        "kraken ETH/USD stale its shard is away",
    ]


def test_what_alerts_could_not_look_at_is_said() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        said = {"alerter": {"answers": True, "missed": 1200}, "database": {"answers": True}}
        console.print(table(Details("127.0.0.1", 1, 2), said, []))
    assert "1,200 tables missed" in capture.get()


def test_what_redis_was_too_long_away_for_is_said() -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table(Details("127.0.0.1", 1, 2), {"publisher": {"answers": True, "batches_dropped": 1200}}, []))
    assert "1,200 batches not in Redis" in capture.get()


def test_what_the_server_lacks_how_long_rows_are_kept_and_hours_that_are_short_are_said() -> None:
    console = Console(width=200)
    said = {
        "database": {"answers": True, "lacks": ["codecs", "retention"], "retention": {"quotes": 30, "features": 365}},
        "shard:0": {"answers": True, "reconciling": 1200},
        "shard:1": {"answers": True, "reconciling": 0, "lacks": [], "retention": {}},
    }
    with console.capture() as capture:
        console.print(table(Details("127.0.0.1", 1, 2), said, []))
    assert "the server lacks codecs; retention; keeps quotes 30 d, features 365 d" in capture.get()
    assert "1,200 hours of trades short in ClickHouse" in capture.get()
    assert capture.get().count("ClickHouse") == capture.get().count("keeps") == 1


def test_a_narrow_terminal_cuts_nothing_off_and_shows_remarks_in_whole_lines() -> None:
    console = Console(width=80)
    remark = "newest backup has everything, next 2026-11-24 02:00 UTC"
    streaming = {"state": "streaming", "book_states": {"synced": 7}, "trades": 1_234_567, "quotes": 1_234_567}
    said: dict[str, dict[str, Any]] = {
        "backups": {"answers": True, "remark": remark},
        "collector:bitfinex": {"answers": True, "lag_ms": 1234.0, **streaming},
    }
    with console.capture() as capture:
        console.print(table(Details("127.0.0.1", 1, 2), said, []))
    assert "…" not in capture.get()
    assert f"backups {remark}" in [" ".join(line.split()) for line in capture.get().splitlines()]


def test_where_each_is_is_said_where_there_are_several_hosts() -> None:
    console = Console(width=200)
    said = {name: {"answers": True, "host": host} for name, host in (("shard:0", "one"), ("shard:1", "two"))}
    with console.capture() as capture:
        console.print(table(Details("127.0.0.1", 1, 2), said, []))
    assert "on one" in capture.get() and "on two" in capture.get()


def test_of_many_only_the_newest_are_named() -> None:
    lines = shown([row("okx", f"S{number}", "gapped", since=number) for number in range(MOST_SYMBOLS + 5)])
    assert len(lines) == 3 + MOST_SYMBOLS + 1
    assert lines[3].split()[1] == f"S{MOST_SYMBOLS + 4}"
    assert lines[-1].strip() == "5 more"


def test_where_something_is_wrong_there_is_somebody_to_ask() -> None:
    well = {"database": {"answers": True, "available": True, "failure": ""}, "shard:0": {"answers": True}}
    assert _well(well, [row("okx", "A")])
    assert not _well(well, [row("okx", "A", "stale")])
    for wrong in ({"answers": False}, {"answers": True, "failure": "full"}, {"answers": True, "available": False}):
        assert not _well(well | {"publisher": wrong}, [])
