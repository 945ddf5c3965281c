"""How a replay tells its receiver when a frame was first received.

A client that offers the WebSocket subprotocol `SUBPROTOCOL` gets a binary frame of 8 bytes before each text
frame: the recorded receive time, int64 nanoseconds UTC, little-endian. Without it nothing is added.
"""

from typing import Final

SUBPROTOCOL: Final = "rayfeed-recorded-clock"

#: What a client adds to its opening handshake.
HEADERS: Final = {"Sec-WebSocket-Protocol": SUBPROTOCOL}


def encode(t_ns: int) -> bytes:
    """The payload that announces a frame received at `t_ns`; OverflowError outside int64."""
    return t_ns.to_bytes(8, "little", signed=True)


def decode(payload: bytes) -> int:
    """The time in a payload of `encode`; ValueError when it is not 8 bytes."""
    if len(payload) != 8:
        raise ValueError(f"a recorded time has 8 bytes, not {len(payload)}")
    return int.from_bytes(payload, "little", signed=True)
