"""Which open gap is repaired next, as a pure schedule: the symbol that was not served for longest, of its gaps the
newest. What cannot be repaired is tried again after a growing time. Time (seconds of a steady clock) is passed in.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 600.0
#: What ended less than this ago the exchange may not show yet in full.
SETTLE_S: Final = 2.0
#: Windows of a symbol no further apart are asked for together: one request shows what many would.
NEAR_NS: Final = 60_000_000_000


class Key(NamedTuple):
    symbol: str
    gap_id: int


class OpenGap(Protocol):
    """What the schedule has to know of a gap."""

    @property
    def symbol(self) -> str: ...
    @property
    def gap_id(self) -> int: ...
    @property
    def first_id(self) -> int | None: ...
    @property
    def from_ns(self) -> int: ...
    @property
    def to_ns(self) -> int: ...


@dataclass(slots=True)
class _Entry:
    gap: Any
    due: float
    #: From then on the exchange can show all of it.
    settled: float
    wait: float = FIRST_WAIT_S
    under_way: bool = False
    #: The gap it is repaired along with, while that is open.
    leader: int | None = None


class Schedule[Gap: OpenGap]:
    """The open gaps of one exchange."""

    def __init__(self) -> None:
        #: By symbol, the one served last at the end; of each by gap.
        self._symbols: dict[str, dict[int, _Entry]] = {}
        self.under_way = 0

    def __len__(self) -> int:
        return sum(map(len, self._symbols.values()))

    def open_are(self, gaps: Iterable[Gap], now: float, wall_ns: int) -> None:
        """These gaps are open and no others; `wall_ns` is `now` on the clock of their times."""
        known, self._symbols = self._symbols, {}
        new: dict[str, dict[int, _Entry]] = {}
        for gap in gaps:
            entry = known.get(gap.symbol, {}).get(gap.gap_id)
            if entry is None:
                # A missing id will stay missing, however late it is shown; the end of a window must be there.
                ended_s = SETTLE_S if gap.first_id is not None else (wall_ns - gap.to_ns) / 1e9
                settled = now + min(max(0.0, SETTLE_S - ended_s), SETTLE_S)
                entry = _Entry(gap, settled, settled)
            entry.gap = gap
            new.setdefault(gap.symbol, {})[gap.gap_id] = entry
        # Who was never served comes first.
        self._symbols = {symbol: own for symbol, own in new.items() if symbol not in known}
        self._symbols |= {symbol: new[symbol] for symbol in known if symbol in new}

    def next(self, now: float) -> Gap | None:
        """The gap to work on now; report with `go_on`, `failed` or `put_off`."""
        for symbol, own in self._symbols.items():
            due = [entry for entry in _waiting(own) if entry.due <= now]
            if due:
                entry = max(due, key=lambda entry: (entry.gap.to_ns, entry.gap.gap_id))
                entry.under_way = True
                entry.leader = None
                self.under_way += 1
                # Behind all others.
                self._symbols[symbol] = self._symbols.pop(symbol)
                gap: Gap = entry.gap
                return gap
        return None

    def join(self, gap: Gap, now: float, begun: Callable[[Key], bool] = lambda key: False) -> list[Gap]:
        """The windows that are repaired along with this one, which is under way, until it is reported as `failed`:
        those of its symbol that lie near it, or near one that does, and have settled. Not those under way or `begun`
        by themselves, which would be fetched twice; and none with one that failed: they may be why."""
        own = self._symbols.get(gap.symbol, {})
        entry = own.get(gap.gap_id)
        if entry is None or gap.first_id is not None or entry.wait > FIRST_WAIT_S:
            return []
        windows = [one for one in _waiting(own) if one.gap.first_id is None and one.settled <= now]
        left = [one for one in windows if not begun(Key(gap.symbol, one.gap.gap_id))]
        begin, end = gap.from_ns, gap.to_ns
        while near := [one for one in left if one.gap.from_ns - NEAR_NS <= end and begin <= one.gap.to_ns + NEAR_NS]:
            for one in near:
                one.leader = gap.gap_id
                begin, end = min(begin, one.gap.from_ns), max(end, one.gap.to_ns)
            left = [one for one in left if one.leader != gap.gap_id]
        return self.along(gap)

    def along(self, gap: Gap) -> list[Gap]:
        """Those that joined a gap and are open still; a window that opened later is none of them."""
        return [entry.gap for entry in self._symbols.get(gap.symbol, {}).values() if entry.leader == gap.gap_id]

    def due_in(self, now: float) -> float | None:
        """Seconds until a gap is due; None while there is none."""
        waits = [entry.due - now for own in self._symbols.values() for entry in _waiting(own)]
        return max(0.0, min(waits)) if waits else None

    def go_on(self, gap: Gap, now: float) -> None:
        """There is more to fetch; others come first."""
        self._back(gap, now)

    def failed(self, gap: Gap, now: float) -> None:
        """It and what goes along with it are open still, as far as is known; the wait before the next attempt
        doubles."""
        self._back(gap, now)
        for entry in self._symbols.get(gap.symbol, {}).values():
            if gap.gap_id in (entry.gap.gap_id, entry.leader):
                entry.due, entry.wait = now + entry.wait, min(2 * entry.wait, LONGEST_WAIT_S)
                entry.leader = None

    def put_off(self, gap: Gap, until: float) -> None:
        """Nothing was learned about it."""
        self._back(gap, until)

    def _back(self, gap: Gap, due: float) -> None:
        self.under_way -= 1
        if (entry := self._symbols.get(gap.symbol, {}).get(gap.gap_id)) is not None:
            entry.under_way, entry.due = False, due


def _waiting(own: Mapping[int, _Entry]) -> list[_Entry]:
    """Those of a symbol that nobody works on, by themselves or along with another."""
    return [entry for entry in own.values() if not entry.under_way and entry.leader not in own]
