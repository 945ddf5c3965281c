"""What was changed about the symbols while an instance ran, on top of its settings: kept in the data folder, so that it
still holds after a restart."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec


class _Changes(msgspec.Struct):
    added: list[str] = []
    removed: list[str] = []


class SymbolChanges:
    """The changes of an instance, by exchange, in the file `path`; one process writes them."""

    def __init__(self, path: Path) -> None:
        """ValueError, in one line, when the file is there and not ours."""
        self._path = path
        self._changes: dict[str, _Changes] = {}
        if path.exists():
            try:
                self._changes = msgspec.json.decode(path.read_bytes(), type=dict[str, _Changes])
            except msgspec.DecodeError as error:
                raise ValueError(f"{path} cannot be read: {error}; move it away to begin with the settings") from None

    def applied_to(self, exchange: str, symbols: Sequence[str]) -> tuple[str, ...]:
        """The symbols of the settings with the changes."""
        changes = self._changes.get(exchange, _Changes())
        return tuple(symbol for symbol in dict.fromkeys((*symbols, *changes.added)) if symbol not in changes.removed)

    def add(self, exchange: str, symbols: Iterable[str]) -> None:
        changes = self._changes.setdefault(exchange, _Changes())
        new = dict.fromkeys(symbols)
        changes.added = list(dict.fromkeys((*changes.added, *new)))
        changes.removed = [symbol for symbol in changes.removed if symbol not in new]
        self._save()

    def remove(self, exchange: str, symbols: Iterable[str]) -> None:
        changes = self._changes.setdefault(exchange, _Changes())
        gone = dict.fromkeys(symbols)
        changes.added = [symbol for symbol in changes.added if symbol not in gone]
        changes.removed = list(dict.fromkeys((*changes.removed, *gone)))
        self._save()

    def _save(self) -> None:
        written = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written.write_bytes(msgspec.json.format(msgspec.json.encode(self._changes)))
        written.replace(self._path)
