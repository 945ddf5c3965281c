"""Writes WebSocket messages of a server as bytes, many in one block.

`websockets` sends a message at a time; a block goes to the socket in one write, which is what lets one core send
hundreds of thousands of frames a second.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from actors import recorded_clock

_FINAL_TEXT: Final = 0x81
_FINAL_BINARY: Final = 0x82
_CLOCK_HEADER: Final = bytes((_FINAL_BINARY, 8))


def block(frames: Sequence[bytes], times: Iterable[int] | None = None) -> bytes:
    """The frames as unmasked text messages, each after its recorded time (ns) where `times` are given."""
    headers = [_text_header(len(frame)) for frame in frames]
    if times is None:
        return b"".join(chain.from_iterable(zip(headers, frames, strict=True)))
    clocks = [_CLOCK_HEADER + recorded_clock.encode(t_ns) for t_ns in times]
    return b"".join(chain.from_iterable(zip(clocks, headers, frames, strict=True)))


@lru_cache(maxsize=4096)
def _text_header(length: int) -> bytes:
    """RFC 6455 section 5.2."""
    if length < 126:
        return bytes((_FINAL_TEXT, length))
    if length < 1 << 16:
        return struct.pack(">BBH", _FINAL_TEXT, 126, length)
    return struct.pack(">BBQ", _FINAL_TEXT, 127, length)
