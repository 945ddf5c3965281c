"""The block, unit of a journal file: many events compressed together behind a header that proves them.

A file is nothing but blocks, the last one a closing block without events. A header is (little-endian): magic (8),
version (1), closing (1), zero (2), bytes stored (4), bytes before compression (4), events (4), number of the first
event in the file (8), mask (8), CRC-32 of the stored bytes (4), CRC-32 of the 44 bytes before it (4). The stored bytes
are zstd of: length of the names (4), number of runs (4), the names as JSON `[exchange, [[connection, url], ...]]`, the
runs as u32 triples (source, kind, count), one int64 per event (time less the time before it), one u32 per event (length
of its data), both with their bytes sorted by significance, and the data of all events one after another.

The magic never occurs in stored bytes, whatever an exchange sends: where it would, they are masked with a random
number. So a reader that lost its place finds the next block, and never one that somebody sent us in a frame.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

EventKind = Literal["open", "send", "recv", "close", "rest"]
KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)

#: Its first byte does not come again, so no occurrence can begin in stored bytes and end in the header behind them.
MAGIC: Final = b"\x89RFJ\r\n\x1a\n"
VERSION: Final = 1

#: Longest data of one event, and what a reader is willing to decompress at once.
MAX_EVENT_BYTES: Final = 256 * 1024 * 1024
_MAX_RAW_BYTES: Final = MAX_EVENT_BYTES + 64 * 1024 * 1024

_HEADER: Final = struct.Struct("<8sBBHIIIQQI")
_CRC: Final = struct.Struct("<I")
_SIZES: Final = struct.Struct("<II")
HEADER_BYTES: Final = _HEADER.size + _CRC.size

#: The lowest level with entropy coding: 7 to 12 times smaller at more than 1 GB/s a core on trades and book changes.
_ZSTD: Final = pa.Codec("zstd", 1)
_encode_names: Final = msgspec.json.encode
_decode_names: Final = msgspec.json.Decoder(tuple[str, list[tuple[str, str]]]).decode

Array = npt.NDArray[Any]
Run = tuple[int, int, int]
"""Source, index into `KINDS`, and how many events in a row have both."""


class BadBlock(ValueError):
    """The bytes are not what a writer wrote."""


class Header(NamedTuple):
    """`number` is that of the first event in its file; those a writer had to give up are counted too."""

    version: int
    closing: bool
    stored: int
    raw: int
    events: int
    number: int
    mask: int
    crc: int


@dataclass(frozen=True, slots=True)
class JournalBlock:
    """Events in the order they were written, as columns of the same length.

    `t_ns`: int64 ns UTC. `kinds`: u8, index into `KINDS`. `sources`: u32, index into `connections` and `urls`.
    `ends`: int64; the data of event i is `data[ends[i - 1]:ends[i]]`, from 0 for the first.
    """

    exchange: str
    connections: tuple[str, ...]
    urls: tuple[str, ...]
    t_ns: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.uint8]
    sources: npt.NDArray[np.uint32]
    ends: npt.NDArray[np.int64]
    data: bytes


def encode_block(
    number: int,
    exchange: str,
    sources: Sequence[tuple[str, str]],
    runs: Sequence[Run],
    t_ns: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.uint32],
    data: Sequence[bytes],
) -> bytes:
    """Header and stored bytes of events that `sources` (connection, url) and `runs` describe."""
    names = _encode_names((exchange, sources))
    raw = b"".join(
        (
            _SIZES.pack(len(names), len(runs)),
            names,
            np.array(runs, "<u4").tobytes(),
            _by_significance(np.diff(t_ns, prepend=0).astype("<i8")),
            _by_significance(lengths.astype("<u4")),
            *data,
        )
    )
    stored = compressed = _ZSTD.compress(raw, asbytes=True)
    mask = 0
    while MAGIC in stored:
        mask = int.from_bytes(os.urandom(8))
        stored = _masked(compressed, mask)
    return _header(0, len(stored), len(raw), len(t_ns), number, mask, zlib.crc32(stored)) + stored


def closing_block(number: int) -> bytes:
    """The end of a file in which `number` events were numbered."""
    return _header(1, 0, 0, 0, number, 0, zlib.crc32(b""))


def parse_header(content: bytes) -> Header | None:
    """The header at the beginning of `content`; None when there is no intact one."""
    if len(content) < HEADER_BYTES or not content.startswith(MAGIC):
        return None
    if _CRC.unpack_from(content, _HEADER.size)[0] != zlib.crc32(content[: _HEADER.size]):
        return None
    _, version, closing, _, *rest = _HEADER.unpack_from(content)
    return Header(version, bool(closing), *rest)


def decode_block(header: Header, stored: bytes) -> JournalBlock:
    """The events of a block; `BadBlock` says what is wrong with it."""
    if len(stored) != header.stored:
        raise BadBlock("the block is cut off")
    if zlib.crc32(stored) != header.crc:
        raise BadBlock("the checksum does not match")
    if header.raw > _MAX_RAW_BYTES:
        raise BadBlock(f"a block of {header.raw} bytes is larger than any writer makes")
    try:
        raw: bytes = _ZSTD.decompress(_masked(stored, header.mask), header.raw, asbytes=True)
        return _columns(raw, header.events)
    except (OSError, struct.error, msgspec.DecodeError, UnicodeDecodeError, IndexError, ValueError) as error:
        raise BadBlock(f"the block does not hold what its header says ({error})") from None


def _header(closing: int, stored: int, raw: int, events: int, number: int, mask: int, crc: int) -> bytes:
    content = _HEADER.pack(MAGIC, VERSION, closing, 0, stored, raw, events, number, mask, crc)
    return content + _CRC.pack(zlib.crc32(content))


def _columns(raw: bytes, events: int) -> JournalBlock:
    names_bytes, run_count = _SIZES.unpack_from(raw)
    place = _SIZES.size
    exchange, sources = _decode_names(raw[place : place + names_bytes])
    place += names_bytes
    runs = np.frombuffer(raw, "<u4", 3 * run_count, place).reshape(-1, 3)
    place += runs.nbytes
    steps = _from_significance(raw, "<i8", events, place)
    place += steps.nbytes
    lengths = _from_significance(raw, "<u4", events, place)
    place += lengths.nbytes
    data = raw[place:]
    ends = np.cumsum(lengths, dtype=np.int64)
    source, kind, count = runs.T
    fits = (
        int(count.sum(dtype=np.int64)) == events
        and (source < len(sources)).all()
        and (kind < len(KINDS)).all()
        and (int(ends[-1]) if events else 0) == len(data)
    )
    if not fits:
        raise ValueError("lengths differ")
    return JournalBlock(
        exchange,
        tuple(connection for connection, _ in sources),
        tuple(url for _, url in sources),
        np.cumsum(steps),
        np.repeat(kind.astype(np.uint8), count),
        np.repeat(source.astype(np.uint32), count),
        ends,
        data,
    )


def _by_significance(values: Array) -> bytes:
    """All lowest bytes, then all second lowest and so on: the upper ones are nearly all alike."""
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def _from_significance(raw: bytes, dtype: str, count: int, place: int) -> Array:
    size = np.dtype(dtype).itemsize
    planes = np.frombuffer(raw, np.uint8, size * count, place).reshape(size, count)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(count)


def _masked(content: bytes, mask: int) -> bytes:
    """Masks and unmasks."""
    if not mask:
        return content
    words = np.frombuffer(content.ljust(-len(content) // 8 * -8, b"\0"), "<u8") ^ np.uint64(mask)
    return words.tobytes()[: len(content)]
