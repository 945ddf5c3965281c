"""The research kit on the bars of a running instance."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cluster.running import Instance
from tests.polling import wait_until

PROJECT = Path(__file__).parents[2]
#: Enough for MACD to cross its signal, and for three parts.
BARS = 60


def test_the_notebook_backtests_two_symbols_and_makes_labels_and_parts(
    simulated: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bars(symbol: str) -> int:
        return len(simulated.json(f"/api/v1/charts/{symbol}?exchange=binance&timeframe=1s&limit=1000")["bars"])

    wait_until(lambda: min(bars("BTCUSDT"), bars("ETHUSDT")) >= BARS, 150)
    monkeypatch.setenv("RAYFEED_DATA", str(simulated.data))
    notebook = nbformat.read(PROJECT / "notebooks" / "research.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}})
    ran = client.execute()
    found = [output["data"] for cell in ran.cells for output in cell.get("outputs", []) if "data" in output]
    _, counts, metrics, _, trades, labels, parts, drift = (data["text/plain"] for data in found)
    assert "'BTCUSDT'" in counts
    assert "'ETHUSDT'" in counts
    assert metrics.splitlines()[0].split() == ["rsi", "macd_cross"]
    assert "image/png" in found[3]
    assert "exit_price" in trades
    assert "<NA>" in labels
    assert [line.split()[0] for line in parts.splitlines()[1:]] == ["BTCUSDT", "ETHUSDT"]
    assert drift.split()[:2] == ["verdict", "psi"]
