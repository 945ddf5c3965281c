"""Two notebooks on a running instance: one watches a symbol, one operates. Others are executed where what they show
is tested: test_symbols.py, test_integrity.py, test_research.py.
"""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cluster.running import Instance

PROJECT = Path(__file__).parents[2]


def executed(name: str, instance: Instance, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The outputs of each cell of code."""
    monkeypatch.setenv("RAYFEED_DATA", str(instance.data))
    notebook = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(PROJECT / "notebooks")}})
    return [cell.outputs for cell in client.execute().cells if cell.cell_type == "code"]


def text(outputs: Any) -> str:
    return str(outputs[-1]["data"]["text/plain"])


def test_a_symbol_is_watched_as_it_moves(simulated: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    _, chart, trades, late = executed("watch", simulated, monkeypatch)
    assert "image/png" in chart[0]["data"]
    assert int(text(chart)) >= 3, "drawn again and again"
    assert text(trades).split()[:5] == ["trade_id", "price", "size", "side", "late_ms"]
    assert "99%" in text(late)


def test_a_symbol_leaves_and_comes_back_and_the_doctor_is_asked(
    simulated: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, removed, added, job, states, wrong = executed("operate", simulated, monkeypatch)
    assert text(removed) == "(['XRPUSDT'], False)"
    assert text(added) == "({'XRPUSDT': ''}, 'synced')"
    assert text(job).split()[-1] == "done"
    assert "feeds" in text(states)
    assert "First, " in wrong[0]["text"] or "All is well." in wrong[0]["text"]
    assert simulated.collected()[("binance", "XRPUSDT")]["state"] == "subscribed"


@pytest.mark.parametrize("path", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
