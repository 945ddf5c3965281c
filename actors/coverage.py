"""Which symbols of an exchange some connection receives, and when one was received by none: a pure account over all
connections, so that one which takes over from another leaves no break. Times are ns on the clock of `ts_recv`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from storage.schema import BREAKS

#: In the place of a connection: all those of another process.
ANOTHER: Final = "another process"


@dataclass(frozen=True, slots=True)
class Break:
    """Trades of a symbol may have been missed in this time (both ends included; from 0: since the last stored)."""

    symbol: str
    from_ns: int
    to_ns: int
    reason: str


class Coverage:
    """The connections, by name, that bring each symbol, and the symbols that had one and have none."""

    def __init__(self) -> None:
        #: By symbol: since when each of its connections brings it.
        self._since: dict[str, dict[str, int]] = {}
        #: By symbol: since when there is always one.
        self._begun: dict[str, int] = {}
        #: By symbol: until when it was received, and why no longer.
        self._lost: dict[str, tuple[int, str]] = {}

    def unknown(self, symbols: Iterable[str], reason: str) -> None:
        """Nothing is known of what these missed before now; what is known of others stays."""
        for symbol in symbols:
            if symbol not in self._since:
                self._lost.setdefault(symbol, (0, reason))

    def before(self, since: Mapping[str, int]) -> None:
        """Another process, which is to end, receives these symbols since then."""
        for symbol, since_ns in since.items():
            self.granted(ANOTHER, [symbol], since_ns)

    def granted(self, connection: str, symbols: Iterable[str], now_ns: int) -> list[Break]:
        """A connection brings these from now on; the breaks that ends."""
        breaks = []
        for symbol in symbols:
            self._since.setdefault(symbol, {}).setdefault(connection, now_ns)
            self._begun.setdefault(symbol, now_ns)
            if (lost := self._lost.pop(symbol, None)) is not None:
                breaks.append(Break(symbol, lost[0], max(now_ns, lost[0]), lost[1]))
        return breaks

    def ended(self, connection: str, heard_ns: int, reason: str, symbols: Iterable[str] | None = None) -> list[Break]:
        """A connection brings nothing more (of these symbols); it was heard until then. The breaks where others began
        only later."""
        breaks = []
        for symbol in tuple(self._since if symbols is None else symbols):
            since = self._since.get(symbol, {})
            if since.pop(connection, None) is None:
                continue
            if not since:
                del self._since[symbol], self._begun[symbol]
                self._lost[symbol] = (heard_ns, reason)
            elif (taken_over := min(since.values())) > heard_ns:
                self._begun[symbol] = taken_over
                breaks.append(Break(symbol, heard_ns, taken_over, reason))
        return breaks

    @property
    def received(self) -> Mapping[str, int]:
        """The symbols some connection brings, and since when without a break."""
        return self._begun

    def lost(self, symbol: str) -> tuple[int, str] | None:
        """Until when it was received, and why no longer; None where it is, or never was."""
        return self._lost.get(symbol)

    def forget(self, symbols: Iterable[str]) -> None:
        """These are not wanted any more."""
        for symbol in symbols:
            self._since.pop(symbol, None)
            self._begun.pop(symbol, None)
            self._lost.pop(symbol, None)

    def forget_all(self) -> None:
        self._since.clear()
        self._begun.clear()
        self._lost.clear()


def breaks_batch(breaks: Sequence[Break]) -> pa.RecordBatch:
    """As `storage.schema.BREAKS`."""
    rows = [{"symbol": one.symbol, "from_ns": one.from_ns, "to_ns": one.to_ns, "reason": one.reason} for one in breaks]
    return pa.RecordBatch.from_pylist(rows, schema=BREAKS)
