"""The socket side of a collector: frames are only appended to a list, with the time of the read that brought them, and
the socket is not read while that list, or what waits behind it, is full. Memory is bounded whatever the exchange sends.
"""

from collections.abc import Callable
from itertools import repeat
from time import time_ns
from typing import Any, Final

import numpy as np
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from actors import recorded_clock

# Looked up once, not for every frame.
_TEXT: Final = WSMsgType.TEXT

Times = np.ndarray[Any, np.dtype[np.int64]]


class FrameReceiver(WSListener):
    """Gathers text frames until `take`; `arrived` is called after every read that brought some."""

    def __init__(self, max_frames: int, max_bytes: int, max_message_bytes: int, arrived: Callable[[], None]) -> None:
        self._arrived = arrived
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._fragments: list[bytes] = []
        self._begin()
        self._transport: WSTransport | None = None
        self._reading = True
        self._held = False
        self._left = False
        self.pauses = 0
        #: Of the frames that were taken last.
        self.taken_bytes = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._left:
            transport.disconnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # The hot path, for every frame there is: all else waits for the end of the read.
        if frame.msg_type is _TEXT and frame.fin:
            self._append(frame.get_payload_as_bytes())
        else:
            self._take_other(transport, frame)
        if frame.last_in_buffer:
            self._stamp(time_ns())
            self._arrived()
            self._rest_when_full()

    @property
    def waiting(self) -> tuple[int, int]:
        """Frames and bytes not yet taken."""
        return len(self._frames), self._bytes

    def take(self) -> tuple[list[bytes], Times]:
        """What came since the last call; the socket is read again unless held."""
        self._stamp(time_ns())
        frames, times, waited = self._frames, self._times, self._bytes
        self._begin()
        # What has begun stays.
        self.taken_bytes = waited - self._bytes
        self._read(not self._held)
        return frames, np.array(times, np.int64)

    def hold(self, held: bool) -> None:
        """While held the socket is not read: what is behind us is full."""
        self._held = held
        self._read(not held and not self._is_full())

    def leave(self) -> None:
        """Disconnect, at once or when connected: picows goes on with a handshake nobody waits for any more."""
        self._left = True
        if self._transport is not None:
            self._transport.disconnect()

    def _begin(self) -> None:
        self._frames: list[bytes] = []
        self._times: list[int] = []
        self._bytes = sum(map(len, self._fragments))
        self._append = self._frames.append

    def _stamp(self, t_ns: int) -> None:
        """Give the frames that have no time yet this one."""
        new = len(self._frames) - len(self._times)
        if new:
            self._times.extend(repeat(t_ns, new))
            self._bytes += sum(map(len, self._frames[-new:]))

    def _take_other(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is _TEXT or kind is WSMsgType.CONTINUATION:
            self._fragments.append(frame.get_payload_as_bytes())
            self._bytes += len(self._fragments[-1])
            if frame.fin:
                self._append(b"".join(self._fragments))
                self._bytes -= len(self._frames[-1])
                self._fragments.clear()
            elif sum(map(len, self._fragments)) > self._max_message_bytes:
                # A message without an end would grow for ever, and nobody takes it before it ends.
                transport.disconnect()
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _is_full(self) -> bool:
        return len(self._frames) >= self._max_frames or self._bytes >= self._max_bytes

    def _rest_when_full(self) -> None:
        if self._is_full():
            self._read(False)

    def _read(self, reading: bool) -> None:
        if self._transport is None or self._transport.is_disconnected or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._transport.underlying_transport.resume_reading()
        else:
            self.pauses += 1
            self._transport.underlying_transport.pause_reading()


class RecordedFrameReceiver(FrameReceiver):
    """Gathers the frames of a replay with the times they were recorded at; see `actors.recorded_clock`."""

    def __init__(self, max_frames: int, max_bytes: int, max_message_bytes: int, arrived: Callable[[], None]) -> None:
        super().__init__(max_frames, max_bytes, max_message_bytes, arrived)
        self._recorded_ns = 0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.BINARY:
            # What came before it was recorded at the time before it.
            self._stamp(0)
            self._recorded_ns = recorded_clock.decode(frame.get_payload_as_bytes())
            self._arrived()
            self._rest_when_full()
        else:
            super().on_ws_frame(transport, frame)

    def _stamp(self, t_ns: int) -> None:
        super()._stamp(self._recorded_ns)
