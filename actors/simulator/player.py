"""Plays a tape to one client: what it subscribed to, at the pace of the replay's clock."""

import asyncio
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection

from actors import recorded_clock
from actors.simulator import wire
from actors.simulator.faults import Faults
from actors.simulator.replay_clock import ReplayClock
from actors.simulator.session import Session
from actors.simulator.tape import Tape

#: A block of frames that goes to the socket in one write ends at either of these.
_MAX_BLOCK_FRAMES: Final = 1000
_MAX_BLOCK_BYTES: Final = 256 * 1024

#: After a subscription the client is given this long (seconds) to send the next one: what it subscribes to in one go
#: comes in recorded order.
SETTLE_S: Final = 0.05


class Player:
    """What one connection still has to get, and sends it."""

    def __init__(
        self, tape: Tape, session: Session, connection: ServerConnection, clock: ReplayClock, faults: Faults
    ) -> None:
        self._tape = tape
        self.session = session
        self._connection = connection
        self._clock = clock
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._settled_at = 0.0
        #: Beats are counted from here.
        self._beat_s: float | None = None
        self._last_beat = self._loop.time()
        self._wanted: frozenset[int] = frozenset()
        self._had: set[int] = set()
        #: Indices into the tape, in order; those before `_position` are sent.
        self._pending = np.array([], np.int64)
        self._position = 0
        self._sent_before = 0
        #: The furthest index that was sent.
        self._reached = -1
        #: The recorded time (ns) this connection has come to.
        self._recorded_now = tape.first_t_ns
        self.subscribed = False

    @property
    def sent(self) -> int:
        return self._sent_before + self._position

    @property
    def total(self) -> int:
        """Frames sent and still to send."""
        return self._sent_before + len(self._pending)

    @property
    def finished(self) -> bool:
        return self.subscribed and self._position == len(self._pending)

    async def greet(self) -> None:
        await self._write(self.session.greeting())
        self.resubscribe()

    async def answer(self, message: str | bytes) -> None:
        """Do what the client's message asks for."""
        await self._faults.spoken()
        # No frame comes in between: what was ended ends, and what begins does so after its answer.
        async with self._connection.send_context():
            self._put_own(self.session.receive(message, self._recorded_now))
            if self.resubscribe():
                self._settled_at = self._loop.time() + SETTLE_S

    def resubscribe(self) -> bool:
        """Take over what the session is subscribed to now; whether that is something new."""
        tape = self._tape
        wanted = tape.wanted(self.session)
        left = self._pending[self._position :]
        left = left[np.isin(tape.stream_numbers[left], list(wanted))]
        added = wanted - self._wanted
        new = [
            tape.positions_again(number, self._reached) if number in self._had else tape.positions(number)
            for number in added
        ]
        self._sent_before, self._position = self.sent, 0
        self._pending, self._wanted = np.sort(np.concatenate([left, *new])), wanted
        self._had |= added
        if self.session.streams:
            self.subscribed = True
            self._clock.start()
        if self.session.beat_s != self._beat_s:
            self._beat_s, self._last_beat = self.session.beat_s, self._loop.time()
        self._changed.set()
        return bool(added)

    async def run(self) -> None:
        """Play until the connection closes (`ConnectionClosed`), the exchange has enough of the client (`HangUp`) or
        the task is cancelled."""
        while True:
            self._changed.clear()
            settling = self._settled_at - self._loop.time()
            if settling <= 0 and await self._write_due():
                # A client that takes everything at once must not keep the others waiting.
                await asyncio.sleep(0)
                continue
            waits = [settling] if settling > 0 else []
            if settling <= 0 and self._position < len(self._pending):
                next_due = int(self._tape.due[self._pending[self._position]])
                waits.append(self._clock.seconds_until(next_due))
            if self._beat_s is not None:
                waits.append(self._last_beat + self._beat_s - self._loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(min(waits, default=None)):
                    await self._changed.wait()
            await self._beat()

    async def _beat(self) -> None:
        if self._beat_s is not None and self._loop.time() >= self._last_beat + self._beat_s:
            self._last_beat = self._loop.time()
            await self._write(self.session.beat(self._recorded_now))

    async def _write_due(self) -> bool:
        """Send the next frames that are due; whether there were any."""
        await self._faults.spoken()
        tape = self._tape
        # Whoever numbers frames must see them in the order they are sent: nothing comes in between.
        async with self._connection.send_context():
            indices = self._next_block()
            if len(indices):
                times = tape.times[indices].tolist()
                frames = [tape.frames[index] for index in indices.tolist()]
                streams = map(tape.streams.__getitem__, tape.stream_numbers[indices].tolist())
                self._put(self.session.outgoing(frames, streams, times), times)
        return len(indices) > 0

    async def _write(self, frames: list[bytes]) -> None:
        await self._faults.spoken()
        async with self._connection.send_context():
            self._put_own(frames)

    def _put_own(self, frames: list[bytes]) -> None:
        """Messages of our own have the recorded time this connection has come to."""
        if frames:
            self._put(frames, [self._recorded_now] * len(frames))

    def _put(self, frames: list[bytes], times: list[int]) -> None:
        if self._faults.dropping:
            kept = self._faults.kept(frames)
            frames, times = [frames[at] for at in kept], [times[at] for at in kept]
        with_clock = self._connection.subprotocol == recorded_clock.SUBPROTOCOL
        self._connection.transport.write(wire.block(frames, times if with_clock else None))
        if not self.session.beats_always:
            self._last_beat = self._loop.time()

    def _next_block(self) -> NDArray[np.int64]:
        """Take the next frames that are due."""
        tape = self._tape
        block = self._pending[self._position : self._position + _MAX_BLOCK_FRAMES]
        block = block[: np.searchsorted(tape.due[block], self._clock.due_ns, "right")]
        fits = np.searchsorted(np.cumsum(tape.sizes[block]), _MAX_BLOCK_BYTES, "right")
        block = block[: max(int(fits), 1)]
        self._position += len(block)
        if len(block):
            self._recorded_now = int(tape.times[block[-1]])
            self._reached = max(self._reached, int(block[-1]))
        return block
