"""The audit of one symbol on the disk that has its files: what is stored, and what is missing by what its ledger knows.
Whoever asks may be on another host: what goes in and comes out is small.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from storage import audit_files
from storage.audit import Verdict
from storage.column_reader import BeingRewritten, ColumnReader, MissingColumn
from storage.ledger_log import Gap
from storage.ledger_reading import Logged

#: Missing ranges and gaps that are told of one symbol.
TOLD: Final = 3


@dataclass(slots=True)
class Known:
    """What the ledger says of a symbol. `proof` "" says that nobody knows how a missing trade would show."""

    proof: str = ""
    first_id: int | None = None
    #: When the first trade was made, where that is known (ns).
    first_ns: int | None = None
    through_id: int | None = None
    #: Days since the epoch before this one went by the policy of then.
    kept_from: int = 0
    open_gaps: list[Gap] = field(default_factory=list)
    gaps_closed: int = 0
    fills: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of_log(cls, logged: Logged) -> "Known":
        known = cls(open_gaps=logged.open_gaps, gaps_closed=logged.gaps_closed, fills=logged.fills)
        if (checkpoint := logged.checkpoint) is not None:
            known.proof, known.first_id = checkpoint.proof, checkpoint.first_id
            known.first_ns, known.through_id = checkpoint.first_ns, checkpoint.through_id
            known.kept_from = checkpoint.kept_from
        return known


@dataclass(slots=True)
class Row:
    """The audit of one symbol. What cannot be known is None: without counting ids nobody knows how many to expect."""

    exchange: str
    symbol: str
    proof: str
    stored: int = 0
    first_id: int | None = None
    last_id: int | None = None
    expected: int | None = None
    missing: int | None = None
    doubled: int = 0
    #: Rows from before the promise to be complete begins.
    earlier: int = 0
    gaps_open: int = 0
    gaps_closed: int = 0
    #: The first of what is missing, and of the open gaps.
    ranges: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    against: Verdict | None = None
    failure: str = ""
    #: Whose disk has it, where there are several.
    host: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, as far as anybody can tell."""
        wrong = self.missing or self.doubled or self.gaps_open or self.failure
        return not wrong and (self.against is None or self.against.equal)


def count(
    stored: ColumnReader, exchange: str, symbol: str, known: Known, progress: audit_files.Progress = lambda _: None
) -> Row:
    """Count what is stored; `failure` says why where it cannot be read."""
    row = Row(exchange, symbol, known.proof, gaps_open=len(known.open_gaps), gaps_closed=known.gaps_closed)
    try:
        if known.proof == "ids":
            found = audit_files.count_ids(
                stored, exchange, symbol, known.first_id, known.through_id, known.fills, progress
            )
            row.stored, row.first_id, row.last_id = found.rows, found.first_id, found.last_id
            row.expected, row.missing, row.doubled = found.expected, found.missing, found.doubled
            row.earlier = found.earlier
            row.ranges = [f"{hole} ({hole.size:,})" for hole in found.holes[:TOLD]]
            if len(found.holes) > TOLD:
                row.ranges.append(f"{len(found.holes) - TOLD:,} more ranges")
        else:
            counted = audit_files.count_rows(stored, exchange, symbol, progress)
            row.stored, row.doubled = counted.rows, counted.doubled
            ends = (audit_files.oldest(stored, exchange, symbol), audit_files.newest(stored, exchange, symbol))
            row.first_id, row.last_id = (end.id if end else None for end in ends)
    except (BeingRewritten, MissingColumn, OSError) as error:
        row.failure = f"cannot be read: {error}"
    return row
