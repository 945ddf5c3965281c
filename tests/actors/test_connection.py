"""The life of a connection, without any connection."""

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.connection import (
    ATTEMPTS,
    DATA_SILENCE_S,
    LONGEST_WAIT_S,
    Connection,
    Disconnect,
    Effect,
    Ping,
    Send,
    Subscribe,
    Succeed,
)
from actors.feeds.feed import Limits

LIMITS = Limits(
    symbols_per_connection=100,
    symbols_per_message=10,
    messages_per_second=5,
    connects_per_minute=60,
    rest_weight_per_minute=1200,
    silence_s=30,
    answer_s=10,
    ping_s=20,
    lifetime_s=86_400,
)


def connected(now: float = 0.0, **limits: Any) -> Connection:
    connection = Connection(replace(LIMITS, **limits))
    connection.opened(now, random=0.5)
    return connection


def run(connection: Connection, start: float, end: float, step: float = 0.5) -> list[tuple[float, Effect]]:
    """Every effect with its time."""
    times = itertools.takewhile(lambda now: now <= end, itertools.count(start, step))
    return [(now, effect) for now in times for effect in connection.tick(now)]


def of(kind: type, effects: list[tuple[float, Effect]]) -> list[tuple[float, Any]]:
    return [(now, effect) for now, effect in effects if isinstance(effect, kind)]


def test_waits_double_up_to_the_cap_and_are_spread_by_jitter() -> None:
    connection = Connection(LIMITS)
    waits = [connection.lost("refused", random=0.999999) for _ in range(20)]
    assert all(later >= earlier for earlier, later in itertools.pairwise(waits))
    assert waits[0] <= 0.5
    assert LONGEST_WAIT_S * 0.99 < waits[-1] <= LONGEST_WAIT_S
    assert Connection(LIMITS).lost("refused", random=0.0) == 0.25


def test_an_exchange_that_asks_for_rest_gets_it() -> None:
    assert Connection(LIMITS).lost("429", random=0.0, retry_after=17.0) == 17.0


def test_only_data_forgets_earlier_failures() -> None:
    connection = Connection(LIMITS)
    first = connection.lost("refused", random=0.5)
    connection.opened(now=1.0, random=0.5)
    assert connection.lost("closed at once", random=0.5) > first
    connection.opened(now=2.0, random=0.5)
    connection.heard(now=3.0, data=False)
    assert connection.lost("closed after its greeting", random=0.5) > 2 * first
    connection.opened(now=4.0, random=0.5)
    connection.heard(now=5.0, data=True)
    assert connection.lost("closed", random=0.5) == first


def test_silence_ends_a_connection_and_heartbeats_keep_it() -> None:
    connection = connected(now=1000.0, ping_s=None)
    assert not of(Disconnect, run(connection, 1000.0, 1030.0))
    assert of(Disconnect, run(connection, 1030.5, 1031.0))
    connection.heard(now=1100.0, data=False)
    assert not of(Disconnect, run(connection, 1100.0, 1130.0))


def test_a_replay_may_be_silent_for_ever() -> None:
    connection = Connection(replace(LIMITS, lifetime_s=None), watch_silence=False)
    connection.opened(now=0.0, random=0.5)
    assert not of(Disconnect, run(connection, 0.0, 1e6, step=1000.0))


def test_heartbeats_without_data_are_doubted_and_another_connection_takes_over() -> None:
    connection = connected(ping_s=None)
    effects: list[tuple[float, Effect]] = []
    for now in range(0, 400, 5):
        connection.heard(now, data=False)
        effects += [(now, effect) for effect in connection.tick(now)]
    assert not of(Disconnect, effects)
    ((when, _),) = of(Succeed, effects)
    assert DATA_SILENCE_S < when <= DATA_SILENCE_S + 5


def test_messages_keep_to_the_rate_the_exchange_allows() -> None:
    connection = connected(ping_s=None, silence_s=1e9)
    connection.queue(b"%d" % number for number in range(200))
    sent = of(Send, run(connection, 0.0, 120.0, step=0.01))
    assert [effect.message for _, effect in sent] == [b"%d" % number for number in range(200)], "in order, none lost"
    for begin, _ in sent:
        assert sum(begin <= when < begin + 60 for when, _ in sent) <= 60 * LIMITS.messages_per_second + 1


def test_an_unanswered_subscription_is_repeated_then_reported() -> None:
    connection = connected(ping_s=None, silence_s=1e9, lifetime_s=None)
    connection.watch_silence = False
    connection.ask(["BTC", "ETH", "SOL"], [b"subscribe"], now=0.0)
    connection.answered(["ETH"])
    asked: list[tuple[str, ...]] = []
    for now in range(200):
        for effect in connection.tick(now):
            if isinstance(effect, Subscribe):
                asked.append(effect.symbols)
                connection.ask(effect.symbols, [b"again"], now)
    assert asked == [("BTC", "SOL")] * (ATTEMPTS - 1)
    assert connection.unanswered == {"BTC", "SOL"}
    connection.answered(["SOL"])
    assert connection.unanswered == {"BTC"}, "a late answer counts"


def test_the_exchange_is_left_before_it_ends_the_connection_and_only_once() -> None:
    connection = connected(ping_s=None, silence_s=1e9)
    connection.watch_silence = False
    ends = [when for when, _ in of(Succeed, run(connection, 0.0, 86_400.0, step=10.0))]
    assert len(ends) == 1
    assert 0.8 * 86_400 < ends[0] < 0.96 * 86_400


def test_connections_opened_together_do_not_end_together() -> None:
    ends = []
    for random in (0.0, 0.5, 0.99):
        connection = Connection(replace(LIMITS, ping_s=None), watch_silence=False)
        connection.opened(0.0, random)
        ends.append(of(Succeed, run(connection, 0.0, 86_400.0, step=60.0))[0][0])
    assert ends[1] - ends[0] > 3600
    assert ends[2] - ends[1] > 3600


def test_pings_are_sent_on_time() -> None:
    connection = connected(silence_s=1e9)
    assert [when for when, _ in of(Ping, run(connection, 0.0, 100.0))] == [20, 40, 60, 80, 100]


def test_maintenance_is_no_silence_and_its_end_makes_a_new_connection() -> None:
    connection = connected(ping_s=None)
    assert connection.noticed("maintenance") == []
    assert run(connection, 0.0, 3600.0) == []
    connection.heard(3600.0, data=False)
    assert connection.state == "maintenance"
    assert [type(effect) for effect in connection.noticed("resumed")] == [Disconnect]
    assert connected().noticed("resumed") == [], "where nothing was announced, nothing was lost"


def test_an_exchange_that_asks_to_reconnect_is_answered_with_a_successor() -> None:
    connection = connected()
    assert [type(effect) for effect in connection.noticed("reconnect")] == [Succeed]
    assert connection.noticed("reconnect") == [], "one is enough"


@given(st.lists(st.tuples(st.sampled_from(["tick", "heard", "lost", "opened", "ask"]), st.floats(0, 50)), max_size=60))
def test_nothing_is_sent_on_a_connection_that_is_not_there(story: list[tuple[str, float]]) -> None:
    connection, now, alive = Connection(LIMITS), 0.0, False
    for what, seconds in story:
        now += seconds
        match what:
            case "tick":
                assert alive or not connection.tick(now)
            case "heard" if alive:
                connection.heard(now, data=True)
            case "lost" if alive:
                connection.lost("cut", 0.5)
                alive = False
            case "opened" if not alive:
                connection.opened(now, 0.5)
                alive = True
            case "ask" if alive:
                connection.ask(["BTC"], [b"subscribe"], now)
        if not alive:
            assert connection.tick(now) == []
