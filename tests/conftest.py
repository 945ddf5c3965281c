"""What all tests share: the recordings, and the promise that no test leaves a process behind."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# How long an example takes says more about the machine (a first compilation, a busy core) than about the code. What the
# tests say of a commit is the same each time; `make explore` draws examples that nobody has seen.
hypothesis.settings.register_profile(
    "rayfeed", deadline=None, print_blob=True, derandomize="HYPOTHESIS_EXPLORE" not in os.environ
)
hypothesis.settings.load_profile("rayfeed")

LEAK_PATIENCE_S = 5.0


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings (`RAYFEED_RECORDINGS`, default `../shared/recordings`)."""
    default = Path(__file__).parents[2] / "shared" / "recordings"
    folder = Path(os.environ.get("RAYFEED_RECORDINGS", default))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set RAYFEED_RECORDINGS to the folder that holds them")
    return folder


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    before = {child.pid for child in _living_children()}
    yield
    deadline = time.monotonic() + LEAK_PATIENCE_S
    while left := [child for child in _living_children() if child.pid not in before]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)


def _living_children() -> list[psutil.Process]:
    living = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                living.append(child)
    return living
