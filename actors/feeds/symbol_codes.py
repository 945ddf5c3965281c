"""The symbols of one connection and the numbers columns have in their place. A symbol keeps its code for good, also
when it is retired, so frames still on their way are recognised."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UNKNOWN_SYMBOL: Final = -1


class SymbolCodes:
    """Exchange-native names, each with its code: its place in `names`."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._codes: dict[str, int] = {}
        self._retired: set[int] = set()
        self.names_array: pa.StringArray = pa.array([], pa.string())
        self.add(symbols)

    @property
    def names(self) -> tuple[str, ...]:
        """All names by code, the retired ones too."""
        return tuple(self._codes)

    @property
    def active(self) -> tuple[str, ...]:
        """The names that are not retired, by code."""
        return tuple(name for name, code in self._codes.items() if code not in self._retired)

    def add(self, symbols: Iterable[str]) -> None:
        """Give new symbols a code; retired ones come back under theirs."""
        for symbol in symbols:
            self._retired.discard(self._codes.setdefault(symbol, len(self._codes)))
        self.names_array = pa.array(list(self._codes), pa.string())

    def retire(self, symbols: Iterable[str]) -> None:
        self._retired.update(self._codes[symbol] for symbol in symbols if symbol in self._codes)

    def code(self, symbol: str) -> int:
        """The code of a symbol, retired or not; `UNKNOWN_SYMBOL` when it was never added."""
        return self._codes.get(symbol, UNKNOWN_SYMBOL)

    def codes(self, symbols: Iterable[str]) -> npt.NDArray[np.int32]:
        return np.array([self._codes.get(symbol, UNKNOWN_SYMBOL) for symbol in symbols], np.int32)

    @property
    def any_retired(self) -> bool:
        return bool(self._retired)

    def is_retired(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        return np.isin(codes, list(self._retired))
