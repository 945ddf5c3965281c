"""One instance over the real recordings, shared by the tests that only read from it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.running import Instance, rayfeed_up


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> None:
    """Instances outlive a test and start processes during it; that none outlives its instance is checked when it
    is stopped."""


@pytest.fixture(scope="session")
def replayed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    data = tmp_path_factory.mktemp("replayed") / "data"
    with rayfeed_up(data, "--source", f"replay:{recordings}") as instance:
        yield instance
