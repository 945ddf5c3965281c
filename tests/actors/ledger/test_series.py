"""Which parts of a batch count up by one, against a plain reading of each."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger.series import runs

#: Ids of one symbol: a run, or anything.
PARTS = st.lists(
    st.one_of(
        st.builds(lambda first, rows: list(range(first, first + rows)), st.integers(-5, 5), st.integers(1, 5)),
        st.lists(st.integers(-5, 5), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=8,
)


@given(PARTS)
def test_a_run_is_what_counts_up_by_one(parts: list[list[int]]) -> None:
    ids = np.array([one for part in parts for one in part], np.int64)
    times = np.arange(len(ids), dtype=np.int64) + 1000
    ends = np.cumsum([len(part) for part in parts]).tolist()
    plain = [
        (part[0], part[-1], 1000 + end - 1) if part == list(range(part[0], part[0] + len(part))) else None
        for part, end in zip(parts, ends, strict=True)
    ]
    assert runs(ids, times, ends) == plain
