"""Counts how often breakers open, try and close."""

from collections.abc import Callable
from functools import partial
from typing import Final

from actors.metering.meters import Counted

STATES: Final = ("open", "half_open", "closed")

_CHANGES: Final = Counted("rayfeed_breaker_changes_total")


def changes_of(component: str) -> Callable[[str], None]:
    """To be told each new state of the breaker of a component, called as in `rayfeed_breaker_open`."""
    for state in STATES:
        _CHANGES.add(component, state, by=0)
    return partial(_CHANGES.add, component)
