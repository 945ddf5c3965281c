"""`rayfeed audit` over real column files and logs, with no instance and with a stand-in for one."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from actors.feeds.feed import Proof
from cluster import audit
from cluster.cli import app
from cluster.instance import InstanceError
from config import SettingsError
from storage.column_writer import ColumnWriter
from storage.ledger_log import Checkpoint, Gap, LedgerLog, Merged
from storage.schema import COLUMNS

DAY = 1_755_475_200
SECOND = 1_000_000_000
GAP = Gap("binance", "BTCUSDT", 1, 40, 41, DAY * SECOND, (DAY + 3) * SECOND, 2, DAY * SECOND, "connection lost")


def write(root: Path, exchange: str, symbol: str, ids: Iterable[int], price: float = 1.0) -> None:
    """Trades of these ids, one a second from the first id's on."""
    known = np.array(list(ids), "<u8")
    columns = {name: np.zeros(known.size, kind) for name, kind in COLUMNS["TRADES"].items()}
    columns |= {"id": known, "time": (DAY + known).astype("<u4"), "price64": np.full(known.size, price)}
    writer = ColumnWriter(root, 64)
    writer.append(exchange, symbol, "TRADES", columns)
    writer.close()


def log(data: Path, *records: Checkpoint | Gap | Merged) -> None:
    ledger = LedgerLog(data / "ledger" / "shard-0.log")
    ledger.append(records)
    ledger.close()


def checkpoint(exchange: str, symbol: str, proof: Proof, first_id: int | None, through_id: int | None) -> Checkpoint:
    return Checkpoint(
        exchange=exchange,
        symbol=symbol,
        proof=proof,
        at_ns=1,
        changed_ns=1,
        first_id=first_id,
        through_id=through_id,
        missing=[],
        surplus=0,
        merging=False,
        first_ns=1,
        last_ns=1,
        last_gap_id=1,
        gaps_closed=4,
        doubled=0,
        since=1,
    )


def run(data: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["audit", "--data", str(data), *options])


def said(data: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = run(data, "--json", *options)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    answer = json.loads(done.stdout)
    assert answer["whole"] is (done.exit_code == 0)
    symbols: list[dict[str, Any]] = answer["symbols"]
    return done.exit_code, symbols


def test_what_is_whole_is_counted_and_exits_with_0(tmp_path: Path) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(100, 200))
    log(tmp_path, checkpoint("binance", "BTCUSDT", "ids", 110, 199))
    code, [row] = said(tmp_path)
    assert code == 0
    assert row == {
        "exchange": "binance",
        "symbol": "BTCUSDT",
        "proof": "ids",
        "stored": 100,
        "first_id": 110,
        "last_id": 199,
        "expected": 90,
        "missing": 0,
        "doubled": 0,
        "earlier": 10,
        "gaps_open": 0,
        "gaps_closed": 4,
        "ranges": [],
        "gaps": [],
        "against": None,
        "failure": "",
        "whole": True,
    }


def test_what_is_missing_is_named_with_its_gaps_and_exits_with_1(tmp_path: Path) -> None:
    missing = {20, 30, 40, 41, 50}
    write(tmp_path / "columns", "binance", "BTCUSDT", set(range(1, 61)) - missing)
    other = replace(GAP, gap_id=2, first_id=20, last_id=20, missing=1)
    log(
        tmp_path,
        GAP,
        other,
        replace(other, closed=5, revision=1),
        replace(GAP, attempts=3, evidence="HTTP 503", revision=1),
    )
    done = run(tmp_path)
    assert done.exit_code == 1
    heading, row, *told = done.stdout.splitlines()
    assert heading.split()[:4] == ["exchange", "symbol", "first", "id"]
    assert row.split()[:10] == ["binance", "BTCUSDT", "1", "60", "60", "55", "5", "0", "1", "1"]
    assert row.rstrip().endswith("ids count up by one")
    assert told == [
        "binance BTCUSDT: missing ids 20 (1), 30 (1), 40..41 (2), 1 more ranges",
        "binance BTCUSDT: open gap, ids 40..41, 2025-08-18 00:00:00 to 2025-08-18 00:00:03: connection lost, "
        "tried 3 times (HTTP 503)",
    ]
    code, [found] = said(tmp_path)
    assert (code, found["missing"], found["expected"], found["gaps_open"]) == (1, 5, 60, 1)


def test_a_tail_that_the_ledger_knew_and_the_files_lost_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 51))
    log(tmp_path, checkpoint("binance", "BTCUSDT", "ids", 1, 60))
    code, [row] = said(tmp_path)
    assert (code, row["missing"], row["ranges"]) == (1, 10, ["51..60 (10)"])


def test_merged_trades_stand_for_their_fills(tmp_path: Path) -> None:
    write(tmp_path / "columns", "okx", "BTC-USDT", [1, 2, 5, 6, 9])
    code, [row] = said(tmp_path)
    assert (code, row["missing"]) == (1, 4)
    log(tmp_path, Merged("okx", "BTC-USDT", [5, 9], [3, 3]))
    code, [row] = said(tmp_path)
    assert (code, row["missing"], row["expected"], row["stored"]) == (0, 0, 9, 5)


def test_where_ids_do_not_count_only_open_windows_say_that_something_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "columns", "bybit", "linear:BTCUSDT", [5, 900, 70_000])
    log(tmp_path, checkpoint("bybit", "linear:BTCUSDT", "recent", None, None))
    code, [row] = said(tmp_path)
    assert (code, row["proof"], row["expected"], row["missing"], row["stored"]) == (0, "recent", None, None, 3)
    window = replace(GAP, exchange="bybit", symbol="linear:BTCUSDT", first_id=None, last_id=None, missing=None)
    log(tmp_path, window)
    done = run(tmp_path)
    assert done.exit_code == 1
    assert "compared with recent trades" in done.stdout
    assert "open gap, 2025-08-18 00:00:00 to 2025-08-18 00:00:03: connection lost" in done.stdout


def test_a_log_that_is_just_being_written_and_a_damaged_line_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 51))
    log(tmp_path, checkpoint("binance", "BTCUSDT", "ids", 1, 50))
    path = tmp_path / "ledger" / "shard-0.log"
    whole = path.read_bytes()
    path.write_bytes(b"00000000 {}\n" + whole + whole[:-20])
    code, [row] = said(tmp_path)
    assert (code, row["gaps_closed"]) == (0, 4)
    assert path.read_bytes().endswith(whole[:-20]), "only its writer may cut it"


def test_only_what_is_asked_for_is_audited(tmp_path: Path) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", [1, 3])
    write(tmp_path / "columns", "kraken", "BTC/USD", [1, 2])
    assert said(tmp_path, "--exchange", "kraken")[0] == 0
    code, [row] = said(tmp_path, "--symbol", "BTC_USD")
    assert (code, row["symbol"]) == (0, "BTC/USD")
    assert said(tmp_path)[0] == 1
    done = run(tmp_path, "--exchange", "okx")
    assert isinstance(done.exception, SettingsError)
    assert str(done.exception) == "nothing is stored of okx; there are binance, kraken"


def test_without_any_trades_it_says_so(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.exit_code, done.stdout) == (0, "no trades are stored\n")
    assert said(tmp_path) == (0, [])


def test_a_day_without_its_columns_is_a_failure_and_not_a_whole_symbol(tmp_path: Path) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 51))
    next((tmp_path / "columns").rglob("id.*.bin")).unlink()
    code, [row] = said(tmp_path)
    assert code == 1
    assert "id is not stored for 18.08.25" in row["failure"]


def test_against_the_simulator_every_trade_is_held_against_the_one_it_made(tmp_path: Path) -> None:
    write(tmp_path / "simulator" / "columns", "binance", "BTCUSDT", range(1, 101))
    write(tmp_path / "columns", "binance", "BTCUSDT", range(10, 91))
    code, [row] = said(tmp_path, "--against", "sim")
    assert code == 0
    assert row["against"] == {
        "made": 81,
        "stored": 81,
        "not_judged": 19,
        "missing": 0,
        "doubled": 0,
        "different": 0,
        "made_up": 0,
        "first_ids": {},
    }
    # Fetched later, and not promised to be whole: what is there has to be right.
    write(tmp_path / "columns", "binance", "BTCUSDT", [3])
    log(tmp_path, checkpoint("binance", "BTCUSDT", "ids", 10, 90))
    assert said(tmp_path, "--against", "sim")[0] == 0
    write(tmp_path / "columns", "binance", "BTCUSDT", [4], price=2.0)
    write(tmp_path / "columns", "binance", "BTCUSDT", [101])
    done = run(tmp_path, "--against", "sim")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-3:] == [
        "binance BTCUSDT: made but not stored: ids 91, 92, 93, 94, 95 and more",
        "binance BTCUSDT: stored otherwise than made: ids 4",
        "binance BTCUSDT: stored but never made: ids 101",
    ]


def test_a_trade_can_be_missing_though_no_ids_say_so(tmp_path: Path) -> None:
    write(tmp_path / "simulator" / "columns", "bitfinex", "tBTCUSD", range(1, 90, 3))
    write(tmp_path / "columns", "bitfinex", "tBTCUSD", set(range(1, 90, 3)) - {31})
    log(tmp_path, checkpoint("bitfinex", "tBTCUSD", "numbered", None, None))
    assert said(tmp_path)[0] == 0
    code, [row] = said(tmp_path, "--against", "sim")
    assert (code, row["against"]["first_ids"]) == (1, {"missing": [31]})


def test_there_must_be_something_to_compare_with(tmp_path: Path) -> None:
    for wanted, reason in (
        ("sim", "never run on simulated exchanges"),
        ("binance", "only the trades of the simulator"),
    ):
        done = run(tmp_path, "--against", wanted)
        assert isinstance(done.exception, SettingsError)
        assert reason in str(done.exception)


def test_a_running_instance_knows_more_than_its_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 51))
    write(tmp_path / "columns", "okx", "BTC-USDT", range(1, 51))
    write(tmp_path / "columns", "kraken", "BTC/USD", range(1, 51))
    log(tmp_path, GAP, checkpoint("okx", "BTC-USDT", "ids", 1, 50), checkpoint("binance", "BTCUSDT", "ids", 1, 50))
    integrity = [
        {"exchange": "binance", "symbol": "BTCUSDT", "proof": "ids", "first_id": 5, "gaps_closed": 9},
        {"exchange": "okx", "symbol": "BTC-USDT", "proof": None, "first_id": None, "gaps_closed": None},
    ]
    gaps = [asdict(replace(GAP, exchange="okx", symbol="BTC-USDT"))]
    monkeypatch.setattr(audit, "_runs", lambda _data: True)
    answers = {"integrity": integrity, "gaps": gaps}
    monkeypatch.setattr(audit, "supervisor", lambda _data: nullcontext(answers.__getitem__))
    code, [binance, kraken, okx] = said(tmp_path)
    assert (code, binance["first_id"], binance["earlier"], binance["gaps_closed"]) == (1, 5, 4, 9)
    assert (binance["gaps_open"], okx["gaps_open"], okx["gaps_closed"], okx["proof"]) == (0, 1, 4, "ids")
    assert (kraken["proof"], kraken["whole"]) == ("ids", True), "as its feed would say"


def test_trades_that_are_made_during_the_audit_are_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "simulator" / "columns"
    write(made, "binance", "BTCUSDT", range(1, 51))
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 46))
    monkeypatch.setattr(audit, "_runs", lambda _data: True)
    monkeypatch.setattr(audit, "supervisor", lambda _data: nullcontext(lambda _method: []))

    def meanwhile(seconds: float) -> None:
        assert seconds == audit.SETTLE_S
        write(made, "binance", "BTCUSDT", range(51, 61))
        write(tmp_path / "columns", "binance", "BTCUSDT", {*range(46, 56)} - {49})

    monkeypatch.setattr("cluster.audit.time.sleep", meanwhile)
    code, [row] = said(tmp_path, "--against", "sim")
    assert code == 1
    assert (row["against"]["made"], row["against"]["not_judged"]) == (50, 10)
    assert row["against"]["first_ids"] == {"missing": [49]}


def test_an_instance_that_does_not_answer_is_audited_by_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "columns", "binance", "BTCUSDT", range(1, 51))
    log(tmp_path, GAP)

    def away(_method: str) -> Any:
        raise InstanceError("the instance on data has stopped")

    monkeypatch.setattr(audit, "_runs", lambda _data: True)
    monkeypatch.setattr(audit, "supervisor", lambda _data: nullcontext(away))
    done = run(tmp_path, "--json")
    assert "rayfeed: the instance on data has stopped; gaps are as the files have them" in done.stderr
    assert json.loads(done.stdout)["symbols"][0]["gaps_open"] == 1
