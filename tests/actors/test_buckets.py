"""Token buckets against one that is filled drop by drop."""

from hypothesis import given
from hypothesis import strategies as st

from actors.buckets import Buckets


class Dripping:
    """The plainest reading: so many tokens, and a part of one more for each moment."""

    def __init__(self, size: int, per_s: int) -> None:
        self.size, self.per_s = size, per_s
        #: In parts of a token, per_s of which are one.
        self.parts, self.at = size * per_s, 0

    def take(self, now: int) -> bool:
        self.parts = min(self.size * self.per_s, self.parts + (now - self.at) * self.size)
        self.at = now
        if self.parts < self.per_s:
            return False
        self.parts -= self.per_s
        return True


@given(st.integers(1, 20), st.integers(1, 100), st.lists(st.integers(0, 30), max_size=60))
def test_a_bucket_gives_as_much_as_one_that_drips(size: int, per_s: int, waits: list[int]) -> None:
    buckets, plain, now = Buckets(size, float(per_s)), Dripping(size, per_s), 0
    for wait in waits:
        now += wait
        taken = buckets.take("one", float(now))
        assert taken.allowed == plain.take(now)
        assert taken.left == plain.parts // plain.per_s
        if not taken.allowed:
            assert abs(taken.retry_in_s - (plain.per_s - plain.parts) / size) < 1e-6
        assert abs(taken.full_in_s - (size * per_s - plain.parts) / size) < 1e-6


def test_each_has_a_bucket_of_its_own_and_only_so_many_are_remembered() -> None:
    buckets = Buckets(1, 60.0, most=3)
    assert [buckets.take(name, 0.0).allowed for name in "aabbcc"] == [True, False] * 3
    assert buckets.take("d", 0.0).allowed
    assert len(buckets) == 3
    assert not buckets.take("d", 59.0).allowed
    assert buckets.take("d", 60.0).allowed


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = Buckets(2, 60.0)
    for _ in range(10):
        assert buckets.take("a", 0.0).allowed
        buckets.give_back("a")
    assert [buckets.take("a", 0.0).allowed for _ in range(3)] == [True, True, False]
