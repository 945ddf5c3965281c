"""The benchmark of the ledger stores the same trades with and without it."""

import numpy as np

from benchmarks.ledger import batch, measured


async def test_both_shards_take_every_batch_and_only_one_accounts_for_it() -> None:
    # What it measures it checks itself.
    pairs = await measured(symbols=3, each=2, rounds=4)
    assert len(pairs) == 4
    assert all(seconds > 0 for pair in pairs for seconds in pair)


def test_ids_of_a_symbol_count_up_by_one_from_batch_to_batch() -> None:
    rows = [row for number in range(3) for row in batch(2, 3, number).to_pylist()]
    for name in ("COIN0USDT", "COIN1USDT"):
        assert [row["trade_id"] for row in rows if row["symbol"] == name] == [*range(1, 10)]
    assert np.all(np.diff([row["ts_event"] for row in rows]) > 0)
