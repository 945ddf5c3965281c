"""Frames from a real socket, written byte by byte by the other side."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import numpy as np
import picows
import pytest
from websockets.asyncio.server import ServerConnection, serve

from actors import recorded_clock
from actors.frame_receiver import FrameReceiver, RecordedFrameReceiver
from actors.simulator import wire
from tests.polling import until

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(payload: bytes, kind: int = TEXT, fin: bool = True) -> bytes:
    """RFC 6455 section 5.2, unmasked as servers send it."""
    head = wire.block([payload])[: -len(payload) or None]
    return bytes((kind | 0x80 * fin,)) + head[1:] + payload


@asynccontextmanager
async def connected(
    receiver: FrameReceiver, max_frame_size: int = 1 << 24
) -> AsyncIterator[tuple[Callable[[bytes], None], ServerConnection]]:
    """The receiver on a connection whose other side writes what it is told."""
    met: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()

    async def handle(connection: ServerConnection) -> None:
        met.set_result(connection)
        await connection.wait_closed()

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2) as server:
        transport, _ = await picows.ws_connect(
            lambda: receiver,
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            max_frame_size=max_frame_size,
        )
        other = await met
        yield other.transport.write, other
        transport.disconnect()
        # Where the receiver itself gave up, its reason comes out here.
        with suppress(ValueError):
            await transport.wait_disconnected()


async def taken(receiver: FrameReceiver, count: int) -> tuple[list[bytes], list[int]]:
    """So many frames with their times, over several calls where it takes them."""
    frames: list[bytes] = []
    times: list[int] = []
    async with asyncio.timeout(10):
        while len(frames) < count:
            some, when = receiver.take()
            assert when.dtype == np.int64
            assert len(when) == len(some)
            frames.extend(some)
            times.extend(map(int, when))
            await asyncio.sleep(0)
    return frames, times


def _nothing() -> None:
    pass


def receiver_of(max_frames: int = 10_000, max_bytes: int = 1 << 24, max_message_bytes: int = 1 << 20) -> FrameReceiver:
    return FrameReceiver(max_frames, max_bytes, max_message_bytes, _nothing)


@pytest.mark.parametrize("recorded", [False, True])
async def test_whoever_waits_for_frames_is_told_when_they_are_there(recorded: bool) -> None:
    arrived = asyncio.Event()
    kind = RecordedFrameReceiver if recorded else FrameReceiver
    receiver = kind(10_000, 1 << 24, 1 << 20, arrived.set)
    async with connected(receiver) as (write, _):
        for block in (frame(b"a"), frame(b"b") + frame(recorded_clock.encode(6), BINARY)):
            assert not arrived.is_set()
            write(block)
            await asyncio.wait_for(arrived.wait(), 5)
            await until(lambda: receiver.waiting[0] == 1)
            receiver.take()
            arrived.clear()


async def test_frames_come_in_order_with_a_time_that_never_falls() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        began = time.time_ns()
        for number in range(1000):
            write(frame(b"%d" % number))
        frames, times = await taken(receiver, 1000)
    assert frames == [b"%d" % number for number in range(1000)]
    assert all(earlier <= later for earlier, later in itertools.pairwise(times))
    assert began <= times[0] <= times[-1] <= time.time_ns()
    assert receiver.waiting == (0, 0)


async def test_frames_of_one_read_have_the_time_of_that_read() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        write(b"".join(frame(b"%d" % number) for number in range(10)))
        frames, times = await taken(receiver, 10)
    assert len(frames) == 10
    assert len(set(times)) == 1


async def test_messages_in_fragments_are_whole_and_control_frames_in_between_are_no_part_of_them() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, other):
        pongs = []
        write(frame(b"before"))
        write(frame(b'{"a":', fin=False))
        write(frame(b"are you there", PING))
        write(frame(b"1,", CONTINUATION, fin=False))
        write(frame(b"unasked", PONG))
        write(frame(b"", CONTINUATION, fin=False))
        write(frame(b'"b":2}', CONTINUATION))
        write(frame(b"after"))
        frames, _ = await taken(receiver, 3)
        pongs.append(await asyncio.wait_for(await other.ping(), 5))
    assert frames == [b"before", b'{"a":1,"b":2}', b"after"]
    assert receiver.waiting == (0, 0)
    assert pongs, "and the other side is answered"


async def test_however_the_bytes_arrive_the_messages_are_the_same() -> None:
    choose = random.Random(7)
    messages = [choose.randbytes(choose.choice([0, 1, 125, 126, 200, 65_535, 65_536, 70_000])) for _ in range(60)]
    wires = []
    for message in messages:
        cuts = sorted(choose.randrange(len(message) + 1) for _ in range(choose.choice([0, 0, 1, 3])))
        parts = [message[start:end] for start, end in itertools.pairwise([0, *cuts, len(message)])]
        for at, part in enumerate(parts):
            wires.append(frame(part, CONTINUATION if at else TEXT, fin=at == len(parts) - 1))
            if choose.random() < 0.2:
                wires.append(frame(b"", PONG))
    stream, position = b"".join(wires), 0
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        while position < len(stream):
            size = choose.choice([1, 7, 100, 5_000, 100_000])
            write(stream[position : position + size])
            position += size
            await asyncio.sleep(0)
        frames, times = await taken(receiver, len(messages))
    assert frames == messages
    assert all(earlier <= later for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("limits", [{"max_frames": 50}, {"max_bytes": 50_000}])
async def test_while_it_is_full_the_socket_is_not_read_and_nothing_is_lost(limits: dict[str, int]) -> None:
    receiver = receiver_of(**limits)
    sent = [b"%06d" % number + b"x" * 994 for number in range(20_000)]
    async with connected(receiver) as (write, other):
        write(b"".join(map(frame, sent)))
        await until(lambda: receiver.pauses == 1)
        before = receiver.waiting
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert receiver.waiting == before, "what it has is all it holds"
        # One read of the socket may bring more than fits, but no second one does.
        assert before[0] <= 50 + 300
        assert before[1] <= 50_000 + 300_000
        assert other.transport.get_write_buffer_size() > 0, "the rest waits at the other side"
        frames, _ = await taken(receiver, len(sent))
    assert frames == sent
    assert receiver.pauses > 1


async def test_while_held_nothing_is_read_until_it_is_let_go() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        write(frame(b"1"))
        assert (await taken(receiver, 1))[0] == [b"1"]
        receiver.hold(True)
        write(frame(b"2"))
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert receiver.take()[0] == []
        receiver.hold(False)
        assert (await taken(receiver, 1))[0] == [b"2"]


async def test_a_full_one_that_is_let_go_stays_full_until_it_is_emptied() -> None:
    receiver = receiver_of(max_frames=5)
    async with connected(receiver) as (write, _):
        write(b"".join(frame(b"%d" % number) for number in range(10)))
        await until(lambda: receiver.waiting[0] == 10)
        receiver.hold(True)
        receiver.hold(False)
        write(frame(b"more"))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert receiver.waiting[0] == 10
        assert len((await taken(receiver, 11))[0]) == 11


async def test_fragments_count_while_they_wait_and_only_then() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        write(frame(b"x" * 100, fin=False))
        await until(lambda: receiver.waiting == (0, 100))
        assert receiver.take()[0] == []
        assert receiver.waiting == (0, 100)
        write(frame(b"y" * 50, CONTINUATION))
        await until(lambda: receiver.waiting == (1, 150))
        assert receiver.take()[0] == [b"x" * 100 + b"y" * 50]
        assert receiver.waiting == (0, 0)


async def test_a_message_without_an_end_costs_the_connection_and_not_the_memory() -> None:
    receiver = receiver_of(max_message_bytes=10_000)
    async with connected(receiver) as (write, other):
        write(frame(b"x" * 1000, fin=False))
        for _ in range(20):
            write(frame(b"x" * 1000, CONTINUATION, fin=False))
        await asyncio.wait_for(other.wait_closed(), 5)
        assert receiver.waiting[1] <= 21_000
        assert receiver.take()[0] == []


async def test_a_good_bye_is_answered_and_what_came_before_it_is_there() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, other):
        write(frame(b"last"))
        await asyncio.wait_for(other.close(4004, "no data"), 5)
        assert other.close_code == 4004
        assert receiver.take()[0] == [b"last"]


async def test_one_that_is_left_before_it_is_connected_disconnects_at_once() -> None:
    receiver = receiver_of()
    receiver.leave()
    async with connected(receiver) as (_, other):
        await asyncio.wait_for(other.wait_closed(), 5)


async def test_a_replay_tells_the_time_of_every_frame() -> None:
    receiver = RecordedFrameReceiver(10_000, 1 << 24, 1 << 20, _nothing)
    times = [1_633_998_512_000_000_001, 1_633_998_512_000_000_001, 5, -3, 2**63 - 1]
    frames = [b"%d" % number for number in range(len(times))]
    async with connected(receiver) as (write, _):
        write(wire.block(frames, times))
        assert await taken(receiver, len(times)) == (frames, times), "as recorded, also where that clock stepped back"
        for one, when in zip(frames, times, strict=True):
            write(wire.block([one], [when]))
        assert await taken(receiver, len(times)) == (frames, times)


async def test_a_replay_of_fragments_gives_the_message_the_time_before_its_end() -> None:
    receiver = RecordedFrameReceiver(10_000, 1 << 24, 1 << 20, _nothing)
    async with connected(receiver) as (write, _):
        write(frame(recorded_clock.encode(7), BINARY) + frame(b"a", fin=False) + frame(b"b", CONTINUATION))
        write(frame(recorded_clock.encode(8), BINARY) + frame(b"c"))
        assert await taken(receiver, 2) == ([b"ab", b"c"], [7, 8])


async def test_a_full_replay_is_not_read_either_also_where_a_time_ends_the_read() -> None:
    receiver = RecordedFrameReceiver(5, 1 << 24, 1 << 20, _nothing)
    async with connected(receiver) as (write, _):
        write(wire.block([b"x"] * 6, range(6)) + frame(recorded_clock.encode(6), BINARY))
        await until(lambda: receiver.waiting[0] == 6)
        write(frame(b"y"))
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert receiver.waiting[0] == 6
        assert await taken(receiver, 7) == ([b"x"] * 6 + [b"y"], [0, 1, 2, 3, 4, 5, 6])


async def test_a_replay_with_a_time_that_is_none_costs_the_connection() -> None:
    receiver = RecordedFrameReceiver(10_000, 1 << 24, 1 << 20, _nothing)
    async with connected(receiver) as (write, other):
        write(frame(b"noon", BINARY))
        await asyncio.wait_for(other.wait_closed(), 5)


async def test_a_live_exchange_that_sends_binary_frames_is_not_understood_as_a_clock() -> None:
    receiver = receiver_of()
    async with connected(receiver) as (write, _):
        write(frame(recorded_clock.encode(5), BINARY) + frame(b"text"))
        frames, times = await taken(receiver, 1)
    assert frames == [b"text"]
    assert times[0] > 1_700_000_000_000_000_000
