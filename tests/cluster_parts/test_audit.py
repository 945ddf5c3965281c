"""`rayfeed audit` over real column files and logs, with no instance and with a stand-in for one."""

import asyncio
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

from actors.data_node import DataNode
from actors.feeds.feed import Proof
from actors.placement import Placement, encoded
from cluster import audit
from cluster.cli import app
from cluster.instance import InstanceError
from cluster.other_disks import Beside, HostAway, OtherDisk, away
from config import SettingsError, load
from config.node_folder import disk_of
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
        "host": None,
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


class Asked(OtherDisk):
    """A disk whose reader is in this process; it may fall silent."""

    def __init__(self, data: Path, host: str) -> None:
        super().__init__(disk_of(data), host, None)
        self.node = DataNode(load(data))
        self.silent_for = ""
        self.silences = 0

    def _answer(self, method: str, *arguments: Any) -> Any:
        if method == self.silent_for:
            self.silences += 1
            raise HostAway(self.host)
        return asyncio.run(getattr(self.node, method)(*arguments))


@pytest.fixture
def two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """BTCUSDT is on the second host, and was on the first; ETHUSDT is on the first."""
    here, there = tmp_path / "here", tmp_path / "there"
    write(here / "columns", "binance", "ETHUSDT", range(1, 51))
    write(here / "columns", "binance", "BTCUSDT", range(1, 11))
    write(there / "columns", "binance", "BTCUSDT", set(range(1, 101)) - {30})
    write(there / "columns", "binance", "SOLUSDT", range(1, 11))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        write(here / "simulator" / "columns", "binance", symbol, range(1, 101 if symbol == "BTCUSDT" else 51))
    log(here, checkpoint("binance", "BTCUSDT", "ids", 1, 10), checkpoint("binance", "ETHUSDT", "ids", 1, 50))
    log(there, replace(GAP, first_id=30, last_id=30, missing=1), checkpoint("binance", "BTCUSDT", "ids", 1, 100))
    places = {"BTCUSDT": 1, "ETHUSDT": 0, "SOLUSDT": 1}
    placement = Placement(2, 2, (0, 1), {0: disk_of(here), 1: disk_of(there)}, {"binance": places})
    (here / "placement.json").write_bytes(encoded(placement))
    other = Asked(there, "10.0.0.7")
    monkeypatch.setattr(audit, "_runs", lambda _data: True)
    monkeypatch.setattr(audit, "SETTLE_S", 0.0)

    def silent(_method: str) -> Any:
        raise InstanceError("nobody asks the supervisor here")

    monkeypatch.setattr(audit, "disks_beside", lambda *_: nullcontext(Beside("10.0.0.1", [other], silent)))
    return other


def test_every_symbol_is_audited_on_the_host_that_has_it(tmp_path: Path, two_hosts: Asked) -> None:
    code, [btc, eth, _] = said(tmp_path / "here")
    assert (code, btc["host"], btc["stored"], btc["missing"], btc["ranges"]) == (1, "10.0.0.7", 99, 1, ["30 (1)"])
    assert (btc["gaps_open"], len(btc["gaps"])) == (1, 1), "as the ledger there has it"
    assert (eth["host"], eth["stored"], eth["whole"]) == ("10.0.0.1", 50, True)
    code, [btc, eth, _] = said(tmp_path / "here", "--against", "sim")
    assert btc["against"]["first_ids"] == {"missing": [30]}
    assert (btc["against"]["made"], eth["against"]["made"]) == (100, 50)
    shown = run(tmp_path / "here").stdout.splitlines()
    assert [line.split()[-1] for line in shown[:3]] == ["host", "10.0.0.7", "10.0.0.1"]


def test_trades_that_are_where_nobody_looks_for_them_are_named(tmp_path: Path, two_hosts: Asked) -> None:
    disks = {0: disk_of(tmp_path / "here"), 1: two_hosts.disk}
    placement = Placement(3, 2, (0, 1), disks, {"binance": {"BTCUSDT": 1, "ETHUSDT": 0, "SOLUSDT": 0}})
    (tmp_path / "here" / "placement.json").write_bytes(encoded(placement))
    answer = json.loads(run(tmp_path / "here", "--json").stdout)
    assert answer["not_audited"] == ["10.0.0.7 has trades of binance SOLUSDT, which belongs elsewhere"]
    assert not answer["whole"]


@pytest.mark.parametrize("silent_for", ["trade_counts", "audit", "trades"])
def test_a_host_that_does_not_answer_is_named_and_nothing_is_whole(
    tmp_path: Path, two_hosts: Asked, silent_for: str
) -> None:
    two_hosts.silent_for = silent_for
    done = run(tmp_path / "here", "--against", "sim", "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["whole"], answer["not_audited"]) == (1, False, ["10.0.0.7 does not answer"])
    btc, eth, *_ = answer["symbols"]
    assert (btc["symbol"], btc["failure"]) == ("BTCUSDT", "not audited: 10.0.0.7 does not answer")
    assert eth["whole"]
    assert two_hosts.silences == 1, "to wait for it takes a while"
    assert "not audited: 10.0.0.7 does not answer" in run(tmp_path / "here", "--against", "sim").stdout


def test_a_lost_disk_is_not_forgotten_before_it_has_come_home(
    tmp_path: Path, two_hosts: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    lost = Placement(2, 2, (0, 1), {0: disk_of(here), 1: two_hosts.disk}).without([1])
    assert lost.away == (two_hosts.disk,)
    (here / "placement.json").write_bytes(encoded(lost))
    done = run(here, "--json")
    answer = json.loads(done.stdout)
    assert (done.exit_code, answer["whole"]) == (1, False)
    assert answer["not_audited"][0] == "10.0.0.7 was lost, and what it has goes to the others now"
    monkeypatch.setattr(audit, "disks_beside", lambda *_: nullcontext(Beside("10.0.0.1", [away(two_hosts.disk)])))
    answer = json.loads(run(here, "--json").stdout)
    assert answer["not_audited"] == [f"the host with disk {two_hosts.disk[:8]} does not answer"]
    (here / "placement.json").write_bytes(encoded(lost.without_away(two_hosts.disk)))
    monkeypatch.setattr(audit, "disks_beside", lambda *_: nullcontext(Beside("", [])))
    assert json.loads(run(here, "--json").stdout)["not_audited"] == []


def test_a_folder_whose_other_hosts_nobody_can_ask_says_so(tmp_path: Path, two_hosts: Asked) -> None:
    from cluster.other_disks import disks_beside

    with disks_beside(load(tmp_path / "here"), tmp_path / "here") as beside:
        assert beside == Beside("", [])
