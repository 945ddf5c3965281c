"""What a running instance records, another one plays as if it were live, again and again, and is stopped and started
without forgetting anything."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.instance import free_ports
from storage.column_reader import ColumnReader
from storage.journal import read_journal
from storage.schema import COLUMNS, RowType
from tests.cluster.recorded import BOOKS, LIVE_TRADES
from tests.cluster.running import Instance, command
from tests.cluster.test_symbols import change
from tests.polling import wait_until

#: Not collected while it is recorded.
LEFT_OUT = "XRPUSDT"
#: Exchanges whose recordings are played beside the journal of Binance.
BESIDE = ("kraken", "okx")


@pytest.fixture(scope="module")
def recorded(simulated: Instance) -> Iterator[dict[str, Any]]:
    """What the command said of a few seconds."""
    assert change(simulated, "DELETE", "binance", LEFT_OUT)[0] == 200
    try:
        said = command("record", "--seconds", "3", "--json", "--data", str(simulated.data))
    finally:
        assert change(simulated, "POST", "binance", LEFT_OUT)[0] == 200
    assert said.returncode == 0, said.stderr
    report: dict[str, Any] = json.loads(said.stdout)
    yield report


@dataclass
class Playing:
    """An instance over the journal and the recordings beside it, by the commands alone."""

    data: Path
    source: Path
    ports: list[int] = field(default_factory=lambda: free_ports(2))

    def up(self) -> None:
        options = ["--port", str(self.ports[0]), "--tls-port", str(self.ports[1]), "--source", f"replay:{self.source}"]
        exchanges = ",".join(("binance", *BESIDE))
        started = command("up", "--detach", "--data", str(self.data), "--exchanges", exchanges, *options)
        assert started.stdout == f"ready http://127.0.0.1:{self.ports[0]}\n", started.stderr

    def down(self) -> str:
        return command("down", "--data", str(self.data)).stdout

    def symbols(self, *arguments: str) -> Any:
        said = command("symbols", *arguments, "--json", "--data", str(self.data))
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    def books(self) -> dict[tuple[str, str], str]:
        return {(row["exchange"], row["symbol"]): row["book"] for row in self.symbols("list")}

    def trades(self) -> dict[str, int]:
        """How many are stored."""
        reader = ColumnReader(self.data / "columns", rescan_s=0)
        return {
            exchange: sum(len(stored(self.data, exchange, symbol, "TRADES")["id"]) for symbol in symbols)
            for exchange, symbols in reader.symbols().items()
        }


@pytest.fixture(scope="module")
def playing(
    simulated: Instance, recorded: dict[str, Any], recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Playing]:
    folder = tmp_path_factory.mktemp("playing")
    source = folder / "source"
    source.mkdir()
    for path in (*map(Path, recorded["files"]), *(recordings / f"{exchange}.jsonl" for exchange in BESIDE)):
        (source / path.name).symlink_to(path)
    instance = Playing(folder / "data", source)
    try:
        instance.up()
        yield instance
    finally:
        instance.down()


def stored(data: Path, exchange: str, symbol: str, row_type: RowType) -> dict[str, np.ndarray[Any, Any]]:
    """Every column of everything that is stored."""
    names = tuple(COLUMNS[row_type])
    selection = ColumnReader(data / "columns", rescan_s=0).select(exchange, symbol, row_type, 0, 2**62, names)
    return {name: selection.column(name) for name in names}


def journal_trades(files: list[str]) -> dict[str, set[int]]:
    """By symbol, the ids of all trades in frames of the journal."""
    ids: dict[str, set[int]] = {}
    for file in files:
        for event in read_journal(Path(file)):
            if event.kind == "recv" and b"@aggTrade" in event.data:
                data = json.loads(event.data)["data"]
                ids.setdefault(data["s"], set()).add(data["a"])
    return ids


def test_a_recording_says_what_it_took_and_ends(simulated: Instance, recorded: dict[str, Any]) -> None:
    taken = recorded["exchanges"]["binance"]
    assert recorded["seconds"] >= 3
    assert taken["frames"] > 0
    assert (taken["lost"], taken["failure"], taken["interruptions"], taken["on"]) == (0, "", 0, False)
    assert {Path(file).parent for file in recorded["files"]} == {simulated.data / "journal"}
    assert {file: Path(file).stat().st_size for file in recorded["files"]} == recorded["files"]
    assert not simulated.collector("binance")["journal"]


def test_the_other_instance_holds_the_same_trades_and_quotes(
    simulated: Instance, recorded: dict[str, Any], playing: Playing
) -> None:
    ids = journal_trades(recorded["files"])
    assert set(ids) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    count = sum(map(len, ids.values()))
    assert count > 0
    wait_until(
        lambda: playing.trades() == {"binance": count, **{exchange: LIVE_TRADES[exchange] for exchange in BESIDE}}
    )
    for symbol, recorded_ids in ids.items():
        for row_type, identity in (("TRADES", "id"), ("MD", "sequence")):
            own = stored(playing.data, "binance", symbol, row_type)  # type: ignore[arg-type]
            first, last = own[identity][0], own[identity][-1]
            live = stored(simulated.data, "binance", symbol, row_type)  # type: ignore[arg-type]
            same = (live[identity] >= first) & (live[identity] <= last)
            for name, column in own.items():
                assert column.tobytes() == live[name][same].tobytes(), f"{symbol} {row_type} {name}"
            if row_type == "TRADES":
                assert set(own["id"].tolist()) == recorded_ids


def test_its_books_are_synced_from_the_journal(playing: Playing) -> None:
    expected = {("binance", symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")}

    def synced() -> bool:
        books = playing.books()
        return expected <= books.keys() and set(books.values()) == {"synced"}

    wait_until(synced)
    assert len(playing.books()) == len(expected) + sum(BOOKS[exchange] for exchange in BESIDE)


def test_it_is_stopped_and_started_again_stores_nothing_twice_and_keeps_what_was_changed(
    playing: Playing, replayed: Instance
) -> None:
    trades = playing.trades()
    assert playing.symbols("remove", "okx", "UNI-USD-SWAP") == {"UNI-USD-SWAP": True}
    assert playing.symbols("remove", "kraken", "XBT/CHF", "OMG/USD") == {"XBT/CHF": True, "OMG/USD": True}
    assert playing.symbols("add", "kraken", "OMG/USD") == {"OMG/USD": ""}
    # The exchange has it, the journal has nothing of it.
    assert playing.symbols("add", "binance", LEFT_OUT) == {LEFT_OUT: ""}
    symbols = playing.books().keys()
    assert ("binance", LEFT_OUT) in symbols
    assert ("okx", "UNI-USD-SWAP") not in symbols

    assert playing.down() == "stopped\n"
    assert command("symbols", "list", "--data", str(playing.data)).returncode == 1
    assert replayed.json("/readyz")["status"] == "ready", "another instance is not disturbed"
    playing.up()

    def played() -> bool:
        books = playing.books()
        return books.keys() == symbols and {k for k, book in books.items() if book != "synced"} == {
            ("binance", LEFT_OUT)
        }

    wait_until(played)
    # Everything was sent: the books are those of the last frames.
    assert playing.trades() == trades
    assert playing.down() == "stopped\n"
    assert playing.down().startswith("nothing runs")
