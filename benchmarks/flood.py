"""An exchange that sends as fast as its socket takes it: Binance aggTrade frames with ids of their own.

`python -m benchmarks.flood` prints its port and serves until its standard input ends. A client that connects to
ws://127.0.0.1:PORT/COUNT/stream gets COUNT frames, a multiple of `BLOCK_FRAMES`; then the connection stays open.
Frames are made once, in a block; from block to block only the digits of ids and times are written anew.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from actors.simulator import wire

SYMBOLS = (
    "BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "ADAUSDT", "LINKUSDT", "DOGEUSDT", "AVAXUSDT", "DOTUSDT"
)  # fmt: skip
BLOCK_FRAMES = 10_000
#: Frames are of one symbol after the other. The ids of each are contiguous, as at the exchange, from so many times its
#: position (from 10) on; all have eleven digits.
_SERIES = 1_000_000_000
_BLOCK_DIGITS = 6

_TIME = "1700000000000"

Integers = np.ndarray[Any, np.dtype[np.int64]]


class Block:
    """`BLOCK_FRAMES` frames, framed as WebSocket messages, that can be numbered again."""

    def __init__(self) -> None:
        messages = [wire.block([_frame(place).encode()]) for place in range(BLOCK_FRAMES)]
        ends = np.cumsum([len(message) for message in messages])
        starts = [0, *ends[:-1].tolist()]

        def places(names: Sequence[bytes], digits: int) -> Integers:
            """Where in the block the first `digits` digits of these fields are: (frames * fields, digits)."""
            first = [
                start + message.index(b'"%s":' % name) + 4
                for start, message in zip(starts, messages, strict=True)
                for name in names
            ]
            found: Integers = np.array(first)[:, np.newaxis] + np.arange(digits)
            return found

        self._bytes = np.frombuffer(bytearray(b"".join(messages)), np.uint8)
        self._ids = places((b"a", b"f", b"l"), 2 + _BLOCK_DIGITS)[:, 2:]
        self._times = places((b"E", b"T"), len(_TIME))

    def numbered(self, block: int, time_ms: int) -> bytes:
        """The bytes of the `block`th block (from 0), its trades at `time_ms` (UTC)."""
        for places, number in ((self._ids, f"{block:0{_BLOCK_DIGITS}}"), (self._times, str(time_ms))):
            self._bytes[places] = np.frombuffer(number.encode(), np.uint8)
        return self._bytes.tobytes()


def numbers(ids: Integers) -> Integers:
    """Which frames of the flood (from 0) these trades came in."""
    found: Integers = ids % _SERIES * len(SYMBOLS) + ids // _SERIES - 10
    return found


def prices(ids: Integers) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The prices of the trades with these ids."""
    cents: Integers = numbers(ids) % BLOCK_FRAMES + 6_300_000
    return cents / 100


def _frame(place: int) -> str:
    symbol = SYMBOLS[place % len(SYMBOLS)]
    number = (place % len(SYMBOLS) + 10) * _SERIES + place // len(SYMBOLS)
    cents = 6_300_000 + place
    buyer_is_maker = "false" if place % 3 else "true"
    return (
        f'{{"stream":"{symbol.lower()}@aggTrade","data":{{"e":"aggTrade","E":{_TIME},"s":"{symbol}","a":{number},'
        f'"p":"{cents // 100}.{cents % 100:02d}000000","q":"0.{place % 900 + 100}00000","f":{number},"l":{number},'
        f'"T":{_TIME},"m":{buyer_is_maker},"M":true}}}}'
    )


FRAME_BYTES = len(_frame(0))


async def _send(block: Block, connection: ServerConnection) -> None:
    assert connection.request is not None
    count = int(connection.request.path.split("/")[1])
    with suppress(ConnectionClosed):
        for number in range(count // BLOCK_FRAMES):
            async with connection.send_context():
                connection.transport.write(block.numbered(number, time.time_ns() // 1_000_000))
        await connection.wait_closed()


async def main() -> None:
    # Made before anybody connects, whose time it would cost; every connection numbers it anew before each use.
    send = partial(_send, Block())
    # Pongs come late where the client does not read on purpose.
    async with serve(send, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=1) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
