"""Symbols come and go while it runs, by the command, over HTTP and from a notebook; the others are not disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cluster.running import Instance, command
from tests.polling import wait_until

PROJECT = Path(__file__).parents[2]
SUBSCRIPTIONS = "/api/v1/subscriptions"
SYMBOL = "XRPUSDT"
#: The exchange does not list it at first.
NEW_SYMBOL = "LTCUSDT"
#: From the request on.
EFFECT_S = 5.0
NO_NASDAQ = "no exchange called 'nasdaq' runs here; there are binance"

#: Changes what is collected; returns since when it should, as `time.time()`, by which simulated exchanges trade.
Change = Callable[[Instance, Literal["add", "remove"]], float]


def by_command(instance: Instance, what: Literal["add", "remove"]) -> float:
    said = command("symbols", what, "binance", SYMBOL, "--data", str(instance.data))
    done = {"add": "added", "remove": "removed"}[what]
    assert (said.returncode, said.stdout, said.stderr) == (0, f"binance {SYMBOL}: {done}\n", "")
    # How long Python takes to start depends on what else the machine does.
    return time.time()


def over_http(instance: Instance, what: Literal["add", "remove"]) -> float:
    asked = time.time()
    if what == "add":
        assert instance.change_symbols("POST", "binance", SYMBOL) == (200, {"added": [SYMBOL], "refused": {}})
    else:
        assert instance.change_symbols("DELETE", "binance", SYMBOL) == (200, {"removed": [SYMBOL]})
    return asked


def from_a_notebook(instance: Instance, what: Literal["add", "remove"]) -> float:
    instance.collected()  # attached by now
    asked = time.time()
    said = instance.inside(f"answer = feed.{what}_symbols('binance', '{SYMBOL}')")
    assert said == ({SYMBOL: ""} if what == "add" else [SYMBOL])
    return asked


def rows(instance: Instance, symbol: str = SYMBOL) -> int:
    """How many trades of a symbol are stored."""
    return len(instance.rows("binance", symbol, "TRADES", "id")["id"])


def last_traded(instance: Instance, symbol: str = SYMBOL) -> float:
    """In seconds since the epoch."""
    stored = instance.rows("binance", symbol, "TRADES", "time,nanos")
    return float(stored["time"][-1] + stored["nanos"][-1] / 1e9)


def others(instance: Instance, symbol: str = SYMBOL) -> dict[str, Any]:
    return {other: row for (_, other), row in instance.collected().items() if other != symbol}


def others_trade_on(instance: Instance, times: int = 1) -> None:
    """Wait until each of the other symbols has traded more than once that often."""
    for _ in range(times):
        before = {symbol: rows(instance, symbol) for symbol in others(instance)}
        wait_until(lambda before=before: all(rows(instance, symbol) > count + 1 for symbol, count in before.items()))


def all_synced(instance: Instance) -> bool:
    return {row["book"] for row in instance.collected().values()} == {"synced"}


@contextmanager
def others_undisturbed(instance: Instance, symbol: str = SYMBOL) -> Iterator[None]:
    """Their books are the same ones, without a hole, and no connection was made or lost."""
    wait_until(lambda: all_synced(instance))
    before, connected = others(instance, symbol), instance.collector("binance")
    assert {(row["state"], row["book"], row["gaps"]) for row in before.values()} == {("subscribed", "synced", 0)}
    yield
    assert others(instance, symbol) == before
    after = instance.collector("binance")
    for what in ("pid", "connects", "connections", "last_error"):
        assert after[what] == connected[what]


def test_the_books_of_the_default_source_are_synced_and_served(simulated: Instance) -> None:
    wait_until(lambda: all_synced(simulated))
    for (exchange, symbol), row in simulated.collected().items():
        assert (row["state"], row["gaps"]) == ("subscribed", 0)
        book = simulated.book(exchange, symbol)
        prices = [[level[0] for level in book[side]] for side in ("bids", "asks")]
        assert prices == [sorted(prices[0], reverse=True), sorted(prices[1])]
        assert prices[0][0] < prices[1][0], "not crossed"
        assert all(size > 0 for side in ("bids", "asks") for _, size in book[side])


@pytest.mark.parametrize("way", [by_command, over_http, from_a_notebook])
def test_a_symbol_goes_and_comes_back_within_seconds_and_without_a_reconnect(simulated: Instance, way: Change) -> None:
    with others_undisturbed(simulated):
        effective_by = way(simulated, "remove") + EFFECT_S
        try:
            assert ("binance", SYMBOL) not in simulated.collected()
            others_trade_on(simulated)  # what was on its way has arrived
            left = rows(simulated)
            assert last_traded(simulated) < effective_by
            others_trade_on(simulated, times=3)
            assert rows(simulated) == left, "nothing of it arrives any more"
        finally:
            effective_by = way(simulated, "add") + EFFECT_S
        wait_until(lambda: all_synced(simulated) and rows(simulated) > left)
        assert time.time() < effective_by
        assert simulated.collected()["binance", SYMBOL]["state"] == "subscribed"


def test_what_is_collected_already_may_be_added_and_what_is_not_cannot_be_removed(simulated: Instance) -> None:
    with others_undisturbed(simulated):
        assert over_http(simulated, "add")
        assert simulated.change_symbols("DELETE", "binance", "DOGEUSDT") == (200, {"removed": []})
        assert simulated.inside("answer = feed.remove_symbols('binance', 'DOGEUSDT')") == []
        said = command("symbols", "remove", "binance", "DOGEUSDT", "--data", str(simulated.data))
        assert (said.returncode, said.stdout, said.stderr) == (1, "binance DOGEUSDT: was not collected\n", "")


def test_a_symbol_the_exchange_begins_to_list_can_be_collected(simulated: Instance) -> None:
    said = command("sim", "list", "binance", NEW_SYMBOL, "--data", str(simulated.data))
    assert (said.returncode, said.stderr) == (0, "")
    with others_undisturbed(simulated, NEW_SYMBOL):
        added = {"added": [NEW_SYMBOL], "refused": {}}
        # A list that was read within the last second is not asked for again.
        wait_until(lambda: simulated.change_symbols("POST", "binance", NEW_SYMBOL)[1] == added)
        wait_until(lambda: all_synced(simulated) and rows(simulated, NEW_SYMBOL) > 0)
        assert simulated.change_symbols("DELETE", "binance", NEW_SYMBOL) == (200, {"removed": [NEW_SYMBOL]})


def test_an_unknown_symbol_is_refused_with_what_it_may_have_been_and_the_others_are_added(simulated: Instance) -> None:
    reason = "binance has no symbol XRPUSDX; did you mean XRPUSDT?"
    with others_undisturbed(simulated):
        said = command("symbols", "add", "binance", "XRPUSDX", SYMBOL, "--data", str(simulated.data))
        assert (said.returncode, said.stderr) == (1, "")
        assert said.stdout == f"binance XRPUSDX: {reason}\nbinance {SYMBOL}: added\n"
        said = command("symbols", "add", "binance", "XRPUSDX", "--json", "--data", str(simulated.data))
        assert (said.returncode, json.loads(said.stdout)) == (1, {"XRPUSDX": reason})
        expected = {"added": [SYMBOL], "refused": {"XRPUSDX": reason}}
        assert simulated.change_symbols("POST", "binance", "XRPUSDX", SYMBOL) == (422, expected)
        assert simulated.inside("answer = feed.add_symbols('binance', 'XRPUSDX')") == {"XRPUSDX": reason}
    assert ("binance", "XRPUSDX") not in simulated.collected(), "nor is it kept"
    assert "XRPUSDX" not in (simulated.data / "symbols.json").read_text()


@pytest.mark.parametrize(
    ("exchange", "wrong", "meant"),
    [
        ("binance", "NKNUSDX", "NKNUSDT"),
        ("bitfinex", "tBTCUSX", "tBTCUSD"),
        ("coinbase", "SKL-USX", "SKL-USD"),
        ("deribit", "BTC-PERPETUALX", "BTC-PERPETUAL"),
        ("kraken", "XBT/CHX", "XBT/CHF"),
        ("okx", "BTC-USDTX", "BTC-USDT"),
    ],
)
def test_every_exchange_says_which_symbols_are_near(replayed: Instance, exchange: str, wrong: str, meant: str) -> None:
    before = replayed.collected()
    status, said = replayed.change_symbols("POST", exchange, wrong)
    assert (status, said["added"], list(said["refused"])) == (422, [], [wrong])
    known, _, near = said["refused"][wrong].partition("; did you mean ")
    assert known == f"{exchange} has no symbol {wrong}"
    assert meant in near.removesuffix("?").split(" or ")
    assert replayed.collected() == before


def test_a_name_that_cannot_be_one_is_refused(replayed: Instance) -> None:
    status, said = replayed.change_symbols("POST", "kraken", "X" * 101)
    assert status == 400
    status, said = replayed.change_symbols("POST", "kraken", "../../etc/passwd", "XBT CHF")
    assert status == 422
    assert said == {
        "added": [],
        "refused": {
            name: f"'{name}' cannot be a symbol of kraken: expected a name like BTC/USD"
            for name in ("../../etc/passwd", "XBT CHF")
        },
    }


@pytest.mark.parametrize("what", ["add", "remove"])
def test_an_exchange_that_does_not_run_is_one_clear_line(simulated: Instance, what: Literal["add", "remove"]) -> None:
    said = command("symbols", what, "nasdaq", "AAPL", "--data", str(simulated.data))
    assert (said.returncode, said.stdout, said.stderr) == (1, "", f"rayfeed: {NO_NASDAQ}\n")
    status, problem = simulated.change_symbols("POST" if what == "add" else "DELETE", "nasdaq", "AAPL")
    assert (status, problem["detail"]) == (404, NO_NASDAQ)
    message = simulated.inside(
        f"try: answer = feed.{what}_symbols('nasdaq', 'AAPL')\nexcept ValueError as error: answer = str(error)\n"
    )
    assert message == NO_NASDAQ


def test_without_the_token_everybody_may_look_and_nobody_may_change(simulated: Instance) -> None:
    body = {"exchange": "binance", "symbols": [SYMBOL]}
    before = simulated.collected()
    for wrong in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x" * 5}, {"Authorization": "Basic eDp4"}):
        for method in ("POST", "DELETE"):
            status, problem = simulated.send(method, SUBSCRIPTIONS, body, **wrong)
            assert (status, problem["title"]) == (401, "Unauthorized")
            assert "secrets/api_token" in problem["detail"]
            assert str(simulated.data) not in problem["detail"]
    assert simulated.collected() == before
    assert {(row["exchange"], row["symbol"]) for row in simulated.json(SUBSCRIPTIONS)} == before.keys()
    right = {"Authorization": f"Bearer {(simulated.data / 'secrets' / 'api_token').read_text()}"}
    for broken in ([], {"exchange": "binance"}, {"exchange": "binance", "symbols": []}, {**body, "more": 1}):
        assert simulated.send("POST", SUBSCRIPTIONS, broken, **right)[0] == 400


def test_changes_survive_a_killed_collector_and_may_be_made_while_it_is_down(simulated: Instance) -> None:
    """A process of a collector that starts knows the symbols of its first start only."""

    def kill() -> Callable[[], bool]:
        before = simulated.collector("binance")["pid"]
        os.kill(before, signal.SIGKILL)
        return lambda: simulated.collector("binance")["pid"] != before and all_synced(simulated)

    wait_until(lambda: all_synced(simulated))
    symbols = set(simulated.collected())
    wait_until(kill())
    assert set(simulated.collected()) == symbols
    replaced = kill()
    over_http(simulated, "remove")
    wait_until(replaced)
    assert set(simulated.collected()) == symbols - {("binance", SYMBOL)}
    wait_until(kill())
    assert set(simulated.collected()) == symbols - {("binance", SYMBOL)}
    replaced = kill()
    over_http(simulated, "add")
    wait_until(replaced)
    assert set(simulated.collected()) == symbols
    left = rows(simulated)
    wait_until(lambda: rows(simulated) > left)


def test_a_process_attaches_to_one_instance_after_the_other(simulated: Instance, replayed: Instance) -> None:
    """And back: as in a notebook whose instance was started again."""
    script = (
        "import sys\n"
        "from cluster.attach import attach\n"
        "print(*[len(attach(data).collected()) for data in sys.argv[1:]])\n"
    )
    arguments = [sys.executable, "-c", script, simulated.data, replayed.data, simulated.data]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=PROJECT)
    assert done.stdout == "4 44 4\n", done.stderr


def test_the_notebook_reads_without_a_copy_draws_and_changes(
    simulated: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYFEED_DATA", str(simulated.data))
    notebook = nbformat.read(PROJECT / "notebooks" / "live_actors.ipynb", as_version=4)
    with others_undisturbed(simulated, "BTCUSDT"):
        symbols = set(simulated.collected())
        client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}})
        ran = client.execute()
        assert set(simulated.collected()) == symbols
    outputs = {cell.source: cell.outputs for cell in ran.cells if cell.cell_type == "code"}

    def texts(part: str) -> list[str]:
        return [outputs[source][0]["data"]["text/plain"] for source in outputs if part in source]

    assert texts("zero_copy") == ["True"]
    [collected] = texts("feed.collected()")
    assert collected.count("subscribed") == collected.count("synced") == len(symbols)
    pictures = [outputs[source][0]["data"] for source in outputs if "plt.show" in source]
    assert ["image/png" in picture for picture in pictures] == [True, True]
    assert texts("feed.remove_symbols") == ["['BTCUSDT']"]
    [added] = texts("feed.add_symbols")
    assert added == "{'BTCUSDT': ''}"
