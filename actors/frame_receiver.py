"""The socket side of a collector: frames are only appended to a list with their receive time, and the socket is
not read while that list, or what waits behind it, is full. Memory is bounded whatever the exchange sends.
"""

import time
from typing import Any

import numpy as np
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from actors import recorded_clock

Times = np.ndarray[Any, np.dtype[np.int64]]


class FrameReceiver(WSListener):
    """Gathers text frames until `take`. With `recorded`, times come from the replay server's clock."""

    def __init__(self, max_frames: int, max_bytes: int, max_message_bytes: int, recorded: bool) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._max_message_bytes = max_message_bytes
        self._recorded = recorded
        self._recorded_ns = 0
        self._frames: list[bytes] = []
        self._times: list[int] = []
        self._bytes = 0
        self._fragments: list[bytes] = []
        self._transport: WSTransport | None = None
        self._reading = True
        self._held = False
        self.pauses = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.TEXT or kind is WSMsgType.CONTINUATION:
            payload = frame.get_payload_as_bytes()
            self._bytes += len(payload)
            if not frame.fin or self._fragments:
                self._fragments.append(payload)
                if not frame.fin:
                    # A message without an end would grow for ever, and nobody takes it before it ends.
                    if sum(map(len, self._fragments)) > self._max_message_bytes:
                        transport.disconnect()
                    return
                payload = b"".join(self._fragments)
                self._fragments.clear()
            self._frames.append(payload)
            self._times.append(self._recorded_ns if self._recorded else time.time_ns())
            self._stop_reading_when_full()
        elif kind is WSMsgType.BINARY and self._recorded:
            self._recorded_ns = recorded_clock.decode(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    @property
    def waiting(self) -> tuple[int, int]:
        """Frames and bytes not yet taken."""
        return len(self._frames), self._bytes

    def take(self) -> tuple[list[bytes], Times]:
        """What came since the last call; the socket is read again unless held."""
        frames, times = self._frames, self._times
        self._frames, self._times, self._bytes = [], [], sum(map(len, self._fragments))
        self._read(not self._held)
        return frames, np.array(times, np.int64)

    def hold(self, held: bool) -> None:
        """While held the socket is not read: what is behind us is full."""
        self._held = held
        self._read(not held and len(self._frames) < self._max_frames and self._bytes < self._max_bytes)

    def _stop_reading_when_full(self) -> None:
        if len(self._frames) >= self._max_frames or self._bytes >= self._max_bytes:
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
