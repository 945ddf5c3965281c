"""What a shard must not forget about its trades besides the files: gap rows, what merged trades stand for, and
checkpoints that keep a start from reading every day. What of it survives: see `storage.record_log`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from storage.record_log import RecordLog, read_records


@dataclass(frozen=True, slots=True)
class Gap:
    """One row of `storage.schema.GAPS`, and of which exchange."""

    exchange: str
    symbol: str
    gap_id: int
    first_id: int | None
    last_id: int | None
    from_ns: int
    to_ns: int
    missing: int | None
    opened: int
    reason: str
    attempts: int = 0
    backfilled: int = 0
    closed: int | None = None
    evidence: str = ""
    revision: int = 0


class Merged(msgspec.Struct, frozen=True):
    """Trades of a symbol that stand for several, as in `storage.schema.MERGED`. Those that are in no file mean
    nothing."""

    exchange: str
    symbol: str
    ids: list[int]
    fills: list[int]


class Checkpoint(msgspec.Struct, frozen=True):
    """What the files of a symbol held at `at_ns` (wall clock, ns): days that did not change since `changed_ns` need no
    reading, unless there are other than `rows` in all and no day says so: clocks are set back.

    Stored are the ids `first_id..through_id` but for `missing` (first and last of each range, one after another);
    `surplus` of them are in the files only as part of a merged trade. Both ids are null before the first live trade,
    and where the exchange does not count its trades.
    """

    exchange: str
    symbol: str
    proof: Literal["ids", "numbered", "recent", "none"]
    at_ns: int
    changed_ns: int
    first_id: int | None
    through_id: int | None
    missing: list[int]
    surplus: int
    merging: bool
    first_ns: int
    last_ns: int
    last_gap_id: int
    gaps_closed: int
    doubled: int
    since: int
    rows: int | None = None
    #: Days since the epoch before this one went by `columns_policy`, whatever it says since.
    kept_from: int = 0


Record = Gap | Merged | Checkpoint


class _Line(msgspec.Struct, omit_defaults=True):
    gap: Gap | None = None
    merged: Merged | None = None
    checkpoint: Checkpoint | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Line).decode


class LedgerLog(RecordLog[Record]):
    """The log `path`, made when it is not there; one process writes it. OSError when the disk fails."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _encoded, _record)


def read_log(path: Path) -> Iterator[Record]:
    """Every intact record of a log that is somebody else's, oldest first."""
    yield from filter(None, read_records(path, _record))


def _encoded(record: Record) -> bytes:
    match record:
        case Gap():
            line = _Line(gap=record)
        case Merged():
            line = _Line(merged=record)
        case Checkpoint():
            line = _Line(checkpoint=record)
    return _encode(line)


def _record(content: bytes) -> Record | None:
    try:
        decoded = _decode(content)
    except msgspec.DecodeError:
        return None
    return decoded.gap or decoded.merged or decoded.checkpoint
