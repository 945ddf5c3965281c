"""Plays a recording of one exchange through a real WebSocket and REST server, so that a collector connects,
subscribes and receives as it would outside.

A connection gets the recorded frames it subscribed to, in recorded order, from the first one on; then it stays
open. What is subscribed later on the same connection also plays from its first frame: what is due already comes at
once. Every new connection starts from the beginning. The time between two captures is played like any other.
Recorded answers to subscriptions are not replayed: the client gets answers to its own messages.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiohttp.web
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from yarl import URL

from actors import recorded_clock
from actors.simulator import wire
from actors.simulator.captures import SESSIONS, Recording
from actors.simulator.loopback import LoopbackServers
from actors.simulator.session import EVERYBODY, Session

#: A block of frames that goes to the socket in one write ends at either of these.
_MAX_BLOCK_FRAMES: Final = 1000
_MAX_BLOCK_BYTES: Final = 256 * 1024

_POLICY_VIOLATION: Final = 1008


class Tape:
    """A recording laid out for playing. All arrays have one entry per frame that can be replayed."""

    def __init__(self, recording: Recording, session: type[Session]) -> None:
        keys = [session.key(frame) for frame in recording.frames]
        played = [index for index, key in enumerate(keys) if key is not None]
        self.frames = [recording.frames[index] for index in played]
        self.times = recording.times[played]
        self.first_t_ns = int(recording.times[0])
        #: Seconds after the first frame; never falls, even where the recorded clock did.
        self.due = np.maximum.accumulate(self.times - self.first_t_ns) / 1e9
        self.sizes = np.array([len(frame) for frame in self.frames], np.int64)
        #: Which streams there are, and the number of each frame's stream.
        self.keys = tuple(dict.fromkeys(keys[index] or "" for index in played))
        numbers = {key: number for number, key in enumerate(self.keys)}
        self.key_numbers = np.array([numbers[keys[index] or ""] for index in played], np.int64)


class Player:
    """What one connection still has to get, and sends it. `speed` as in `ReplayServer`."""

    def __init__(
        self, tape: Tape, session: Session, connection: ServerConnection, speed: float, clock: Callable[[], float]
    ) -> None:
        self._tape = tape
        self.session = session
        self._connection = connection
        self._speed = speed
        self._clock = clock
        self._changed = asyncio.Event()
        self._start = 0.0
        self._wanted: frozenset[int] = frozenset()
        #: Indices into the tape, in order; those before `_position` are sent.
        self._pending = np.array([], np.int64)
        self._position = 0
        self._sent_before = 0
        #: The recorded time (ns) this connection has come to.
        self._recorded_now = tape.first_t_ns
        self.subscribed = asyncio.Event()

    @property
    def sent(self) -> int:
        return self._sent_before + self._position

    @property
    def total(self) -> int:
        """Frames sent and still to send."""
        return self._sent_before + len(self._pending)

    @property
    def finished(self) -> bool:
        return self.subscribed.is_set() and self._position == len(self._pending)

    def resubscribe(self) -> None:
        """Take over what the session is subscribed to now."""
        tape = self._tape
        wanted = frozenset(number for number, key in enumerate(tape.keys) if self.session.wants(key))
        left = self._pending[self._position :]
        left = left[np.isin(tape.key_numbers[left], list(wanted))]
        new = np.flatnonzero(np.isin(tape.key_numbers, list(wanted - self._wanted)))
        self._sent_before, self._position = self.sent, 0
        self._pending, self._wanted = np.union1d(left, new), wanted
        if self.session.wants(EVERYBODY) and not self.subscribed.is_set():
            self._start = self._clock()
            self.subscribed.set()
        self._changed.set()

    async def run(self) -> None:
        """Play until the connection closes (`ConnectionClosed`) or the task is cancelled."""
        while True:
            self._changed.clear()
            indices = self._next_block()
            if len(indices):
                await self.send(self._encoded(indices))
                # A client that takes everything at once must not keep the others waiting.
                await asyncio.sleep(0)
            elif self._position == len(self._pending):
                await self._changed.wait()
            else:
                next_due = self._tape.due[self._pending[self._position]] / self._speed
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._start + next_due - self._clock()):
                        await self._changed.wait()

    async def send(self, block: bytes) -> None:
        """Write and wait until the client has taken enough of it."""
        async with self._connection.send_context():
            self._connection.transport.write(block)

    def answer(self, text: bytes) -> bytes:
        """A message of our own, with the recorded time where the client asked for it."""
        return wire.block([text], [self._recorded_now] if self._with_clock else None)

    @property
    def _with_clock(self) -> bool:
        return self._connection.subprotocol == recorded_clock.SUBPROTOCOL

    def _next_block(self) -> NDArray[np.int64]:
        """Take the next frames that are due."""
        block = self._pending[self._position : self._position + _MAX_BLOCK_FRAMES]
        if self._speed and len(block):
            elapsed = (self._clock() - self._start) * self._speed
            block = block[: np.searchsorted(self._tape.due[block], elapsed, "right")]
        fits = np.searchsorted(np.cumsum(self._tape.sizes[block]), _MAX_BLOCK_BYTES, "right")
        block = block[: max(int(fits), 1)]
        self._position += len(block)
        if len(block):
            self._recorded_now = int(self._tape.times[block[-1]])
        return block

    def _encoded(self, indices: NDArray[np.int64]) -> bytes:
        frames = [self.session.outgoing(self._tape.frames[index]) for index in indices.tolist()]
        return wire.block(frames, self._tape.times[indices].tolist() if self._with_clock else None)


class ReplayServer:
    """The servers of one recorded exchange. `speed`: 1 plays as recorded, N times faster, 0 as fast as it is read."""

    def __init__(self, recording: Recording, speed: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._exchange = recording.exchange
        self._session = SESSIONS[recording.exchange]
        self._symbols = frozenset(recording.symbols)
        self._tape = Tape(recording, self._session)
        self._speed = speed
        self._clock = clock
        self._players: set[Player] = set()
        #: Sent and total of the connection that has come furthest; a reconnect does not set it back.
        self._furthest = (0, len(self._tape.frames))
        self._finished_once = False
        self._rest = {_rest_key(URL(target, encoded=True)): body for target, body in recording.rest.items()}
        application = aiohttp.web.Application()
        application.router.add_get("/{path:.*}", self._serve_rest)
        self._servers = LoopbackServers(self._serve_connection, application, self._session, recorded_clock.SUBPROTOCOL)

    def __repr__(self) -> str:
        sent, total = self._furthest
        return f"<ReplayServer {self._exchange} {sent}/{total} frames, {len(self._players)} connections>"

    async def start(self) -> tuple[str, str]:
        """Listen; returns the addresses, WebSocket and REST."""
        return await self._servers.open()

    async def stop(self) -> None:
        await self._servers.close()

    def progress(self) -> dict[str, int | bool]:
        """`frames` and `sent` are those of the connection that has come furthest (all frames of the recording
        before there is one); `finished`: some connection got all it subscribed to and none is still playing."""
        for player in self._players:
            self._note(player)
        sent, total = self._furthest
        playing = any(player.subscribed.is_set() and not player.finished for player in self._players)
        finished = self._finished_once and not playing
        return {"frames": total, "sent": sent, "connections": len(self._players), "finished": finished}

    def _note(self, player: Player) -> None:
        self._finished_once |= player.finished
        if player.subscribed.is_set() and player.sent >= self._furthest[0]:
            self._furthest = (player.sent, player.total)

    async def _serve_connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        session = self._session(connection.request.path, self._symbols)
        player = Player(self._tape, session, connection, self._speed, self._clock)
        self._players.add(player)
        try:
            player.resubscribe()
            async with asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(_until_closed(player))
                waiting = tasks.create_task(_hang_up_without_subscription(player, connection))
                with suppress(ConnectionClosed):
                    async for message in connection:
                        answer = session.receive(message)
                        await player.send(player.answer(answer))
                        player.resubscribe()
                playing.cancel()
                waiting.cancel()
        finally:
            self._note(player)
            self._players.discard(player)

    async def _serve_rest(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = self._rest.get(_rest_key(request.rel_url))
        return aiohttp.web.Response(
            status=404 if body is None else 200,
            body=self._session.not_found if body is None else body,
            content_type="application/json",
            charset="utf-8",
        )


def _rest_key(url: URL) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Path and query, whatever the order of the parameters."""
    return url.path, tuple(sorted(url.query.items()))


async def _until_closed(player: Player) -> None:
    with suppress(ConnectionClosed):
        await player.run()


async def _hang_up_without_subscription(player: Player, connection: ServerConnection) -> None:
    seconds = type(player.session).subscribe_within_s
    try:
        async with asyncio.timeout(seconds):
            await player.subscribed.wait()
    except TimeoutError:
        await connection.close(_POLICY_VIOLATION, f"no subscription within {seconds:g} s")
