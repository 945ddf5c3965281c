"""A fault happens, is seen everywhere, and heals: by the commands, over HTTP and in a notebook."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cluster.running import Instance, command, rayfeed_up
from tests.polling import wait_until

PROJECT = Path(__file__).parents[2]
EXCHANGE, SYMBOL = "binance", "BTCUSDT"
GAPS = f"/api/v1/gaps?exchange={EXCHANGE}&symbol={SYMBOL}"
REPAIR_S = 60.0


def integrity(instance: Instance) -> Any:
    return instance.json(f"/api/v1/integrity/{SYMBOL}?exchange={EXCHANGE}")


def sim(instance: Instance, *arguments: str) -> Any:
    done = command("sim", *arguments, "--data", str(instance.data), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def audited(data: Path, *options: str) -> dict[tuple[str, str], Any]:
    """By exchange and symbol, of an audit that finds nothing wrong; what is being repaired may take its time."""
    deadline = time.monotonic() + REPAIR_S
    while (done := command("audit", "--data", str(data), "--json", *options)).returncode:
        assert time.monotonic() < deadline, done.stdout + done.stderr
    return {(row["exchange"], row["symbol"]): row for row in json.loads(done.stdout)["symbols"]}


def all_synced(instance: Instance) -> bool:
    return {row["state"] for row in instance.json("/api/v1/integrity")} == {"synced"}


@pytest.fixture
def healthy(simulated: Instance) -> Instance:
    """The shared instance, with every symbol synced."""
    wait_until(lambda: all_synced(simulated), REPAIR_S)
    return simulated


def test_a_fault_opens_a_gap_that_is_repaired_and_closed_with_evidence(healthy: Instance) -> None:
    before = {gap["gap_id"] for gap in healthy.json(GAPS)}
    closed = integrity(healthy)["gaps_closed"]
    # Slow repair is seen by everybody who looks.
    sim(healthy, "fault", EXCHANGE, "rest_slow", "wait=3", "--for", "30")
    said = sim(healthy, "fault", EXCHANGE, "skip", "count=5", "about=trades", "--symbol", SYMBOL)
    assert said["options"]["symbol"] == SYMBOL
    row: dict[str, Any] = {}
    opened: list[dict[str, Any]] = []

    def is_gapped() -> bool:
        row.update(integrity(healthy))
        opened[:] = healthy.json(f"{GAPS}&open=1")
        return row["state"] == "gapped" and bool(opened)

    wait_until(is_gapped)
    assert (row["proof"], row["gaps_open"] > 0, row["why"] != "") == ("ids", True, True)
    assert {gap["gap_id"] for gap in opened}.isdisjoint(before)
    assert all(gap["missing"] > 0 and gap["closed"] is None for gap in opened)
    wait_until(lambda: integrity(healthy)["state"] == "synced", REPAIR_S)
    assert healthy.json(f"{GAPS}&open=1") == []
    assert integrity(healthy)["gaps_closed"] > closed
    new = [gap for gap in healthy.json(GAPS) if gap["gap_id"] not in before]
    assert new
    assert all(gap["closed"] and gap["missing"] == 0 and "every id is stored" in gap["evidence"] for gap in new)


def test_after_faults_at_every_exchange_an_audit_finds_each_trade_that_was_made(healthy: Instance) -> None:
    exchanges = sorted({row["exchange"] for row in healthy.json("/api/v1/integrity")})
    for exchange in exchanges:
        sim(healthy, "fault", exchange, "drop", "all=true")
    rows = audited(healthy.data, "--against", "sim")
    assert {exchange for exchange, _ in rows} == set(exchanges)
    assert all(row["against"]["made"] > 0 for row in rows.values())


def test_status_and_audit_speak_of_all_symbols(healthy: Instance) -> None:
    said = json.loads(command("status", "--data", str(healthy.data), "--json").stdout)
    symbols = {(row["exchange"], row["symbol"]) for row in said["integrity"]}
    assert symbols == set(healthy.collected())
    assert set(audited(healthy.data)) <= symbols
    assert "gaps closed" in command("status", "--data", str(healthy.data)).stdout


def test_past_trades_are_fetched_and_none_is_stored_twice(healthy: Instance) -> None:
    done = command("backfill", EXCHANGE, SYMBOL, "--from", "2m ago", "--data", str(healthy.data), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    [job] = json.loads(done.stdout)
    assert (job["state"], job["symbol"], job["rows"] > 0) == ("done", SYMBOL, True)
    assert audited(healthy.data, "--exchange", EXCHANGE, "--against", "sim")[EXCHANGE, SYMBOL]["doubled"] == 0
    listed = json.loads(command("backfill", "--data", str(healthy.data), "--json").stdout)
    assert job["job"] in [one["job"] for one in listed if one["exchange"] == EXCHANGE]


def test_a_halted_market_makes_no_trades_until_it_goes_on(healthy: Instance) -> None:
    data = str(healthy.data)
    assert command("sim", "halt", EXCHANGE, "--data", data).stdout == f"{EXCHANGE}: halted\n"
    try:
        made = audited(healthy.data, "--exchange", EXCHANGE, "--against", "sim")
        again = audited(healthy.data, "--exchange", EXCHANGE, "--against", "sim")
    finally:
        command("sim", "go", EXCHANGE, "--data", data)
    assert {name: row["stored"] for name, row in made.items()} == {name: row["stored"] for name, row in again.items()}
    stored = integrity(healthy)["trades"]
    wait_until(lambda: integrity(healthy)["trades"] > stored)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["sim", "fault", "nasdaq", "drop"], "nasdaq"),
        (["sim", "fault", EXCHANGE, "nope"], "there is no fault 'nope': expected one of drop, "),
        (["backfill", "nasdaq", "AAPL", "--from", "1h ago"], "no exchange called 'nasdaq' runs here"),
        (["audit", "--exchange", "nasdaq"], "nothing is stored of nasdaq"),
    ],
)
def test_what_there_is_not_is_one_clear_line(healthy: Instance, arguments: list[str], reason: str) -> None:
    done = command(*arguments, "--data", str(healthy.data))
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("rayfeed: ")
    assert reason in line


def test_the_notebook_injects_a_fault_and_sees_it_heal(healthy: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFEED_DATA", str(healthy.data))
    notebook = nbformat.read(PROJECT / "notebooks" / "integrity.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}})
    outputs = [cell.outputs for cell in client.execute().cells if cell.cell_type == "code"]
    states, picture, gaps = (output[0]["data"] for output in outputs[-3:])
    assert "gapped" in states["text/plain"]
    assert states["text/plain"].splitlines()[-1].split()[2] == "synced"
    assert "image/png" in picture
    assert "every id is stored" in gaps["text/plain"]


def test_what_cannot_be_repaired_stays_open_for_all_to_see_also_in_the_files_of_a_stopped_instance(
    tmp_path: Path,
) -> None:
    data, lost = tmp_path / "data", ("bybit", "spot:BTCUSDT")
    # One of each proof; of spot Bybit shows the last 60 trades over REST and none before.
    lively = {"RAYFEED_SIMULATOR__TRADES_PER_SECOND": "120"}

    def of_others(row: dict[str, Any]) -> bool:
        return bool(row["gaps_open"]) and not row["symbol"].startswith("spot:")

    with rayfeed_up(data, "--exchanges", "binance,bitfinex,bybit", environment=lively) as instance:
        wait_until(lambda: all(row["trades"] for row in instance.json("/api/v1/integrity")), REPAIR_S)
        wait_until(lambda: all_synced(instance), REPAIR_S)
        sim(instance, "fault", "bybit", "restart", "--for", "8")
        gaps = f"/api/v1/gaps?exchange={lost[0]}&symbol={quote(lost[1])}&open=1"
        wait_until(lambda: any(gap["attempts"] for gap in instance.json(gaps)), REPAIR_S)
        [gap] = instance.json(gaps)
        assert gap["evidence"].startswith("the exchange shows no more"), gap
        known = {(row["exchange"], row["symbol"]): row for row in instance.json("/api/v1/integrity")}
        assert (known[lost]["trades_state"], known[lost]["gaps_open"]) == ("gapped", 1)
        assert command("audit", "--data", str(data)).returncode == 1
        said = json.loads(command("status", "--data", str(data), "--json").stdout)["integrity"]
        assert {(row["exchange"], row["symbol"]): row["gaps_open"] for row in said}[lost] == 1
        wait_until(lambda: not [row for row in instance.json("/api/v1/integrity") if of_others(row)], REPAIR_S)
        assert instance.stop() == 0
    done = command("audit", "--data", str(data), "--json", "--against", "sim")
    assert done.returncode == 1
    rows = {(row["exchange"], row["symbol"]): row for row in json.loads(done.stdout)["symbols"]}
    assert {name: row["proof"] for name, row in rows.items()} == {name: row["proof"] for name, row in known.items()}
    for name, row in rows.items():
        assert row["first_id"] == known[name]["first_id"] or row["proof"] != "ids"
        assert row["against"]["made"] > 0
        if not name[1].startswith("spot:"):
            assert (row["gaps_open"], row["against"]["missing"]) == (0, 0), row
    assert rows[lost]["gaps_open"] == 1
    assert rows[lost]["against"]["missing"] > 0
