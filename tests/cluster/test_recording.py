"""What a running instance records, another one plays as if it were live, again and again, and is stopped and started
without forgetting anything."""

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.instance import free_ports
from storage.journal import read_journal
from storage.schema import COLUMNS, IDENTITY
from tests.cluster.recorded import BOOKS, LIVE_TRADES
from tests.cluster.running import RAYFEED, FrontDoor, Instance, command
from tests.polling import wait_until

#: Not collected while it is recorded.
LEFT_OUT = "XRPUSDT"
#: Exchanges whose recordings are played beside the journal, which is of Binance.
BESIDE = ("kraken", "okx")
ALL = {row_type: ",".join(columns) for row_type, columns in COLUMNS.items()}


@pytest.fixture(scope="module")
def recorded(simulated: Instance) -> dict[str, Any]:
    """What the command said when it was interrupted, once the connection it began with was left and trades had come."""
    assert simulated.change_symbols("DELETE", "binance", LEFT_OUT)[0] == 200
    before = simulated.collector("binance")

    def has_taken_over() -> bool:
        now = simulated.collector("binance")
        renewed = set(now["names"]).isdisjoint(before["names"])
        return bool(renewed and now["journal"] and now["book_states"] == {"synced": 3})

    recording = subprocess.Popen(
        [RAYFEED, "record", "--json", "--data", str(simulated.data)], stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(has_taken_over)
        enough = simulated.collector("binance")["trades"] + 30
        wait_until(lambda: simulated.collector("binance")["trades"] >= enough)
        recording.send_signal(signal.SIGINT)
        said, _ = recording.communicate(timeout=30)
    finally:
        recording.kill()
        assert simulated.change_symbols("POST", "binance", LEFT_OUT)[0] == 200
    assert recording.returncode == 0
    report: dict[str, Any] = json.loads(said)
    return report


@dataclass(kw_only=True)
class Playing(FrontDoor):
    """An instance over the recordings in `source`, by the commands alone."""

    source: Path

    def up(self) -> None:
        options = ["--port", str(self.port), "--tls-port", str(self.tls_port), "--source", f"replay:{self.source}"]
        exchanges = ",".join(("binance", *BESIDE))
        started = command("up", "--detach", "--data", str(self.data), "--exchanges", exchanges, *options)
        assert started.stdout == f"ready {self.url}\n", started.stderr

    def down(self) -> str:
        self.detach()
        return command("down", "--data", str(self.data)).stdout

    def symbols(self, *arguments: str) -> Any:
        said = command("symbols", *arguments, "--json", "--data", str(self.data))
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)

    def books(self) -> dict[tuple[str, str], str]:
        return {where: row["book"] for where, row in self.collected().items()}

    def trades(self) -> dict[str, int]:
        """How many are stored."""
        listed = self.json("/api/symbols")["exchanges"]
        return {
            exchange: sum(len(self.rows(exchange, symbol, "TRADES", "id")["id"]) for symbol in symbols)
            for exchange, symbols in listed.items()
        }


@pytest.fixture(scope="module")
def playing(recorded: dict[str, Any], recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    folder = tmp_path_factory.mktemp("playing")
    source = folder / "source"
    source.mkdir()
    for path in (*map(Path, recorded["files"]), *(recordings / f"{exchange}.jsonl" for exchange in BESIDE)):
        (source / path.name).symlink_to(path)
    port, tls_port = free_ports(2)
    instance = Playing(data=folder / "data", port=port, tls_port=tls_port, source=source)
    try:
        instance.up()
        yield instance
    finally:
        instance.down()


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
    assert taken["frames"] > 0
    assert (taken["lost"], taken["failure"], taken["interruptions"], taken["on"]) == (0, "", 0, False)
    assert {Path(file).parent for file in recorded["files"]} == {simulated.data / "journal"}
    assert {file: Path(file).stat().st_size for file in recorded["files"]} == recorded["files"]
    assert not simulated.collector("binance")["journal"]


def test_it_ends_by_itself_after_the_seconds_asked_for(simulated: Instance, recorded: dict[str, Any]) -> None:
    said = command("record", "--seconds", "1", "--exchanges", "binance", "--data", str(simulated.data))
    assert (said.returncode, said.stderr) == (0, "")
    *_, file, hint = said.stdout.splitlines()
    path = Path(file.split("  ")[0])
    assert path.parent == simulated.data / "journal"
    assert str(path) not in recorded["files"], "what was recorded before stays as it was"
    assert any(event.kind == "recv" for event in read_journal(path))
    assert hint == f"play it with: rayfeed replay {path.parent}"
    assert not simulated.collector("binance")["journal"]


def test_another_instance_that_plays_it_holds_the_same_trades_and_quotes(
    simulated: Instance, recorded: dict[str, Any], playing: Playing
) -> None:
    ids = journal_trades(recorded["files"])
    assert set(ids) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    expected = {"binance": sum(map(len, ids.values()))} | {exchange: LIVE_TRADES[exchange] for exchange in BESIDE}
    wait_until(lambda: playing.trades() == expected)
    for symbol in ids:
        for row_type, identity in IDENTITY.items():
            played, live = (one.rows("binance", symbol, row_type, ALL[row_type]) for one in (playing, simulated))
            rows, order = played[identity], np.argsort(live[identity])
            same = order[(live[identity][order] >= rows.min()) & (live[identity][order] <= rows.max())]
            for name, column in played.items():
                if row_type == "MD" and name in ("time", "nanos"):
                    # A quote has the time it was received, and while one connection took over from another it came
                    # on both: which of them is kept depends on which was decoded first.
                    continue
                assert column[np.argsort(rows)].tobytes() == live[name][same].tobytes(), f"{symbol} {row_type} {name}"
            assert row_type == "MD" or set(played["id"].tolist()) == ids[symbol]


def test_its_books_are_synced_from_the_journal(playing: Playing) -> None:
    expected = {("binance", symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")}

    def synced() -> bool:
        books = playing.books()
        return expected <= books.keys() and set(books.values()) == {"synced"}

    wait_until(synced)
    assert len(playing.books()) == len(expected) + sum(BOOKS[exchange] for exchange in BESIDE)


def test_symbols_are_changed_and_a_restart_keeps_the_changes_and_stores_nothing_twice(
    simulated: Instance, playing: Playing
) -> None:
    trades = playing.trades()
    assert playing.symbols("remove", "kraken", "XBT/CHF", "OMG/USD") == {"XBT/CHF": True, "OMG/USD": True}
    assert playing.change_symbols("POST", "kraken", "OMG/USD") == (200, {"added": ["OMG/USD"], "refused": {}})
    assert playing.change_symbols("DELETE", "okx", "UNI-USD-SWAP") == (200, {"removed": ["UNI-USD-SWAP"]})
    # The exchange has it, the journal has nothing of it.
    assert playing.symbols("add", "binance", LEFT_OUT) == {LEFT_OUT: ""}
    left_out = ("binance", LEFT_OUT)
    symbols = set(playing.books())
    assert left_out in symbols
    assert symbols.isdisjoint({("kraken", "XBT/CHF"), ("okx", "UNI-USD-SWAP")})

    assert playing.down() == "stopped\n"
    assert simulated.json("/readyz")["status"] == "ready", "another instance is not disturbed"
    playing.up()

    def played() -> bool:
        books = playing.books()
        return books.keys() == symbols and {where for where, book in books.items() if book != "synced"} == {left_out}

    wait_until(played)
    # The books are those after the last frames.
    assert playing.trades() == trades
    assert playing.down() == "stopped\n"
    assert playing.down().startswith("nothing runs")
