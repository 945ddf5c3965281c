"""What a benchmark reports, and the one table in which all reports are shown.

Numbers mean little on a shared machine, so a row sets ours beside a peer's from the same run and states the
bound it has to keep.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table


class UnavailableError(Exception):
    """Something a benchmark needs is missing; the message says what to install or set."""


@dataclass(frozen=True)
class Bound:
    """What has to hold; parts that are None do not matter."""

    at_least: float | None = None
    at_most: float | None = None
    #: Ours divided by the peer's has to reach this.
    ratio_at_least: float | None = None

    def held(self, ours: float, ratio: float | None) -> bool:
        """Whether `ours`, and its ratio to the peer's, are within the bound."""
        return (
            (self.at_least is None or ours >= self.at_least)
            and (self.at_most is None or ours <= self.at_most)
            and (self.ratio_at_least is None or (ratio is not None and ratio >= self.ratio_at_least))
        )

    def __str__(self) -> str:
        parts = [
            None if self.at_least is None else f"≥ {number(self.at_least)}",
            None if self.at_most is None else f"≤ {number(self.at_most)}",
            None if self.ratio_at_least is None else f"≥ {self.ratio_at_least:g} x",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Row:
    """One measurement, in `unit`; `ours` is None where it could not be taken and `note` says why."""

    name: str
    ours: float | None
    unit: str = ""
    peer: float | None = None
    peer_name: str = ""
    bound: Bound = field(default_factory=Bound)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return None if self.ours is None or not self.peer else self.ours / self.peer

    @property
    def held(self) -> bool | None:
        """Whether the bound held; None where there is no bound or no measurement."""
        if self.ours is None or self.bound == Bound():
            return None
        return self.bound.held(self.ours, self.ratio)


def number(value: float | None) -> str:
    """A number as people read it: 1,234,567 or 12.3."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(rows: Iterable[Row], console: Console) -> None:
    """Print the table."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("benchmark", "ours", "peer", "unit", "ratio", "bound", "held", "note"):
        numeric = title in ("ours", "ratio")
        table.add_column(title, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            number(row.ours),
            f"{number(row.peer)} {row.peer_name}".strip(),
            row.unit,
            "" if row.ratio is None else f"{row.ratio:.3g} x",
            str(row.bound),
            {True: "[green]yes", False: "[red]NO", None: ""}[row.held],
            row.note,
        )
    console.print(table)
