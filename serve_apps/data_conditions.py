"""What a request says beside its query: formats and encodings it takes, what it has already, which bytes it wants."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from serve_apps.asgi import Scope
from serve_apps.data_query import Format
from storage.column_layout import NANOS_PER_DAY
from storage.column_reader import DayState

#: Days that are sealed may still get a late row, rarely: so long somebody may not know of it.
IMMUTABLE_FOR_S: Final = 3600

_MEDIA_TYPES: Final[dict[str, Format]] = {
    "application/octet-stream": "binary",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
}
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


@dataclass(slots=True)
class Conditions:
    """Headers of a request; "" where there is none."""

    accept: str = ""
    accept_encoding: str = ""
    if_none_match: str = ""
    if_range: str = ""
    range: str = ""


_HEADERS: Final = {name.replace("_", "-").encode(): name for name in Conditions.__slots__}


def conditions(scope: Scope) -> Conditions:
    """Those of a request; a header sent twice counts as one list."""
    found = Conditions()
    for name, value in scope["headers"]:
        if name in _HEADERS:
            attribute, text = _HEADERS[name], value.decode("latin-1")
            before = getattr(found, attribute)
            setattr(found, attribute, f"{before},{text}" if before else text)
    return found


def accepted_format(accept: str) -> Format:
    """The format that an Accept header likes best; binary where it names none of them."""
    liked = [(quality, _MEDIA_TYPES[name]) for name, quality in _preferences(accept) if name in _MEDIA_TYPES]
    return max(liked, key=lambda pair: pair[0], default=(0.0, "binary"))[1]


def accepted_encoding[Name: str](accept_encoding: str, known: Iterable[Name]) -> Name | None:
    """The first of `known` that an Accept-Encoding header names as welcome."""
    welcome = {name for name, _ in _preferences(accept_encoding)}
    return next((name for name in known if name in welcome), None)


def etag(query_string: bytes, form: str, encoding: str | None, states: Sequence[DayState]) -> bytes:
    """Another one whenever the answer is: it is made of what was asked and of the state of each day of the range."""
    said = [state[:3] if state.seal is None else (state.day, *state.seal.columns.values()) for state in states]
    opaque = b'"%b%08x"' % (_digest(form, encoding, tuple(said)), zlib.crc32(query_string))
    return opaque if form == "binary" else b"W/" + opaque


@lru_cache(maxsize=4096)
def _digest(form: str, encoding: str | None, said: tuple[tuple[int | str, ...], ...]) -> bytes:
    return hashlib.blake2b(repr((form, encoding, said)).encode(), digest_size=12).hexdigest().encode()


def all_sealed(start_ns: int, end_ns: int, states: Sequence[DayState]) -> bool:
    """Whether each day of the range is stored and sealed."""
    for state in states:
        if state.seal is None:
            return False
    return bool(states) and len(states) == end_ns // NANOS_PER_DAY - start_ns // NANOS_PER_DAY + 1


def byte_range(text: str, length: int) -> tuple[int, int] | None:
    """First and last byte of a body of `length` that a Range header asks for; None where it is none that is answered in
    part (several ranges, another unit). ValueError where the body has none of it."""
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        low, high = max(0, length - int(last)), length - 1
        if int(last) == 0:
            raise ValueError("no byte")
    else:
        low, high = int(first), min(int(last or length - 1), length - 1)
        if last and int(last) < low:
            return None
    if low >= length:
        raise ValueError("beyond the end")
    return low, high


def _preferences(header: str) -> list[tuple[str, float]]:
    """Names with their quality, those with none left out."""
    found = []
    for one in header[:1000].split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        text = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            quality = float(text)
        except ValueError:
            continue
        if 0 < quality <= 1:
            found.append((name, quality))
    return found
