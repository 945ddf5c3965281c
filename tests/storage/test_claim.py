"""Two processes never write to the same files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.claim import Claim, FolderInUse

HOLD = """
import sys, time
from pathlib import Path
from storage.claim import Claim
claim = Claim(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
print("has it", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the first of two parts."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "claims"), "0", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


@pytest.mark.parametrize(("index", "parts"), [(0, 2), (0, 1), (2, 3)])
def test_what_another_process_has_is_refused_and_says_who(
    tmp_path: Path, other: subprocess.Popen[str], index: int, parts: int
) -> None:
    with pytest.raises(FolderInUse, match=f"written to by another process .pid {other.pid}.; end that one first"):
        Claim(tmp_path / "claims", index, parts, patience_s=0.1)


def test_other_parts_are_free_and_so_is_what_a_killed_process_had(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    Claim(tmp_path / "claims", 1, 2, patience_s=0).release()
    os.kill(other.pid, signal.SIGSTOP)
    with pytest.raises(FolderInUse):
        Claim(tmp_path / "claims", 0, 2, patience_s=0)
    os.kill(other.pid, signal.SIGKILL)
    began = time.monotonic()
    Claim(tmp_path / "claims", 0, 2).release()
    assert time.monotonic() - began < 5


def test_the_same_process_goes_on_with_what_it_had(tmp_path: Path) -> None:
    first = Claim(tmp_path / "claims", 0, 2)
    second = Claim(tmp_path / "claims", 0, 2, patience_s=0)
    second.release()
    first.release()
