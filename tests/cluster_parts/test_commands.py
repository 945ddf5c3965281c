"""Every command of `rayfeed`: takes --json and prints nothing else then; the Tab key knows its words."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cluster import cli
from cluster.cli import app
from cluster.instance import Instance, InstanceError

PROJECT = Path(__file__).parents[2]
#: Commands that say something without an instance: arguments, and exit status.
ALONE = {
    "status": ([], 1),
    "down": ([], 0),
    "doctor": (["--port", "1", "--tls-port", "2"], None),
    "audit": ([], 0),
    "verify": ([], 0),
    "sim kinds": ([], 0),
    "backup": ([], 0),
    "backup list": ([], 0),
    "user add": (["somebody"], 0),
    "user list": ([], 0),
    "user role": (["somebody", "admin"], 0),
    "key add": (["somebody"], 0),
    "key list": ([], 0),
    "key rotate": ([], 0),
    "user passwd": (["somebody"], 0),
    "user remove": (["somebody"], 0),
    "report list": ([], 0),
}
#: Those that ask a running instance (tests/cluster/test_commands_in_json.py) or play for as long as somebody listens
#: (test_replaying.py); what they print without one is a line on stderr.
WITH_AN_INSTANCE = {
    *("up", "record", "backfill", "restore", "replay", "edge reload", "key remove", "scale", "upgrade"),
    *("symbols list", "symbols add", "symbols remove", "alerts list", "alerts add", "alerts remove", "alerts log"),
    *("sim fault", "sim faults", "sim halt", "sim go", "sim list"),
    *("report publish", "report remove", "report generate"),
}

#: Runs lists of words, in one process.
_RUN = """
import json, sys
from typer.testing import CliRunner
from cluster.cli import app
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words, input="A-long-Password-1\\n")
    print(json.dumps([done.exit_code, done.stdout, done.stderr or repr(done.exception)]), flush=True)
"""


def commands(command: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command, by its words."""
    command = typer.main.get_command(app) if command is None else command
    children = getattr(command, "commands", {})
    if not children or command.invoke_without_command:
        yield path, command
    for name, child in children.items():
        yield from commands(child, f"{path} {name}".strip())


def test_every_command_takes_json() -> None:
    without = [name for name, one in commands() if not any("--json" in parameter.opts for parameter in one.params)]
    assert without == []


def test_every_command_says_which_instance_it_speaks_to_unless_it_speaks_to_none() -> None:
    without = {name for name, one in commands() if not any("--data" in parameter.opts for parameter in one.params)}
    assert without == {"replay", "sim kinds"}


def test_every_command_is_tried_here_or_on_an_instance() -> None:
    """A new command goes to one of the two, with what it needs."""
    assert {name for name, _ in commands()} == ALONE.keys() | WITH_AN_INSTANCE


def test_what_commands_print_as_json_is_json_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "settings.yaml").write_text("exchanges: {binance: {symbols: [BTCUSDT]}}\n")
    words = [
        [*name.split(), *arguments, *([] if name == "sim kinds" else ["--data", str(data)]), "--json"]
        for name, (arguments, _) in ALONE.items()
    ]
    command = [sys.executable, "-c", _RUN, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=120)
    assert done.returncode == 0, done.stderr
    for line, (name, (_, expected)) in zip(done.stdout.splitlines(), ALONE.items(), strict=True):
        code, printed, errors = json.loads(line)
        assert expected is None or code == expected, (name, errors)
        assert json.loads(printed) is not None, name


@pytest.mark.parametrize(("as_json", "line"), [(True, '{"ready": "http://x"}'), (False, "ready http://x")])
def test_who_starts_it_is_told_its_address(as_json: bool, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli._ready("http://x", as_json)
    assert capsys.readouterr().out == f"{line}\n"


# ---- the Tab key


def completed(shell: str, line: str, data: Path) -> list[str]:
    """What is offered for the last word of a line."""
    words = line.split(" ")
    instruction = {
        "_TYPER_COMPLETE_ARGS": line,
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_RAYFEED_COMPLETE": f"complete_{shell}",
        "RAYFEED_DATA": str(data),
    }
    script = "import sys; sys.argv = ['rayfeed']; from cluster.cli import app; app(prog_name='rayfeed')"
    environment = {**os.environ, **instruction}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=PROJECT)
    assert done.stderr == ""
    return [word for word in done.stdout.splitlines() if word]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "settings.yaml").write_text("exchanges: {kraken: {symbols: [BTC/USD, ETH/USD]}}\n")
    (tmp_path / "symbols.json").write_text('{"kraken": {"added": ["SOL/USD"], "removed": ["ETH/USD"]}}')
    return tmp_path


def test_commands_exchanges_symbols_and_faults_are_offered(data: Path) -> None:
    assert {"status", "symbols", "doctor"} <= set(completed("bash", "rayfeed ", data))
    assert completed("bash", "rayfeed symbols remove kr", data) == ["kraken"]
    assert completed("bash", "rayfeed symbols remove kraken ", data) == ["BTC/USD", "SOL/USD"]
    assert completed("bash", "rayfeed symbols remove kraken BTC/USD ", data) == ["SOL/USD"]
    assert completed("bash", "rayfeed audit --exchange bit", data) == ["bitfinex"]
    assert completed("bash", "rayfeed up --exchanges kraken,co", data) == ["kraken,coinbase"]
    assert completed("bash", "rayfeed sim fault kraken rest_s", data) == ["rest_slow"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_the_same_with_what_it_means(data: Path, shell: str) -> None:
    [line] = completed(shell, "rayfeed sim fault kraken rest_s", data)
    assert "rest_slow" in line
    assert "lets REST requests wait" in line


def test_settings_that_are_wrong_offer_nothing_and_say_nothing(data: Path) -> None:
    (data / "symbols.json").write_text("{")
    assert completed("bash", "rayfeed symbols remove kraken ", data) == []
    (data / "settings.yaml").write_text("shardz: 1\n")
    assert completed("bash", "rayfeed symbols remove kr", data) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_it_can_read(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "_RAYFEED_COMPLETE": f"source_{shell}"}
    script = "import sys; sys.argv = ['rayfeed']; from cluster.cli import app; app(prog_name='rayfeed')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=PROJECT)
    assert "_RAYFEED_COMPLETE" in done.stdout
    if (found := shutil.which(shell)) is not None:
        (tmp_path / "script").write_text(done.stdout)
        checked = subprocess.run([found, "-n", tmp_path / "script"], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_starting_again_in_the_background_leaves_the_lines_of_who_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["rayfeed", "up", "--detach", "--data", str(tmp_path)])
    log = tmp_path / "rayfeed.log"
    log.write_text("ready http://127.0.0.1:8080\n")
    running = Instance.claim(tmp_path)
    with pytest.raises(InstanceError, match="already in use"):
        cli._detach(tmp_path)
    assert log.read_text() == "ready http://127.0.0.1:8080\n"
    running.release()
    with pytest.raises(InstanceError, match="is a file"):
        cli._detach(log)
