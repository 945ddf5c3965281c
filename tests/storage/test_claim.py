"""Two processes never write to the same files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.claim import Claim, FolderInUse, Outdated, SymbolClaims

HOLD = """
import sys, time
from pathlib import Path
from storage.claim import Claim, SymbolClaims
folder = Path(sys.argv[1])
claim, symbols = Claim(folder, "0"), SymbolClaims(folder)
for symbol in ("BTCUSDT", "BTC/USD"):
    symbols.take("binance", symbol, 1)
print("has it", flush=True)
sys.stdin.readline()
symbols.leave("binance", "BTCUSDT")
print("has left one", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the name 0 and two symbols, one of which it leaves when it is told a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "claims")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=Path(__file__).parents[2]) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


def test_what_another_process_has_is_refused_and_says_who(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    who = f"written to by another process .pid {other.pid}.; end that one first"
    with pytest.raises(FolderInUse, match=who):
        Claim(tmp_path / "claims", "0", patience_s=0.1)
    symbols = SymbolClaims(tmp_path / "claims")
    for symbol in ("BTCUSDT", "BTC/USD", "BTC_USD"):
        with pytest.raises(FolderInUse, match=who):
            symbols.take("binance", symbol, 1, patience_s=0.1)
    symbols.close()


def test_other_names_are_free_and_so_is_what_a_killed_process_had(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    Claim(tmp_path / "claims", "1", patience_s=0).release()
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(FolderInUse):
        Claim(tmp_path / "claims", "0", patience_s=0)
    os.kill(other.pid, signal.SIGKILL)
    began = time.monotonic()
    Claim(tmp_path / "claims", "0").release()
    symbols = SymbolClaims(tmp_path / "claims")
    symbols.take("binance", "BTCUSDT", 1)
    symbols.close()
    assert time.monotonic() - began < 5


def test_symbols_are_claimed_and_left_one_by_one(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    symbols = SymbolClaims(tmp_path / "claims")
    for free in (("binance", "ETHUSDT"), ("kraken", "BTCUSDT")):
        symbols.take(*free, 1, patience_s=0)
    assert other.stdin is not None and other.stdout is not None
    other.stdin.write("\n")
    other.stdin.flush()
    assert other.stdout.readline() == "has left one\n"
    symbols.take("binance", "BTCUSDT", 1, patience_s=0)
    with pytest.raises(FolderInUse):
        symbols.take("binance", "BTC/USD", 1, patience_s=0)
    symbols.close()


def test_who_comes_back_with_an_older_placement_gets_nothing_that_was_handed_over(tmp_path: Path) -> None:
    symbols = SymbolClaims(tmp_path / "claims")
    symbols.take("kraken", "BTC/USD", 3)
    symbols.hand_over("kraken", "BTC/USD", 4)
    symbols.leave("kraken", "BTC/USD")
    with pytest.raises(Outdated, match="kraken BTC/USD was handed over by placement 4; this is 3"):
        symbols.take("kraken", "BTC/USD", 3)
    for version in (4, 5):
        symbols.take("kraken", "BTC/USD", version)
    symbols.take("kraken", "ETH/USD", 1)
    assert (symbols.handed_over("kraken", "BTC/USD"), symbols.handed_over("kraken", "ETH/USD")) == (4, 0)
    symbols.close()


def test_the_same_process_goes_on_with_what_it_had(tmp_path: Path) -> None:
    first = Claim(tmp_path / "claims", "0")
    second = Claim(tmp_path / "claims", "0", patience_s=0)
    second.release()
    first.release()
