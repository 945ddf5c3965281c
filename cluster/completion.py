"""What the Tab key offers: exchanges, symbols and faults, from the settings and from what was changed while an instance
ran. Read from files, as whoever presses a key waits for it: no actor is asked.
"""

import os
from pathlib import Path
from typing import Final

import typer

from config import SettingsError, load
from config.settings import Settings
from storage.symbol_changes import SymbolChanges

_DEFAULT: Final = "data"


def exchanges(context: typer.Context, incomplete: str) -> list[str]:
    """Those of the settings, the last of a list with commas too."""
    settings = _settings(context)
    before, comma, last = incomplete.rpartition(",")
    return [] if settings is None else [f"{before}{comma}{one}" for one in settings.exchanges if one.startswith(last)]


def symbols(context: typer.Context, incomplete: str) -> list[str]:
    """Those that are collected of the exchange that was named before; without one, of all."""
    settings = _settings(context)
    if settings is None:
        return []
    try:
        changes = SymbolChanges(settings.data / "symbols.json")
    except ValueError:
        return []
    named = context.params.get("exchange")
    collected = (
        symbol
        for exchange, own in settings.exchanges.items()
        if named in (None, exchange)
        for symbol in changes.applied_to(exchange, own.symbols)
    )
    given = context.params.get("symbols") or ()
    return [one for one in dict.fromkeys(collected) if one.startswith(incomplete) and one not in given]


def faults(incomplete: str) -> list[tuple[str, str]]:
    """The kinds of faults, with what they do."""
    from actors.simulator.fault_kinds import KINDS

    return [(name, kind.does) for name, kind in KINDS.items() if name.startswith(incomplete)]


def _settings(context: typer.Context) -> Settings | None:
    data = context.params.get("data") or os.environ.get("RAYFEED_DATA") or _DEFAULT
    try:
        return load(Path(data))
    except SettingsError:
        return None
