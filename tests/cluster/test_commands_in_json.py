"""What commands that need a running instance print with --json, and nothing besides."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.running import Instance
from tests.cluster_parts.test_commands import WITH_AN_INSTANCE

PROJECT = Path(__file__).parents[2]
#: Tried elsewhere: `restore` needs a folder of its own (test_backup.py), `replay` plays until nobody listens, `upgrade`
#: gives every actor another process (test_front_door.py).
ELSEWHERE = {"up", "restore", "replay", "upgrade"}
#: Runs each list of words of a JSON file, in one process; Ray is imported once.
_RUN = """
import json, sys
from typer.testing import CliRunner
from cluster.cli import app
for words in json.load(open(sys.argv[1])):
    done = CliRunner().invoke(app, [*words, "--data", sys.argv[2], "--json"])
    print(json.dumps([" ".join(words), done.exit_code, done.stdout, done.stderr or repr(done.exception)]), flush=True)
"""


def test_each_prints_json_and_nothing_else(simulated: Instance, tmp_path: Path) -> None:
    report = {f"{what}_{language}": f"<p>{what}</p>" for what in ("title", "html") for language in ("en", "vi")}
    (tmp_path / "report.json").write_text(json.dumps(report | {"key": "one"}))
    words = [
        ["symbols", "list"],
        ["symbols", "remove", "binance", "XRPUSDT"],
        ["symbols", "add", "binance", "XRPUSDT"],
        ["alerts", "add", "binance", "BTCUSDT", "price_above", "1e9"],
        ["alerts", "list"],
        ["alerts", "log"],
        ["sim", "list", "binance", "DOGEUSDT"],
        ["sim", "fault", "binance", "skew", "--for", "1"],
        ["sim", "faults"],
        ["sim", "halt", "binance"],
        ["sim", "go", "binance"],
        ["report", "generate"],
        ["report", "publish", str(tmp_path / "report.json")],
        ["backfill"],
        ["record", "--seconds", "0.1"],
        ["edge", "reload"],
        ["scale", "--shards", "2"],
    ]
    said = run(words, simulated.data, tmp_path)
    alert = said["alerts add binance BTCUSDT price_above 1e9"]["alert_id"]
    written = said["report generate"]["id"]
    more = run([["alerts", "remove", alert], ["report", "remove", str(written)]], simulated.data, tmp_path)
    assert more[f"alerts remove {alert}"] == {"removed": [alert]}
    assert said["sim halt binance"] == {"exchange": "binance", "halted": True}
    assert said["sim list binance DOGEUSDT"]["listed"] is True
    tried = {name for name in WITH_AN_INSTANCE if any(one.startswith(name) for one in (*said, *more))}
    assert tried == WITH_AN_INSTANCE - ELSEWHERE - {"key remove"}


def run(words: list[list[str]], data: Path, folder: Path) -> dict[str, Any]:
    """What each printed, by its words; exit status 0 of all."""
    (folder / "words.json").write_text(json.dumps(words))
    command = [sys.executable, "-c", _RUN, str(folder / "words.json"), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for _, code, _, _ in lines] == [0] * len(words), lines
    return {name: json.loads(printed) for name, _, printed, _ in lines}
