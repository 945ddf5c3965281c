"""A symbol that is let go of leaves no bar behind, and may come again; the others do not notice."""

import pyarrow as pa
import pytest

from actors.aggregation.bars import Bars
from tests.actors.batches import NOON, trades

NAMES = [f"S{number}" for number in range(20)]


def some(*names: str, first: int = 0) -> pa.RecordBatch:
    return trades([(name, NOON + n * 10**9, n, 1.0 + n, 1.0, 0) for n in range(first, first + 90) for name in names])


@pytest.mark.parametrize("keep", [40, 300])
def test_who_is_forgotten_is_as_if_it_had_never_been_there(keep: int) -> None:
    bars, others = Bars(keep, 0), Bars(keep, 0)
    bars.update(some(*NAMES))
    others.update(some(*NAMES[1:]))
    bars.forget("S0")
    bars.forget("S0")
    assert sorted(bars.symbols) == sorted(others.symbols) == sorted(NAMES[1:])
    for made in (bars, others):
        made.close(NOON + 3600 * 10**9)

    def told(made: Bars) -> list[dict[str, object]]:
        rows = [*made.changed(True).to_pylist(), *made.indicators().to_pylist()]
        return sorted(rows, key=lambda row: (row["symbol"], row["timeframe"], row["time"], len(row)))

    assert told(bars) == told(others)
    assert bars.newest("S0", "1s", 100).num_rows == 0
    for made in (bars, others):
        made.update(some("S0", "S3", first=90))
        made.update(some("NEW", first=90))
    assert sorted(bars.symbols) == sorted(others.symbols)
    assert told(bars) == told(others)
    for name in (*NAMES, "NEW"):
        assert bars.newest(name, "1m", 100).to_pylist() == others.newest(name, "1m", 100).to_pylist()
