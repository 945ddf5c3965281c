"""The short campaign: every kind of fault at seven exchanges under load, kills among them, and nothing is lost.

`RAYFEED_CHAOS_SEED` runs the campaign of another seed.
"""

import os
from collections import Counter
from pathlib import Path

from tests.chaos.campaign import Campaign, report, run
from tests.chaos.exchanges import patient_exchanges

SEED = int(os.environ.get("RAYFEED_CHAOS_SEED", "1"))
#: More than all kinds there are, twice.
FAULTS = 55


async def test_every_trade_is_stored_once_whatever_goes_wrong(tmp_path: Path) -> None:
    campaign = Campaign(SEED, FAULTS, seconds=25.0, trades_per_second=100.0, outage_s=3.0)
    with patient_exchanges():
        result = await run(campaign, tmp_path)
    said = report(campaign, result)
    assert not result.wrong, said
    assert not result.recoveries.waiting, said
    kinds = Counter(one.kind for one in result.planned)
    assert min(kinds.values()) >= 2
    assert result.trades > 10_000 and result.gaps > 0, said
    # A fault that nobody noticed proves nothing. Of REST somebody has to ask meanwhile.
    idle = [kind for kind in kinds if not result.done[kind] and not kind.startswith("rest_")]
    assert not idle, said
