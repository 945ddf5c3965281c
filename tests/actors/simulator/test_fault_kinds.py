"""What faults there are, that mistakes in asking for them are told, and what they do to frames."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from actors.simulator import broken_frames
from actors.simulator.dialect import Kind
from actors.simulator.fault_kinds import KINDS, Fault, FaultError, Value, drawn
from actors.simulator.faults import MAX_ACTIVE, Faults
from actors.simulator.session import EVERYBODY, Stream
from tests.polling import until

TRADES, BOOK, OTHER = Stream("trade", "BTC"), Stream("book", "BTC"), Stream("trade", "ETH")


class Exchange:
    """Remembers what was asked of it; knows BTC only."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def restart(self, seconds: float) -> None:
        self.asked.append(("restart", seconds))

    def maintain(self, seconds: float) -> None:
        self.asked.append(("maintain", seconds))

    def delist(self, symbol: str) -> None:
        if symbol != "BTC":
            raise KeyError(symbol)
        self.asked.append(("delist", symbol))

    def relist(self, symbol: str) -> None:
        self.asked.append(("relist", symbol))

    def stream(self, symbol: str, kind: Kind) -> Stream | None:
        return {"trades": Stream("trade", symbol), "book": Stream("book", symbol)}.get(kind)


@pytest.fixture
def faults() -> Faults:
    faults = Faults(Random(1))
    faults.market = Exchange()
    return faults


def frames(count: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(count)]


def numbers(sent: list[bytes]) -> list[int]:
    return [json.loads(frame)["n"] for frame in sent]


async def test_a_mistake_says_what_is_possible(faults: Faults) -> None:
    for options, said in (
        (("flood",), "there is no fault 'flood': expected one of drop, close,"),
        (("skip", {"cout": 1}), "skip has no option 'cout': expected count, symbol, about, seconds"),
        (("skip", {"count": 0}), "count is 0: expected a whole number from 1 to 1e+06"),
        (("skip", {"count": 1.5}), "count is 1.5"),
        (("skip", {"count": True}), "count is True"),
        (("skip", {"about": "bars"}), "about is 'bars': expected one of any, trades"),
        (("silent", {"seconds": "nan"}), "seconds is 'nan': expected a number from 0.01"),
        (("silent", {"seconds": -1}), "seconds is -1"),
        (("drop", {"all": "maybe"}), "all is 'maybe': expected true or false"),
        (("rest_limited", {"status": 420}), "status is 420: expected 418 or 429"),
        (("refuse", {"status": 460}), "status is 460: expected one that HTTP has, such as 403, 429, 500 or 503"),
        (("close", {"code": 1006}), "code is 1006: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999"),
        (("close", {"reason": "x" * 124}), "reason is too long: expected 123 bytes at most"),
        (("delist", {}), "delist needs symbol"),
        (("delist", {"symbol": "DOGE"}), "delist symbol=DOGE"),
    ):
        with pytest.raises(FaultError) as error:
            faults.inject(options[0], **(options[1] if len(options) > 1 else {}))
        assert said in str(error.value)
    assert faults.active() == []


async def test_options_may_come_as_the_command_line_gives_them(faults: Faults) -> None:
    said = faults.inject("malformed", count="3", how="types", symbol="BTC", seconds="2.5")
    assert said == "malformed count=3 how=types symbol=BTC about=any seconds=2.5"
    (row,) = faults.active()
    assert (row["kind"], row["active"], row["done"], row["options"]["count"]) == ("malformed", True, 0, 3)
    faults.end_all()


async def test_a_replay_has_no_market_to_harm() -> None:
    faults = Faults()
    for kind in ("skip", "restart"):
        with pytest.raises(FaultError, match="simulated market only"):
            faults.inject(kind)
    faults.inject("silent", seconds=5)
    faults.end_all()


async def test_no_more_faults_than_anybody_can_follow(faults: Faults) -> None:
    for _ in range(MAX_ACTIVE):
        faults.inject("skew", seconds=60)
    with pytest.raises(FaultError, match="enough"):
        faults.inject("skew")
    faults.end_all()


async def test_frames_are_skipped_as_often_as_asked(faults: Faults) -> None:
    faults.inject("skip", count=2, symbol="BTC", about="trades")
    sent = faults.outgoing(frames(6), [BOOK, TRADES, OTHER, TRADES, TRADES, EVERYBODY], {})
    assert numbers(sent) == [0, 2, 4, 5]
    assert (faults.done["skip"], faults.active(), faults.dropping) == (2, [], False)
    assert faults.over()[0]["done"] == 2


async def test_heartbeats_go_on_while_data_stops(faults: Faults) -> None:
    faults.inject("stall", seconds=60)
    assert numbers(faults.outgoing(frames(3), [BOOK, EVERYBODY, TRADES], {})) == [1]
    faults.end_all()
    assert numbers(faults.outgoing(frames(3), [BOOK, EVERYBODY, TRADES], {})) == [0, 1, 2]


async def test_frames_are_sent_twice(faults: Faults) -> None:
    faults.inject("double", count=1)
    assert numbers(faults.outgoing(frames(3), [EVERYBODY, TRADES, TRADES], {})) == [0, 1, 1, 2]


@given(
    st.integers(2, 20),
    st.lists(st.lists(st.sampled_from([TRADES, BOOK, OTHER, EVERYBODY]), max_size=20), min_size=1, max_size=10),
)
def test_reordering_loses_nothing_and_keeps_to_its_streams(within: int, batches: list[list[Stream]]) -> None:
    async def reorder() -> None:
        faults = Faults(Random(within))
        faults.market = Exchange()
        faults.inject("reorder", within=within, count=1000)
        streams = [stream for batch in batches for stream in batch]
        numbered = iter(frames(len(streams)))
        held: dict[Stream, bytes] = {}
        sent: list[int] = []
        for batch in batches:
            sent += numbers(faults.outgoing([next(numbered) for _ in batch], batch, held))
        faults.end_all()
        sent += numbers(faults.outgoing([], [], held))
        assert sorted(sent) == list(range(len(streams)))
        assert not held
        moved = 0
        for stream in {*streams}:
            before = [at for at, one in enumerate(streams) if one == stream]
            after = [number for number in sent if streams[number] == stream]
            assert stream != EVERYBODY or after == before
            for number in after:
                assert abs(before.index(number) - after.index(number)) < within
            moved += sum(was != now for was, now in zip(before, after, strict=True))
        assert faults.done["reorder"] == moved
        several = any(streams.count(stream) > 1 for stream in (TRADES, BOOK, OTHER))
        assert (moved > 0) == several

    asyncio.run(reorder())


async def test_frames_that_come_one_at_a_time_change_places_and_the_last_comes_when_the_fault_is_over(
    faults: Faults,
) -> None:
    faults.inject("reorder", within=2, count=2, symbol="BTC")
    held: dict[Stream, bytes] = {}
    came = [numbers(faults.outgoing([frame], [TRADES], held)) for frame in frames(4)]
    assert came == [[], [1, 0], [2], [3]]
    faults.inject("reorder", within=2, seconds=60)
    assert numbers(faults.outgoing(frames(1), [TRADES], held)) == []
    assert numbers(faults.outgoing(frames(1), [EVERYBODY], held)) == [0]
    faults.end_all()
    assert numbers(faults.outgoing([], [], held)) == [0]


@pytest.mark.parametrize(
    ("frame", "changed"),
    [
        (b'{"channel":"book","data":[{"checksum":2439117997}]}', True),
        (b'{"data":[{"asks":[],"checksum":-855196043,"prevSeqId":1}]}', True),
        (b'[0,{"b":[["1.0","2.0","3.0"]],"c":"1005496306"},"book-10","XBT/USD"]', True),
        (b'[17,"cs",-1234567,5]', True),
        (b'{"e":"depthUpdate","U":1}', False),
    ],
)
async def test_only_a_checksum_is_corrupted_and_it_stays_one(faults: Faults, frame: bytes, changed: bool) -> None:
    faults.inject("checksum")
    (sent,) = faults.outgoing([frame], [BOOK], {})
    assert (sent != frame, faults.done["checksum"]) == (changed, int(changed))
    json.loads(sent)
    assert len(sent) in range(len(frame) - 2, len(frame) + 3)
    faults.end_all()


@given(st.integers(0, 2**32))
def test_a_malformed_frame_never_says_something_else_that_could_be_true(seed: int) -> None:
    frame, random = b'{"e":"trade","data":[{"p":"1.5","q":2,"m":false}]}', Random(seed)
    assert frame.startswith(cut := broken_frames.cut(frame, random)) and 0 < len(cut) < len(frame)
    assert len(broken_frames.garbage(frame, random)) == len(frame)
    was, now = json.loads(frame), json.loads(broken_frames.with_wrong_type(frame, random))
    changed = [(a, b) for a, b in zip(leaves(was), leaves(now), strict=False) if a != b]
    assert was != now
    assert all(not isinstance(after, str | int | float) or after is True for _, after in changed[:1])


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict) and value and value != {"": None}:
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list) and value and value != [[]]:
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


async def test_an_oversized_frame_is_the_same_and_too_long(faults: Faults) -> None:
    faults.inject("oversized", megabytes=1)
    long, short = faults.outgoing(frames(2), [TRADES, TRADES], {})
    assert (len(long), json.loads(long), short) == (1 << 20, {"n": 0}, b'{"n":1}')


async def test_a_fault_ends_by_itself(faults: Faults) -> None:
    faults.inject("silent", seconds=0.05)
    faults.inject("refuse", seconds=0.05, status=429)
    faults.inject("refuse_symbol", seconds=0.05, symbol="BTC")
    faults.inject("skew", seconds=0.05, ms=-1500)
    faults.inject("delist", seconds=0.05, symbol="BTC")
    faults.inject("maintenance", seconds=3)
    assert (faults.silent, faults.refuse, faults.refused, faults.skew_ns) == (True, 429, {"BTC"}, -1_500_000_000)
    await until(lambda: len(faults.active()) == 1)
    assert (faults.silent, faults.refuse, faults.refused, faults.skew_ns) == (False, None, frozenset(), 0)
    assert isinstance(faults.market, Exchange)
    assert faults.market.asked == [("delist", "BTC"), ("maintain", 3.0), ("relist", "BTC")]
    faults.end_all()


async def test_silence_lasts_until_the_last_fault_of_it_is_over(faults: Faults) -> None:
    first = faults.begin(Fault("silent", {"seconds": 60}))
    second = faults.begin(Fault("silent", {"seconds": 60}))
    faults.end(first.number)
    faults.end(first.number)
    assert faults.silent
    faults.silent = True
    faults.end(second.number)
    assert faults.silent, "somebody else asked for it too"
    faults.silent = False
    assert not faults.silent


Get = Callable[[], Any]


@pytest.fixture
async def get(faults: Faults) -> AsyncIterator[Get]:
    async def serve(request: web.Request) -> web.Response:
        return await faults.rest(request) or web.Response(text="good")

    application = web.Application()
    application.router.add_get("/", serve)
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        yield lambda: session.get(server.make_url("/"))
    faults.end_all()


async def test_rest_fails_as_it_is_told(faults: Faults, get: Get) -> None:
    faults.inject("rest_failing", count=1, status=502)
    async with get() as answer:
        assert answer.status == 502
    for status in (429, 418):
        faults.inject("rest_limited", count=1, status=status, retry_after=7)
        async with get() as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
    faults.inject("rest_reset", seconds=60)
    with pytest.raises(aiohttp.ClientError):
        async with get():
            pass
    faults.end_all()
    async with get() as answer:
        assert await answer.text() == "good"
    # aiohttp asks once more where a connection that was kept has ended.
    assert faults.done == {"rest_failing": 1, "rest_limited": 2, "rest_reset": faults.over()[-1]["done"]}
    assert faults.done["rest_reset"] > 0


async def test_slow_rest_answers_in_the_end(faults: Faults, get: Get) -> None:
    faults.inject("rest_slow", wait=0.2)
    began = asyncio.get_running_loop().time()
    async with get() as answer:
        assert await answer.text() == "good"
    assert asyncio.get_running_loop().time() - began >= 0.2


@given(st.integers(0, 2**32), st.sampled_from(sorted(KINDS)))
def test_what_is_drawn_is_possible_and_ends_in_time(seed: int, kind: str) -> None:
    fault = drawn(Random(seed), ["BTC", "ETH"], [kind], longest_s=2.0)
    assert fault == drawn(Random(seed), ["BTC", "ETH"], [kind], longest_s=2.0)
    assert fault.seconds is not None and fault.seconds <= 2.0
    as_told: dict[str, Value | None] = dict(word.split("=") for word in shlex.split(str(fault))[1:])
    assert Fault(kind, as_told) == fault, "what it says of itself can be said on the command line"
