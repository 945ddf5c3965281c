"""Lists of frames to lists of events, one event a frame, whatever a frame holds.

A frame that does not decode costs itself only: it gets one careful second look by the feed and is otherwise
named with its reason, while the frames around it keep their places.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

# What msgspec raises: not the JSON we expect, not UTF-8, nested too deep to follow.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_each[Frame, Event, Rare](
    decode: Callable[[Frame], Event],
    look_again: Callable[[Frame], Rare],
    frames: Sequence[Frame],
) -> tuple[list[Event | Rare | None], dict[int, str]]:
    """Decode every frame; `look_again` is asked where `decode` refuses.

    Returns one event per frame, None where both refused, and the reasons by position. Decoding frame by frame
    instead of as one joined text is as fast and leaves no way for a frame to reach into its neighbour.
    """
    events: list[Event | Rare | None] = []
    reasons: dict[int, str] = {}
    decoded = map(decode, frames)
    while len(events) < len(frames):
        try:
            # What was appended before the exception stays, and the iterator goes on after the bad frame.
            events.extend(decoded)
        except _UNREADABLE:
            at = len(events)
            try:
                events.append(look_again(frames[at]))
            except _UNREADABLE as error:
                events.append(None)
                reasons[at] = str(error)
    return events, reasons


def positions_by_type(events: Sequence[object]) -> dict[type, list[int]]:
    """Where the events of each type are, in order."""
    positions: dict[type, list[int]] = {}
    for at, kind in enumerate(map(type, events)):
        if kind in positions:
            positions[kind].append(at)
        else:
            positions[kind] = [at]
    return positions


def without_blanks(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something: exchanges write "" or null for a price that does not exist."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}
