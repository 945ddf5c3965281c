"""Frames as no exchange should send them, made from good ones; the same seed makes the same frames.

    for frame in mutated(recording.connection.frames, count=20_000, seed=1): ...

Two in ten come out unchanged, so that a feed also has to go on after bad ones. `checks.survives` feeds them to a
feed and checks what must hold.
"""

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

_DIGITS = re.compile(rb"[0-9]+")

#: What stands in place of a value: wrong types, numbers that fit nowhere, texts that are no numbers.
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0,
    1e-320, "", " ", "0", "-0", "-1", "nan", "NaN", "inf", "-Infinity", "1e999", "1e-999", "0x10", "1_000", "١", "0.1e",
    "+1", "1" * 400, "0." + "0" * 300 + "1", "null", "true", "BTC", "\ud800", "\x00", "é" * 50, "x" * 5000,
    [], {}, [[]], [None], ["1", "2"], [1, 2], [["1"]], [["1", "2"]] * 500, {"a": 1}, {"e": "trade"}, {"type": "match"},
)  # fmt: skip

_PIECES: tuple[bytes, ...] = (
    b"", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b'"', b"\\", b"\\u0000", b"\\ud800", b",", b"[", b"]", b"{", b"}",
    b"null", b"1e999", b"-", b"9" * 400, b"NaN", b"Infinity", b'"a":1,', b" ", b"\n", b"@",
    b"[" * 3000, b'{"a":' * 3000,
)  # fmt: skip

_NUMBERS = (b"0", b"00", b"-1", b"1.5", b"1e9", b"9" * 18, b"9" * 19, b"9" * 400, b".", b"0.0", b"")

_Mutation = Callable[[bytes, random.Random], bytes]


def distinct(frames: Sequence[bytes], of_each: int = 5) -> list[bytes]:
    """A few frames of each kind (equal beginnings but for numbers), so that rare ones are mutated as often."""
    kinds: dict[bytes, list[bytes]] = {}
    for frame in frames:
        kind = kinds.setdefault(_DIGITS.sub(b"0", frame[:200])[:120], [])
        if len(kind) < of_each:
            kind.append(frame)
    return list(chain.from_iterable(kinds.values()))


def mutated(frames: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` frames, most of them mutated, made from these."""
    randomness = random.Random(seed)
    kept = distinct(frames)
    for _ in range(count):
        frame = randomness.choice(kept)
        for _ in range(randomness.choice((0, 0, 1, 1, 1, 1, 1, 1, 2, 4))):
            frame = randomness.choice(_MUTATIONS)(frame, randomness)
        yield frame


def _span(frame: bytes, randomness: random.Random) -> tuple[int, int]:
    start = randomness.randint(0, len(frame))
    return start, min(len(frame), start + randomness.choice((1, 1, 2, 3, 8, 40)))


def _flip_a_bit(frame: bytes, randomness: random.Random) -> bytes:
    if not frame:
        return frame
    changed = bytearray(frame)
    changed[randomness.randrange(len(frame))] ^= 1 << randomness.randrange(8)
    return bytes(changed)


def _insert(frame: bytes, randomness: random.Random) -> bytes:
    at = randomness.randint(0, len(frame))
    return frame[:at] + randomness.choice(_PIECES) + frame[at:]


def _overwrite(frame: bytes, randomness: random.Random) -> bytes:
    start, end = _span(frame, randomness)
    return frame[:start] + randomness.choice((randomness.randbytes(end - start), *_PIECES)) + frame[end:]


def _delete(frame: bytes, randomness: random.Random) -> bytes:
    start, end = _span(frame, randomness)
    return frame[:start] + frame[end:]


def _swap(frame: bytes, randomness: random.Random) -> bytes:
    a, b, c, d = sorted(randomness.randint(0, len(frame)) for _ in range(4))
    return frame[:a] + frame[c:d] + frame[b:c] + frame[a:b] + frame[d:]


def _truncate(frame: bytes, randomness: random.Random) -> bytes:
    return frame[: randomness.randint(0, len(frame))]


def _repeat(frame: bytes, randomness: random.Random) -> bytes:
    start, end = _span(frame, randomness)
    return frame[:end] + frame[start:end] * randomness.choice((1, 2, 100)) + frame[end:]


def _join(frame: bytes, randomness: random.Random) -> bytes:
    return frame + randomness.choice((b"", b"\n", b",", b" ")) + frame


def _change_digits(frame: bytes, randomness: random.Random) -> bytes:
    numbers = list(_DIGITS.finditer(frame))
    if not numbers:
        return frame
    number = randomness.choice(numbers)
    digits = randomness.choice(
        (b"0", b"00", b"-1", b"1.5", b"1e9", b"9" * 18, b"9" * 19, b"9" * 400, b".", b"0.0", b"")
    )
    return frame[: number.start()] + digits + frame[number.end() :]


def _change_the_tree(frame: bytes, randomness: random.Random) -> bytes:
    """One place of the JSON replaced, removed, renamed, repeated or exchanged with another."""
    try:
        tree = json.loads(frame)
        places = list(_places(tree))
        if not places:
            return json.dumps(randomness.choice(_VALUES)).encode()
        holder, key = randomness.choice(places)
        match randomness.randrange(6):
            case 0 | 1 | 2:
                holder[key] = randomness.choice(_VALUES)
            case 3:
                del holder[key]
            case 4:
                other, other_key = randomness.choice(places)
                if not _holds(holder[key], other) and not _holds(other[other_key], holder):
                    holder[key], other[other_key] = other[other_key], holder[key]
            case _:
                if isinstance(holder, dict):
                    holder[randomness.choice(("x", key.upper(), key + "s"))] = holder[key]
                else:
                    holder.insert(key, holder[key])
        return json.dumps(tree, separators=(",", ":"), ensure_ascii=randomness.random() < 0.5).encode()
    except (ValueError, RecursionError):
        # No JSON any more after a mutation before this one, or nothing UTF-8 can hold.
        return frame


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a value below the top, of long arrays only the first and the last."""
    keys: list[Any] = []
    if isinstance(tree, dict):
        keys = list(tree)
    elif isinstance(tree, list):
        keys = sorted({*range(min(len(tree), 8)), *range(max(len(tree) - 2, 0), len(tree))})
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _holds(tree: Any, holder: Any) -> bool:
    return tree is holder or any(one is holder for one, _ in _places(tree))


_MUTATIONS: tuple[_Mutation, ...] = (
    _flip_a_bit, _insert, _overwrite, _delete, _swap, _truncate, _repeat, _join, _change_digits, _change_digits,
    *[_change_the_tree] * 8,
)  # fmt: skip
