"""Reads the texts exchanges write times, numbers and ids as, whole columns at a time; what is unreadable is marked."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.feeds.columns import NO_TIME, Floats, Times

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def times(values: Times, per_second: int) -> Times:
    """Times since the epoch in `per_second`ths of a second (int64) as int64 ns, `NO_TIME` where out of range."""
    usable = (values >= 946_684_800 * per_second) & (values < 4_102_444_800 * per_second)
    return np.where(usable, values, NO_TIME) * (1_000_000_000 // per_second)


def iso_times(texts: list[str]) -> Times:
    """ISO 8601 times with a zone, to the nanosecond, as int64 ns; `NO_TIME` where unreadable or out of range."""
    try:
        nanoseconds = pa.array(texts, pa.string()).cast(pa.timestamp("ns", "UTC"))
    except (pa.ArrowInvalid, UnicodeEncodeError):
        if len(texts) == 1:
            return np.array([NO_TIME])
        middle = len(texts) // 2
        return np.concatenate([iso_times(texts[:middle]), iso_times(texts[middle:])])
    return times(nanoseconds.view(pa.int64()).to_numpy(), 1_000_000_000)


_SECONDS = re.compile(r"(\d{9,10})(?:\.(\d{1,9})\d*)?", re.ASCII)


def second_times(texts: Sequence[str]) -> Times:
    """Seconds since the epoch as text ("1618678133.365913") as int64 ns, exactly; `NO_TIME` where unreadable."""
    found = map(_SECONDS.fullmatch, texts)
    whole = [int(match[1]) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0")) if match else 0 for match in found]
    # Ten digits are more than fits 64 bits, and far out of range.
    return times(np.array([min(value, 2**63 - 1) for value in whole], np.int64), 1_000_000_000)


def numbers(texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Numbers as text: their values (NaN where unreadable) and how many digits follow the point (-1 where the text
    has an exponent or is not a plain number)."""
    if len(texts) >= _MANY and (plain := _plain_numbers(texts)) is not None:
        return plain
    values = np.empty(len(texts))
    decimals = np.empty(len(texts), np.int8)
    for index, text in enumerate(texts):
        match = _PLAIN_NUMBER.fullmatch(text)
        if match:
            values[index] = float(text)
            decimals[index] = min(len(match[1] or ""), 127)
        else:
            values[index] = float(text) if _EXPONENT_NUMBER.fullmatch(text) else np.nan
            decimals[index] = -1
    return values, decimals


#: From here on it pays to read all texts at once.
_MANY = 64
_LONGEST_PLAIN = 40


def _plain_numbers(texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int8]] | None:
    """As `numbers`, of texts that are all digits with at most one point between them; None where one is not."""
    joined = "\0".join((*texts, ""))
    if not joined.isascii():
        return None
    text = np.frombuffer(joined.encode(), np.uint8)
    end = np.flatnonzero(text == 0)
    if len(end) != len(texts):
        return None
    start = np.concatenate([[0], end[:-1] + 1])
    is_digit = (text >= ord("0")) & (text <= ord("9"))
    is_point = text == ord(".")
    points = np.add.reduceat(is_point, start, dtype=np.int64)
    between = is_digit[start] & is_digit[end - 1] & (end - start <= _LONGEST_PLAIN) & (points <= 1)
    if not between.all() or not (is_digit | is_point | (text == 0)).all():
        return None
    decimals = np.zeros(len(texts), np.int8)
    decimals[points == 1] = end[points == 1] - 1 - np.flatnonzero(is_point)
    return pa.array(texts, pa.string()).cast(pa.float64()).to_numpy().copy(), decimals


_PLAIN_NUMBER = re.compile(r"-?\d{1,400}(?:\.(\d{1,400}))?", re.ASCII)

_EXPONENT_NUMBER = re.compile(r"-?\d{1,400}(?:\.\d{1,400})?[eE][+-]?\d{1,3}", re.ASCII)


def order_ids(texts: list[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """UUIDs as 16 bytes each (n, 16); a text that is no UUID is not known."""
    known = [_UUID.fullmatch(text) is not None for text in texts]
    content = [text.replace("-", "") if usable else "0" * 32 for text, usable in zip(texts, known, strict=True)]
    return np.frombuffer(bytes.fromhex("".join(content)), np.uint8).reshape(-1, 16), np.array(known, np.bool_)
