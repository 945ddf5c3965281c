"""One connection to a simulated exchange: what its client is subscribed to, and what it gets."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

from actors.simulator import wire
from actors.simulator.faults import Faults
from actors.simulator.session import EVERYBODY, HangUp, Session, Stream

#: Bytes a connection may leave unread before it is cut.
MAX_UNREAD: Final = 32 * 1024 * 1024


class ExchangeClient:
    """`opening` gives what a new subscriber of a stream gets first, `now_ns` the exchange's time."""

    def __init__(
        self,
        connection: ServerConnection,
        session: Session,
        faults: Faults,
        opening: Callable[[Stream], list[bytes]],
        now_ns: Callable[[], int],
    ) -> None:
        self._connection = connection
        self.session = session
        self._faults = faults
        self._opening = opening
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        #: Beats are counted from here.
        self._last_beat = self._loop.time()
        self._had: frozenset[Stream] = frozenset()
        #: Frames that a fault holds until the next one of their stream.
        self._held: dict[Stream, bytes] = {}
        #: Which of the exchange's streams the client wants, by their position.
        self.wanted: NDArray[np.bool_] = np.zeros(0, bool)
        self.sent = 0

    def greet(self, streams: Sequence[Stream]) -> None:
        """Say what the exchange says first; `streams` are all it has."""
        self.look(streams)
        self.say(self.session.greeting())
        self._subscribed(streams)

    def answer(self, message: str | bytes, streams: Sequence[Stream]) -> None:
        """Do what the client asks for. No change of a stream comes between its opening and the subscription."""
        self.say(self.session.receive(message, self._now_ns()))
        self._subscribed(streams)
        self._changed.set()

    def look(self, streams: Sequence[Stream]) -> None:
        """The exchange has other streams than before."""
        self.wanted = np.array([self.session.wants(stream) for stream in streams], bool)

    def end(self, symbol: str) -> None:
        """End all subscriptions of a symbol without a word."""
        self.session.streams = {
            stream: name for stream, name in self.session.streams.items() if stream.symbol != symbol
        }
        self._had = frozenset(self.session.streams)

    def say(self, frames: list[bytes]) -> None:
        """Send messages of the connection's own."""
        self.send(self.formed(frames, [EVERYBODY] * len(frames), None))

    def tell(self, frames: Sequence[bytes], streams: Sequence[Stream], times: Iterable[int]) -> None:
        """Send frames of the exchange's in the form that this client gets them."""
        self.send(self.formed(frames, streams, times))

    @property
    def form(self) -> Any:
        """Clients of the same form that want the same streams get the same; None: nobody gets what this one gets."""
        return None if self._is_harmed else self.session.form

    def formed(
        self, frames: Sequence[bytes], streams: Iterable[Stream], times: Iterable[int] | None
    ) -> tuple[int, bytes]:
        """How many frames go out, and their bytes; without `times` they have their form already."""
        if not self._is_harmed:
            chosen = list(frames) if times is None else self.session.outgoing(list(frames), streams, times)
            return len(chosen), wire.block(chosen)
        # A frame may become none.
        pairs = [
            (form, stream)
            for frame, stream, t_ns in zip(frames, streams, times or [0] * len(frames), strict=True)
            for form in ([frame] if times is None else self.session.outgoing([frame], [stream], [t_ns]))
        ]
        chosen = self._faults.outgoing([form for form, _ in pairs], [stream for _, stream in pairs], self._held)
        return len(chosen), wire.block(chosen)

    def send(self, formed: tuple[int, bytes]) -> None:
        """Send what `formed` gave, here or for a client that gets the same."""
        count, content = formed
        if not count or self._connection.state is not State.OPEN or self._connection.transport.is_closing():
            return
        if self._connection.transport.get_write_buffer_size() > MAX_UNREAD:
            # There is no way to say good-bye to somebody who does not read.
            self._connection.transport.abort()
            return
        self._connection.transport.write(content)
        self.sent += count
        if not self.session.beats_always:
            self._last_beat = self._loop.time()

    async def beat_forever(self) -> None:
        """Show that the exchange lives, until it has enough of the client and ends the connection."""
        beat_s = None
        while True:
            self._changed.clear()
            if self.session.beat_s != beat_s:
                beat_s, self._last_beat = self.session.beat_s, self._loop.time()
            wait = None if beat_s is None else max(self._last_beat + beat_s - self._loop.time(), 0)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            if self.session.beat_s is None or self._loop.time() < self._last_beat + self.session.beat_s:
                continue
            await self._faults.spoken()
            self._last_beat = self._loop.time()
            try:
                self.say(self.session.beat(self._now_ns()))
            except HangUp as goodbye:
                await self._connection.close(goodbye.code, goodbye.reason)
                return

    @property
    def _is_harmed(self) -> bool:
        return self._faults.dropping or bool(self._held)

    def _subscribed(self, streams: Sequence[Stream]) -> None:
        """Open the streams that are new."""
        now = frozenset(self.session.streams)
        added = [stream for stream in self.session.streams if stream not in self._had]
        if now != self._had:
            self._had = now
            self.look(streams)
        for stream in added:
            frames = self._opening(stream)
            self.tell(frames, [stream] * len(frames), [self._now_ns()] * len(frames))
