import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster import symbols
from cluster.instance import Instance

COMMANDS = (["list"], ["add", "kraken", "BTC/USD"], ["remove", "kraken", "BTC/USD"])


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", "symbols", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_without_an_instance_it_says_how_to_start_one(tmp_path: Path, command: list[str], extra: list[str]) -> None:
    done = run(*command, "--data", tmp_path, *extra)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"rayfeed: nothing runs on {tmp_path}; start it with: rayfeed up --data {tmp_path}\n"


def test_without_an_instance_ray_is_not_even_imported(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from cluster.cli import app\n"
        "done = CliRunner().invoke(app, ['symbols', 'list', '--data', sys.argv[1]])\n"
        "print(type(done.exception).__name__, 'ray' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    assert done.stdout == "InstanceError False\n", done.stderr


def test_an_instance_that_still_starts_is_asked_again_later(tmp_path: Path) -> None:
    instance = Instance.claim(tmp_path)
    try:
        done = run("list", "--data", tmp_path)
    finally:
        instance.release()
    assert done.returncode == 1
    assert done.stderr == f"rayfeed: rayfeed pid {os.getpid()} (still starting); ask again in a moment\n"


@pytest.mark.parametrize("command", [["add"], ["add", "kraken"], ["remove", "kraken"], ["drop", "kraken", "BTC/USD"]])
def test_a_command_that_lacks_something_is_explained(command: Sequence[str]) -> None:
    done = run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_table_is_sorted_and_shows_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"exchange": "okx", "symbol": "UNI-USD-SWAP", "state": "waiting", "reason": "", "book": None, "gaps": None},
        {"exchange": "kraken", "symbol": "XBT/CHF", "state": "subscribed", "reason": "", "book": "gapped", "gaps": 2},
        {"exchange": "kraken", "symbol": "LUNA/USD", "state": "refused", "reason": "gone", "book": None, "gaps": None},
    ]
    asked: list[Any] = []

    def ask(method: str, *arguments: Any) -> Any:
        asked.append((method, *arguments))
        return rows

    monkeypatch.setattr(symbols, "supervisor", lambda _data: nullcontext(ask))
    done = CliRunner().invoke(symbols.app, ["list"])
    assert asked == [("symbols",)]
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["exchange", "symbol", "state", "book", "gaps", "remarks"],
        ["kraken", "LUNA/USD", "refused", "gone"],
        ["kraken", "XBT/CHF", "subscribed", "gapped", "2"],
        ["okx", "UNI-USD-SWAP", "waiting"],
    ]
