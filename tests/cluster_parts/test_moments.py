import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.moments import moment, text_of

SECOND = 1_000_000_000
NOW = 1_769_860_800 * SECOND + 123  # 2026-01-31 12:00


@pytest.mark.parametrize(
    ("text", "end", "ns"),
    [
        ("now", False, NOW),
        ("2h ago", False, NOW - 7200 * SECOND),
        ("90s", True, NOW - 90 * SECOND),
        ("1 d ago", False, NOW - 86_400 * SECOND),
        ("2026-01-31", False, NOW - 43_200 * SECOND - 123),
        ("2026-01-31", True, NOW + 43_200 * SECOND - 124),
        (" 2026-01-31T12:00 ", True, NOW - 123),
        ("2026-01-31 14:00:00.5+02:00", False, NOW - 123 + SECOND // 2),
        ("2026-01-31T12:00:00Z", False, NOW - 123),
        ("9999-12-31", True, 253_402_300_800 * SECOND - 1),
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, end: bool, ns: int) -> None:
    assert moment(text, NOW, end) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "-2h", "h ago", "12:00", "1e3"])
def test_what_is_no_moment_is_one_line_that_says_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: expected one like 2026-01-31"):
        moment(text, NOW)


@given(st.integers(0, 4_102_444_799))
def test_what_is_written_is_read_again(seconds: int) -> None:
    assert moment(text_of(seconds * SECOND), NOW) == seconds * SECOND
