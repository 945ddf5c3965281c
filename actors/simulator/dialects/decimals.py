"""Whole steps as the decimal texts exchanges write, and the numbers of a query."""

from functools import lru_cache
from typing import Final

#: Of a query: more digits than a time or an id has are no number.
_LONGEST: Final = 18


@lru_cache(maxsize=1 << 16)
def fixed(steps: int, decimals: int) -> str:
    """`steps` of 10**-decimals with all decimals: 150, 2 -> 1.50."""
    if decimals <= 0:
        return str(steps * 10**-decimals)
    whole, part = divmod(steps, 10**decimals)
    return f"{whole}.{part:0{decimals}d}"


@lru_cache(maxsize=1 << 16)
def javascript(steps: int, decimals: int) -> str:
    """As JavaScript writes a number: 1.5, 63000, 1.5e-7."""
    digits, exponent = _scientific(steps, decimals)
    if exponent < -6:
        return f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{exponent}"
    text = fixed(steps, decimals)
    return text.rstrip("0").removesuffix(".") if "." in text else text


@lru_cache(maxsize=1 << 16)
def erlang(steps: int, decimals: int) -> str:
    """As Erlang writes a float, in the shorter of two ways: 63000.5, 10.0, 6.3e4, 1.0002e6."""
    digits, exponent = _scientific(steps, decimals)
    scientific = f"{digits[0]}.{digits[1:] or '0'}e{exponent}"
    text = fixed(steps, decimals)
    whole, _, part = text.partition(".")
    text = f"{whole}.{part.rstrip('0') or '0'}"
    return text if len(text) <= len(scientific) else scientific


def whole(text: str) -> int:
    """A number of a query; ValueError for what is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        raise ValueError(f"no whole number: {text[:_LONGEST]!r}")
    return int(text)


def _scientific(steps: int, decimals: int) -> tuple[str, int]:
    """The digits that count, and the exponent of the first."""
    text = str(steps)
    return text.rstrip("0") or "0", len(text) - 1 - decimals if steps else 0
