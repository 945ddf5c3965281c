"""Instances shared by the tests that leave them as they were."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.running import Instance, rayfeed_up
from tests.polling import wait_until

_EITHER = frozenset(("replayed", "simulated"))
_SHARED = (frozenset(), frozenset(("replayed",)), _EITHER, frozenset(("simulated",)))

#: What runs over the recordings, if anything does.
_replayed = ExitStack()


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Shared instances run from their first test to the end and slow down what comes after: first the tests with
    instances of their own, then those over recordings, where nothing happens any more once they are played."""
    items.sort(key=lambda item: _SHARED.index(frozenset(_EITHER.intersection(item.fixturenames))))


@pytest.fixture(autouse=True)
def nothing_runs_that_nobody_needs(request: pytest.FixtureRequest) -> None:
    """Tests that need the simulated instance alone come last."""
    if "replayed" not in request.fixturenames:
        _replayed.close()


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> None:
    """Instances outlive a test and start processes during it; that none outlives its instance is checked when it
    is stopped."""


@pytest.fixture(scope="session")
def replayed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Over the real recordings of six exchanges."""
    data = tmp_path_factory.mktemp("replayed") / "data"
    with _replayed:
        yield _replayed.enter_context(rayfeed_up(data, "--source", f"replay:{recordings}"))


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """Four symbols of Binance, simulated; all have traded."""
    chosen = {
        "RAYFEED_EXCHANGES__BINANCE__SYMBOLS": '["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]',
        # So many that each symbol trades within a second, all but certainly; so few that they cost nothing.
        "RAYFEED_SIMULATOR__TRADES_PER_SECOND": "40",
        # A list of instruments that is older than this is read again for a symbol nobody knows.
        "RAYFEED_COLLECTOR__LIST_RETRY_S": "1",
        # Receivers of alerts are on this machine.
        "RAYFEED_ALERTS__ALLOW_PRIVATE_TARGETS": "true",
    }
    data = tmp_path_factory.mktemp("simulated") / "data"
    with rayfeed_up(data, environment=chosen) as instance:
        wait_until(lambda: len(instance.json("/api/symbols")["symbols"]) == 4)
        yield instance
