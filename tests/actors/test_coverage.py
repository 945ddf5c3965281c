"""Which symbols are received, over connections that come and go."""

from hypothesis import given
from hypothesis import strategies as st

from actors.coverage import Break, Coverage, breaks_batch
from storage.schema import BREAKS


def test_a_symbol_that_is_received_for_the_first_time_has_no_break() -> None:
    account = Coverage()
    assert account.granted("a", ["BTC"], 5) == []
    assert account.received == {"BTC": 5}


def test_what_is_lost_and_comes_back_has_a_break_from_what_was_heard_last() -> None:
    account = Coverage()
    account.granted("a", ["BTC", "ETH"], 5)
    assert account.ended("a", 10, "cut") == []
    assert account.lost("BTC") == (10, "cut")
    assert account.granted("a", ["BTC"], 20) == [Break("BTC", 10, 20, "cut")]
    assert account.granted("a", ["BTC"], 21) == []
    assert account.received == {"BTC": 20}


def test_a_second_loss_before_it_is_back_changes_nothing() -> None:
    account = Coverage()
    account.granted("a", ["BTC"], 5)
    account.ended("a", 10, "cut")
    account.ended("a", 15, "cut again")
    assert account.granted("b", ["BTC"], 20) == [Break("BTC", 10, 20, "cut")]


def test_one_that_takes_over_in_time_leaves_no_break_and_one_that_is_late_does() -> None:
    account = Coverage()
    account.granted("a", ["BTC", "ETH"], 5)
    account.granted("b", ["BTC"], 8)
    account.granted("b", ["ETH"], 12)
    assert account.ended("a", 10, "silent") == [Break("ETH", 10, 12, "silent")]
    assert account.received == {"BTC": 5, "ETH": 12}


def test_a_new_process_knows_nothing_of_what_it_is_to_receive() -> None:
    account = Coverage()
    account.granted("a", ["ETH"], 5)
    account.unknown(["BTC", "ETH"], "started")
    assert account.granted("a", ["BTC", "ETH"], 7) == [Break("BTC", 0, 7, "started")]


def test_what_is_not_wanted_any_more_has_no_break_when_it_is_wanted_again() -> None:
    account = Coverage()
    account.granted("a", ["BTC"], 5)
    account.ended("a", 10, "cut")
    account.forget(["BTC"])
    assert account.granted("a", ["BTC"], 20) == []


def test_breaks_are_rows_of_the_schema() -> None:
    batch = breaks_batch([Break("BTC", 1, 2, "cut"), Break("ETH", 3, 4, "cut")])
    assert batch.schema.equals(BREAKS)
    assert batch.to_pylist()[1] == {"symbol": "ETH", "from_ns": 3, "to_ns": 4, "reason": "cut"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), max_size=40))
def test_breaks_are_the_times_nobody_received_it(steps: list[tuple[str, bool, int]]) -> None:
    """Against a plain account of every moment: a connection that ends was heard up to `back` moments before."""
    account, told = Coverage(), []
    covered: set[int] = set()
    begun: dict[str, int] = {}
    first = None
    now = 0
    for now, (connection, comes, back) in enumerate(steps, 10):
        if comes and connection not in begun:
            first = now if first is None else first
            begun[connection] = now
            told += account.granted(connection, ["BTC"], now)
        elif not comes and connection in begun:
            heard = max(now - back, begun[connection])
            covered.update(range(begun.pop(connection), heard))
            told += account.ended(connection, heard, "cut")
    if first is None:
        assert told == []
        return
    told += account.granted("last", ["BTC"], now + 1)
    for since in begun.values():
        covered.update(range(since, now + 1))
    missed = {moment for one in told for moment in range(one.from_ns, one.to_ns)}
    assert set(range(first, now + 1)) - covered == missed - covered
    assert missed >= set(range(first, now + 1)) - covered
