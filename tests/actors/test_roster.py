"""Which symbols go on which connection, without any socket: connections that were never told to connect."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.coverage import Coverage
from actors.exchange_connection import ExchangeConnection, Shared
from actors.feeds.feed import ALL_CHANNELS
from actors.feeds.instruments import instrument_table
from actors.feeds.registry import FEEDS
from actors.recorder import Recorder
from actors.request_budget import RequestBudget
from actors.rest_client import RestClient
from actors.roster import NO_ANSWER_YET, Roster, answered
from config import load
from tests.actors.exchanges import NOWHERE, limit


class Connections:
    """Makes connections to `exchange` that nobody runs."""

    def __init__(self, folder: Path, exchange: str) -> None:
        self.shared = Shared(
            exchange=exchange,
            endpoint="ws://127.0.0.1:1",
            settings=load(folder).collector,
            channels=ALL_CHANNELS,
            credentials=None,
            recorded=False,
            rest=RestClient(NOWHERE, RequestBudget(60)),
            connects=RequestBudget(60),
            deliver=lambda *_: None,
            arrived=lambda: None,
            connections=lambda: len(self.made),
            recorder=Recorder(folder, exchange, 1 << 20, on=False),
            coverage=Coverage(),
            broke=lambda *_: None,
        )
        self.made: list[ExchangeConnection] = []

    def connect(self, symbols: Sequence[str]) -> ExchangeConnection:
        self.made.append(ExchangeConnection(f"ws-{len(self.made) + 1}", self.shared, dict.fromkeys(symbols)))
        return self.made[-1]


def listed(**active: bool) -> pa.Table:
    row: dict[str, Any] = {"kind": "spot", "base": "BTC", "quote": "USDT"}
    return instrument_table([row | {"symbol": name, "instrument": name, "active": is_} for name, is_ in active.items()])


def placed(roster: Roster) -> list[list[str]]:
    return [list(connection.symbols) for connection in roster.connections]


@pytest.fixture
def connections(tmp_path: Path) -> Connections:
    return Connections(tmp_path, "binance")


def roster_of(connections: Connections, *symbols: str) -> Roster:
    return Roster(FEEDS[connections.shared.exchange], symbols, connections.connect)


def test_symbols_are_spread_as_the_limits_ask(monkeypatch: pytest.MonkeyPatch, connections: Connections) -> None:
    limit(monkeypatch, "binance", symbols_per_connection=2)
    roster = roster_of(connections, "A", "B", "C", "D", "E", "A")
    roster.place_all()
    assert placed(roster) == [["A", "B"], ["C", "D"], ["E"]]
    roster.add(["F", "G", "A"])
    assert placed(roster) == [["A", "B"], ["C", "D"], ["E", "F"], ["G"]]
    assert roster.remove(["C", "G", "NO", "C"]) == ["C", "G"]
    assert placed(roster) == [["A", "B"], ["D"], ["E", "F"]]
    roster.add(["H", "I"])
    assert placed(roster) == [["A", "B"], ["D", "H"], ["E", "F"], ["I"]]
    assert roster.wanted == ("A", "B", "D", "E", "F", "H", "I")


def test_symbols_of_different_kinds_share_no_connection(tmp_path: Path) -> None:
    roster = roster_of(Connections(tmp_path, "bybit"), "spot:BTCUSDT", "linear:BTCUSDT")
    roster.place_all()
    roster.add(["linear:ETHUSDT", "inverse:BTCUSD", "spot:ETHUSDT"])
    assert placed(roster) == [["spot:BTCUSDT", "spot:ETHUSDT"], ["linear:BTCUSDT", "linear:ETHUSDT"]]
    assert list(roster.refused) == ["inverse:BTCUSD"], "a category of its own, which is not collected"


def test_where_symbols_take_different_room_a_connection_gets_what_fits(tmp_path: Path) -> None:
    roster = roster_of(
        Connections(tmp_path, "bitfinex"), *(f"t{name}USD" for name in ("AAA", "BBB", "CCC", "DDD", "EEE"))
    )
    roster.place_all()
    roster.add([f"t{name}F0:USTF0" for name in ("AAA", "BBB", "CCC", "DDD")])
    for symbols in placed(roster):
        assert len(FEEDS["bitfinex"].groups(symbols)) == 1
    assert sorted(symbol for symbols in placed(roster) for symbol in symbols) == sorted(roster.wanted)


def test_hundreds_of_symbols_are_added_without_keeping_everybody_waiting(tmp_path: Path) -> None:
    groups = 0
    feed = FEEDS["bitfinex"]

    class Counting(feed):  # type: ignore[misc, valid-type]
        @classmethod
        def groups(cls, symbols: Sequence[str]) -> list[tuple[str, ...]]:
            nonlocal groups
            groups += len(symbols)
            made: list[tuple[str, ...]] = super().groups(symbols)
            return made

    names = [f"t{first}{second}{third}USD" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJ" for third in "ABCDE"]
    connections = Connections(tmp_path, "bitfinex")
    roster = Roster(Counting, names[:250], connections.connect)
    roster.place_all()
    groups = 0
    roster.add(names[250:])
    assert len(roster.connections) > 60
    assert groups < 40 * len(names), "each connection is looked at once"


def test_what_was_added_or_removed_before_the_start_waits_for_it(connections: Connections) -> None:
    roster = roster_of(connections, "A", "B")
    roster.add(["C"])
    roster.remove(["A"])
    assert placed(roster) == []
    roster.list_is(listed(B=True, C=True))
    assert placed(roster) == []
    roster.place_all()
    assert placed(roster) == [["B", "C"]]


def test_after_everything_was_left_nothing_is_connected_until_the_next_start(connections: Connections) -> None:
    roster = roster_of(connections, "A")
    roster.place_all()
    roster.leave("the collector stops")
    roster.add(["B"])
    assert placed(roster) == []
    roster.place_all()
    assert placed(roster) == [["A", "B"]]


def test_what_the_exchange_does_not_list_is_refused_with_the_nearest_names(connections: Connections) -> None:
    roster = roster_of(connections, "BTCUSD", "ETHUSDT", "DEAD", "no name", "ZZZZ")
    roster.list_is(listed(BTCUSDT=True, ETHUSDT=True, DEAD=False))
    roster.place_all()
    assert placed(roster) == [["ETHUSDT"]]
    refused = roster.refused
    assert refused["BTCUSD"].startswith("binance has no symbol BTCUSD; did you mean BTCUSDT")
    assert refused["DEAD"] == "binance does not trade DEAD any more"
    assert refused["ZZZZ"] == "binance has no symbol ZZZZ"
    assert "cannot be a symbol of binance" in refused["no name"]
    assert roster.possible(roster.wanted) == ("BTCUSD", "ETHUSDT", "DEAD", "ZZZZ")
    assert [(row["symbol"], row["state"]) for row in roster.rows()] == [
        ("BTCUSD", "refused"),
        ("ETHUSDT", "waiting"),
        ("DEAD", "refused"),
        ("no name", "refused"),
        ("ZZZZ", "refused"),
    ]
    roster.remove(["ZZZZ", "no name"])
    assert sorted(roster.refused) == ["BTCUSD", "DEAD"]


def test_a_new_list_ends_and_brings_back_symbols(connections: Connections) -> None:
    roster = roster_of(connections, "A", "B", "C")
    roster.place_all()
    roster.list_is(listed(A=True, B=False))
    assert placed(roster) == [["A"]]
    assert sorted(roster.refused) == ["B", "C"]
    roster.list_is(listed(A=False, B=True))
    assert placed(roster) == [["B"]]
    assert sorted(roster.refused) == ["A", "C"]
    roster.list_is(listed(A=True, B=True, C=True))
    assert sorted(placed(roster)[0]) == ["A", "B", "C"]
    assert roster.refused == {}


def test_whether_something_is_unlisted_is_unknown_without_a_list(connections: Connections) -> None:
    roster = roster_of(connections, "A")
    assert not roster.unlisted(["NEW"])
    roster.list_is(listed(A=True, OLD=False))
    assert not roster.unlisted(["A"])
    assert roster.unlisted(["A", "NEW"])
    assert roster.unlisted(["OLD"])


async def test_a_journal_that_begins_renews_successors_too(connections: Connections) -> None:
    roster = roster_of(connections, "A")
    roster.place_all()
    (old,) = roster.connections
    old.life.state = "streaming"
    old.succeed = "it is old"
    roster.flush()
    new = old.successor
    assert new is not None
    roster.renew("a journal begins")
    assert new.succeed == "a journal begins"
    roster.hold(True)
    assert (old._held, new._held) == (True, True)


async def test_one_that_fails_while_all_are_left_keeps_no_other_one_connected(connections: Connections) -> None:
    roster = roster_of(connections, "A")
    roster.place_all()
    first = roster.connections[0]
    second = connections.connect(("B",))
    roster.connections.append(second)
    second.task = asyncio.create_task(asyncio.sleep(60))
    first.feed = None  # type: ignore[assignment]
    first._receiver = Full()  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        roster.leave("it failed")
    with pytest.raises(asyncio.CancelledError):
        await second.task
    assert roster.connections == []


class Full:
    """A receiver with a frame that cannot be decoded."""

    waiting = (1, 1)

    def take(self) -> tuple[list[bytes], list[int]]:
        return [b"{}"], [0]


async def test_an_answer_is_waited_for_as_long_as_it_may_take_and_no_longer(connections: Connections) -> None:
    roster = roster_of(connections, "A", "B", "C", "DEAD")
    roster.list_is(listed(A=True, B=True, C=True))
    roster.place_all()
    waiting = asyncio.create_task(answered(roster, ["A", "B", "DEAD", "A"], 5.0))
    await asyncio.sleep(0)
    (connection,) = roster.connections
    connection.subscribed.add("A")
    connection.refused["B"] = "the exchange says no"
    said = await asyncio.wait_for(waiting, 1)
    assert said == {"A": "", "B": "the exchange says no", "DEAD": "binance has no symbol DEAD"}
    assert await answered(roster, ["C"], 0.02) == {"C": NO_ANSWER_YET}
