"""The newest trades that failed a check are kept, a bounded number of them, also over a restart."""

from pathlib import Path

from actors.aggregation.quality import Quality
from actors.aggregation.quality_kernels import LEVEL_SHIFT, SILENCE
from actors.quarantine import Quarantine
from storage.schema import QUARANTINE
from tests.actors.aggregation.plain_quality import RULES, SECOND, Trade, batch, many
from tests.actors.batches import NOON


def put(quarantine: Quarantine, exchange: str, trades: list[Trade]) -> None:
    rows = batch(trades)
    quarantine.add(exchange, rows, Quality(RULES).judge(rows), RULES)


def negative(symbol: str, ids: range) -> list[Trade]:
    return [Trade(symbol, NOON + n, NOON + n + 5, n, -1.0 - n, 2.0) for n in ids]


def kept(quarantine: Quarantine, exchange: str, symbol: str) -> list[int]:
    ids: list[int] = quarantine.trades(exchange, symbol).column("trade_id").to_pylist()
    return ids


def test_a_copy_of_the_trade_says_what_was_wrong(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, "0-of-1", 100)
    put(quarantine, "kraken", [*many("BTC/USD", [100.0] * 20 + [200.0], NOON), *negative("ETH/USD", range(1))])
    rows = quarantine.trades("kraken", "BTC/USD")
    assert rows.schema == QUARANTINE
    (row,) = rows.to_pylist()
    assert row == {
        "symbol": "BTC/USD",
        "ts_event": NOON + 20 * SECOND,
        "ts_recv": NOON + 20 * SECOND + 20_000_000,
        "trade_id": 21,
        "price": 200.0,
        "size": 1.0,
        "side": 0,
        "check_type": "price_anomaly",
        "value": 1.0,
        "threshold": 0.1,
        "error_message": "its price is 100.000% from the last good one, more than 10.000%, and far from the others",
    }
    assert kept(quarantine, "kraken", "ETH/USD") == [0]
    assert kept(quarantine, "coinbase", "BTC/USD") == []
    quarantine.close()


def test_only_the_newest_are_kept_however_many_come_at_once(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, "0-of-1", 10)
    put(quarantine, "kraken", negative("A", range(4)))
    put(quarantine, "kraken", negative("B", range(4, 10)))
    assert (kept(quarantine, "kraken", "A"), kept(quarantine, "kraken", "B")) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    put(quarantine, "kraken", negative("B", range(10, 13)))
    assert (kept(quarantine, "kraken", "A"), kept(quarantine, "kraken", "B")) == ([3], [*range(4, 13)])
    put(quarantine, "kraken", negative("C", range(1_000)))
    assert (kept(quarantine, "kraken", "B"), kept(quarantine, "kraken", "C")) == ([], [*range(990, 1_000)])
    quarantine.close()


def test_one_symbol_is_cleared_and_the_others_stay(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, "0-of-1", 10)
    put(quarantine, "kraken", [*negative("A", range(3)), *negative("B", range(3))])
    assert quarantine.clear("kraken", "B") == 3
    assert quarantine.clear("kraken", "B") == 0
    assert (kept(quarantine, "kraken", "A"), kept(quarantine, "kraken", "B")) == ([0, 1, 2], [])
    put(quarantine, "kraken", negative("B", range(5, 7)))
    assert (kept(quarantine, "kraken", "A"), kept(quarantine, "kraken", "B")) == ([0, 1, 2], [5, 6])
    quarantine.close()


def test_it_is_there_after_a_restart_also_with_another_size(tmp_path: Path) -> None:
    first = Quarantine(tmp_path, "0-of-1", 7)
    put(first, "kraken", negative("A", range(12)))
    # Killed: nothing is closed.
    for most, expected in ((7, range(5, 12)), (20, range(5, 12)), (3, range(9, 12)), (5, range(9, 12))):
        again = Quarantine(tmp_path, "0-of-1", most)
        assert kept(again, "kraken", "A") == [*expected]
    put(again, "kraken", negative("A", range(12, 16)))
    assert kept(again, "kraken", "A") == [*range(11, 16)]
    assert kept(Quarantine(tmp_path, "1-of-2", 7), "kraken", "A") == []


def test_level_shifts_and_silences_are_kept_apart(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, "0-of-1", 10)
    later = NOON + 3_600 * SECOND
    put(quarantine, "kraken", many("A", [100.0] * 20, NOON) + many("A", [300.0] * 20, later))
    (silence,) = quarantine.events("kraken", "A", SILENCE)
    assert silence == {"from_ns": NOON + 19 * SECOND, "to_ns": later, "from_price": 100.0, "to_price": 300.0}
    (shift,) = quarantine.events("kraken", "A", LEVEL_SHIFT)
    assert shift == {"from_ns": later, "to_ns": later + 9 * SECOND, "from_price": 100.0, "to_price": 300.0}
    assert quarantine.events("kraken", "B", SILENCE) == []
    quarantine.close()
