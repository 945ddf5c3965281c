"""What `rayfeed doctor` says: one finding per check, with what to do about it, and a verdict over all of them. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from rich.console import Group
from rich.table import Table
from rich.text import Text

State = Literal["ok", "warning", "wrong"]

_BADNESS: Final[tuple[State, ...]] = get_args(State)
_MARKS: Final[dict[State, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "wrong": ("✗", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`area` groups checks (ports, disk, feeds ...); `remedy` is what a person can do, "" where all is well."""

    area: str
    check: str
    state: State
    found: str
    remedy: str = ""


def ok(area: str, check: str, found: str) -> Finding:
    return Finding(area, check, "ok", found)


def warning(area: str, check: str, found: str, remedy: str) -> Finding:
    return Finding(area, check, "warning", found, remedy)


def wrong(area: str, check: str, found: str, remedy: str) -> Finding:
    return Finding(area, check, "wrong", found, remedy)


def worst(findings: Iterable[Finding]) -> State:
    return max((one.state for one in findings), key=_BADNESS.index, default="ok")


def without_doubles(findings: Sequence[Finding]) -> list[Finding]:
    """That a server cannot be reached from here says no more than that the instance cannot reach it."""
    away = {one.check.split()[0] for one in findings if (one.area, one.state) == ("sinks", "wrong")}
    return [
        one
        for one in findings
        if (one.area, one.state) != ("reachability", "wrong") or one.check.split()[0] not in away
    ]


def verdict(findings: Sequence[Finding]) -> str:
    """One line: how many things are wrong, and what to do first."""
    bad = [one for one in findings if one.state == "wrong"]
    odd = [one for one in findings if one.state == "warning"]
    if not bad and not odd:
        return "All is well."
    parts = [_counted(len(bad), "is wrong", "are wrong")] if bad else ["Nothing is wrong"]
    if odd:
        parts.append(_counted(len(odd), "is worth a look", "are worth a look"))
    first = (bad or odd)[0]
    return f"{', '.join(parts)}. First, {first.check}: {first.remedy}"


def as_dict(findings: Sequence[Finding], running: bool) -> dict[str, Any]:
    """What --json prints: `running`, `state` (the worst), `verdict` and `findings`."""
    rows = [
        {"area": one.area, "check": one.check, "state": one.state, "found": one.found, "remedy": one.remedy}
        for one in findings
    ]
    return {"running": running, "state": worst(findings), "verdict": verdict(findings), "findings": rows}


def shown(findings: Sequence[Finding], heading: str) -> Group:
    """For the terminal: by area, what is wrong with its remedy below it, the verdict last."""
    rows = Table.grid(padding=(0, 2, 0, 0), expand=False)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, style="bold")
    rows.add_column(overflow="fold")
    for area in dict.fromkeys(one.area for one in findings):
        rows.add_row("", Text(area, style="dim"), "")
        for one in (one for one in findings if one.area == area):
            mark, style = _MARKS[one.state]
            rows.add_row(Text(mark, style=style), Text(one.check), _told(one, style))
    # Text, not markup: a symbol or an error may hold brackets.
    return Group(Text(heading, style="dim"), "", rows, "", Text(verdict(findings), style=_MARKS[worst(findings)][1]))


def _told(one: Finding, style: str) -> Text:
    told = Text(one.found, style="" if one.state == "ok" else style.removeprefix("bold "))
    if one.remedy:
        told.append(f"\n→ {one.remedy}", style="default")
    return told


def _counted(number: int, one: str, many: str) -> str:
    return f"1 thing {one}" if number == 1 else f"{number} things {many}"


def limited(findings: Iterable[Finding], most: int, rest: str) -> list[Finding]:
    """The first `most` of them; the others as one line, in the worst of their states."""
    every = list(findings)
    left = every[most:]
    if not left:
        return every
    more = Finding(left[0].area, f"{len(left)} more", worst(left), rest, "rayfeed status lists them all")
    return [*every[:most], more]
