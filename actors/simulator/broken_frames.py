"""Frames that no exchange sends: for faults that a client must see through. What comes out never says something else
that could be true."""

import re
from random import Random
from typing import Any, Final

import msgspec

#: Where the exchanges write the checksum of a book: Kraken 2 and OKX, Kraken 1, Bitfinex.
_CHECKSUMS: Final = tuple(
    re.compile(pattern) for pattern in (rb'("checksum":)(-?\d+)()', rb'("c":")(\d+)(")', rb'(^\[\d+,"cs",)(-?\d+)()')
)

#: Nothing an exchange says has these in place of a name, a number or a text.
_WRONG: Final[tuple[Any, ...]] = ({}, [], True, [[]], {"": None})


def with_wrong_checksum(frame: bytes) -> bytes | None:
    """The same with another checksum; None for a frame without one."""
    for pattern in _CHECKSUMS:
        changed, count = pattern.subn(lambda found: b"%s%d%s" % (found[1], int(found[2]) ^ 0x5A5A, found[3]), frame, 1)
        if count:
            return changed
    return None


def cut(frame: bytes, random: Random) -> bytes:
    """Its beginning: at least a byte, and never so much that it is whole."""
    return frame[: random.randint(1, max(len(frame) - 1, 1))]


def garbage(frame: bytes, random: Random) -> bytes:
    """As many bytes that mean nothing."""
    return random.randbytes(max(len(frame), 1))


def with_wrong_type(frame: bytes, random: Random) -> bytes:
    """The same with one value of a type that cannot be there."""
    try:
        value = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return garbage(frame, random)
    places: list[tuple[Any, Any]] = []
    _collect(value, places)
    if not places:
        return garbage(frame, random)
    holder, key = random.choice(places)
    holder[key] = random.choice(_WRONG)
    return msgspec.json.encode(value)


def oversized(frame: bytes, size: int) -> bytes:
    """The same with so much room at its end that it has `size` bytes."""
    return frame.ljust(size)


def _collect(value: Any, places: list[tuple[Any, Any]]) -> None:
    """What holds each value that holds no others, and where."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, dict | list):
            _collect(inner, places)
        else:
            places.append((value, key))
