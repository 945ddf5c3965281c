"""What the logs of all shards say of every symbol, for those who look on while shards may write them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storage.ledger_log import Checkpoint, Gap, Merged, Record, read_log


@dataclass(slots=True)
class Logged:
    """One symbol. Without a checkpoint nothing is known but the rows."""

    checkpoint: Checkpoint | None = None
    gaps: dict[int, Gap] = field(default_factory=dict)
    #: How many ids a trade stands for, by its own.
    fills: dict[int, int] = field(default_factory=dict)

    @property
    def open_gaps(self) -> list[Gap]:
        """Oldest first."""
        return sorted((gap for gap in self.gaps.values() if gap.closed is None), key=lambda gap: gap.gap_id)

    @property
    def gaps_closed(self) -> int:
        """A log does not keep old rows for ever, but how many there were."""
        kept = sum(gap.closed is not None for gap in self.gaps.values())
        return kept if self.checkpoint is None else max(kept, self.checkpoint.gaps_closed)


def read_ledgers(folder: Path) -> Mapping[tuple[str, str], Logged]:
    """By (exchange, symbol) what the logs in `folder` hold; a symbol that moved to another shard is in several."""
    return together(record for path in sorted(folder.glob("*.log")) for record in read_log(path))


def together(records: Iterable[Record]) -> dict[tuple[str, str], Logged]:
    """The same of the records of any logs, in any order."""
    found: dict[tuple[str, str], Logged] = {}
    for record in records:
        logged = found.setdefault((record.exchange, record.symbol), Logged())
        match record:
            case Checkpoint():
                if logged.checkpoint is None or logged.checkpoint.at_ns <= record.at_ns:
                    logged.checkpoint = record
            case Gap():
                known = logged.gaps.get(record.gap_id)
                if known is None or known.revision <= record.revision:
                    logged.gaps[record.gap_id] = record
            case Merged():
                logged.fills.update(zip(record.ids, record.fills, strict=True))
    return found


def records_of(exchange: str, symbol: str, logged: Logged) -> list[Record]:
    """What another log has to hold so that the same is known."""
    found: list[Record] = [] if logged.checkpoint is None else [logged.checkpoint]
    if logged.fills:
        found.append(Merged(exchange, symbol, list(logged.fills), list(logged.fills.values())))
    return [*found, *logged.gaps.values()]
