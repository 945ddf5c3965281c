"""The short campaign on three hosts: one is cut off, one is switched off and comes back, a shard is killed; nothing is
lost, and readers are answered all the time.

`make chaos` goes on for an hour, with every fault there is.
"""

from pathlib import Path

import pytest

from tests.hosts.faults import report, run
from tests.hosts.on_hosts import FAULTS

SHORT = ("shard killed", "worker cut off for 5 s", "worker without power")


@pytest.fixture(autouse=True)
def no_process_is_left_behind() -> None:
    """A host ends with all that runs on it: see the tests of machines."""


@pytest.mark.timeout(900)
async def test_nothing_is_lost_whatever_becomes_of_hosts(tmp_path: Path) -> None:
    assert set(SHORT) <= set(FAULTS)
    result = await run(SHORT, seconds=0.0, rate=40.0, seed=1, folder=tmp_path)
    said = report(result)
    print(said)
    assert not result.verdict.wrong, said
    assert [event.fault for event in result.events] == list(SHORT)
    assert result.verdict.trades > 500 and result.verdict.still_open == 0, said
    # Workers hold nothing that readers of the head need.
    cut, off = result.events[1:]
    assert cut.waits.reads > 100 and cut.waits.failed == 0, said
    assert off.waits.failed == 0, said
