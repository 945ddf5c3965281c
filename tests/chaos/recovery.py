"""How long it takes until all is well again after a fault, by kind."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median


@dataclass(slots=True)
class Recoveries:
    """Times are seconds of one clock. A fault has recovered when everything it harmed is well at some time after its
    end, whatever else went wrong meanwhile: no more is promised than the time given."""

    #: (kind, what was harmed, end of the fault) that have not recovered.
    waiting: list[tuple[str, frozenset[str], float]] = field(default_factory=list)
    took: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def over(self, kind: str, harmed: Iterable[str], at: float) -> None:
        """A fault has ended."""
        self.waiting.append((kind, frozenset(harmed), at))

    def well(self, exchange: str, asked: float, at: float) -> None:
        """Everything at this exchange was well when that was `asked`, as was answered at a time."""
        left = []
        for kind, harmed, end in self.waiting:
            remaining = harmed - {exchange} if end <= asked else harmed
            if remaining:
                left.append((kind, remaining, end))
            else:
                self.took[kind].append(at - end)
        self.waiting = left

    def table(self) -> str:
        """A line for each kind: how many, median and worst in seconds."""
        lines = [f"{'fault':18} {'count':>5} {'median s':>9} {'worst s':>9}"]
        for kind, took in sorted(self.took.items()):
            lines.append(f"{kind:18} {len(took):5} {median(took):9.2f} {max(took):9.2f}")
        every = [one for took in self.took.values() for one in took]
        if every:
            lines.append(f"{'all':18} {len(every):5} {median(every):9.2f} {max(every):9.2f}")
        lines.extend(f"{kind:18} has not recovered: {', '.join(sorted(harmed))}" for kind, harmed, _ in self.waiting)
        return "\n".join(lines)
