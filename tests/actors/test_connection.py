"""The life of a connection, without any connection."""

import itertools

from actors.connection import LONGEST_WAIT_S, Connection


def test_waits_double_up_to_the_cap_and_are_spread_by_jitter() -> None:
    connection = Connection(silence_s=None)
    waits = [connection.lost("refused", random=0.999999) for _ in range(20)]
    assert all(later >= earlier for earlier, later in itertools.pairwise(waits))
    assert waits[0] <= 0.5
    assert LONGEST_WAIT_S * 0.99 < waits[-1] <= LONGEST_WAIT_S
    assert Connection(silence_s=None).lost("refused", random=0.0) == 0.25


def test_only_a_frame_forgets_earlier_failures() -> None:
    connection = Connection(silence_s=None)
    first = connection.lost("refused", random=0.5)
    connection.opened(now=1.0)
    assert connection.lost("closed at once", random=0.5) > first
    connection.opened(now=2.0)
    connection.heard(now=3.0)
    assert connection.lost("closed", random=0.5) == first


def test_silence_counts_from_the_last_frame_and_only_while_connected() -> None:
    connection = Connection(silence_s=60)
    assert not connection.is_silent(now=1000.0)
    connection.opened(now=1000.0)
    assert not connection.is_silent(now=1060.0)
    assert connection.is_silent(now=1060.1)
    connection.heard(now=1100.0)
    assert not connection.is_silent(now=1150.0)
    connection.lost("silent", random=0.0)
    assert not connection.is_silent(now=9999.0)


def test_a_replay_may_be_silent_for_ever() -> None:
    connection = Connection(silence_s=None)
    connection.opened(now=0.0)
    assert not connection.is_silent(now=1e9)
