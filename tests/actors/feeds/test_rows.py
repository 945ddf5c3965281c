import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.rows import MAKER, NO_TIME, Rows, iso_times, times

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)), min_size=1))
def test_iso_times_are_exact_to_the_microsecond(moments: list[datetime]) -> None:
    expected = [(moment - EPOCH) // timedelta(microseconds=1) * 1000 for moment in moments]
    for zone in ("Z", "+00:00"):
        texts = [moment.isoformat().replace("+00:00", zone) for moment in moments]
        assert iso_times(texts).tolist() == expected


def test_an_unreadable_time_costs_itself_only() -> None:
    good = "2021-04-17T16:43:37.089723Z"
    texts = [good, "yesterday", good, "", "0001-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "2021-04-17", good]
    assert (iso_times(texts) != NO_TIME).tolist() == [True, False, True, False, False, False, False, True]
    assert set(iso_times(texts).tolist()) == {1618677817089723000, NO_TIME}


def test_times_are_checked_before_they_can_overflow() -> None:
    values = np.array([946684800000, 946684799999, 7258118399999, 7258118400000, 2**63 - 1, -(2**63), 0])
    expected = [946684800000 * 10**6, 0, 7258118399999 * 10**6, 0, 0, 0, 0]
    assert times(values, 1000).tolist() == expected


uuids_or_not = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda value: str(value).upper()),
    st.text(max_size=40),
    st.text("0123456789abcdef- ", min_size=36, max_size=36),
)


def plain_uuid(text: str) -> bytes | None:
    groups = text.split("-")
    if [len(group) for group in groups] != [8, 4, 4, 4, 12] or not set(text) <= set("0123456789abcdefABCDEF-"):
        return None
    return uuid.UUID(text).bytes


@given(st.lists(uuids_or_not, min_size=1))
def test_order_ids_are_the_bytes_of_the_uuid_and_null_where_it_is_none(texts: list[str]) -> None:
    rows = Rows(len(texts))
    rows.add_order_ids(MAKER, np.arange(len(texts)), texts)
    read = [
        content.tobytes() if known else None
        for content, known in zip(rows.order_ids[MAKER], rows.order_ids_known[MAKER], strict=True)
    ]
    assert read == [plain_uuid(text) for text in texts]
