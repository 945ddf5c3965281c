"""What is known of each number: of several sources in order the best that has it now; where none has, what was known
last, which is then called stale once nobody has said it for too long. What cannot be is left out, what jumps is
believed when it is said twice, and what nobody ever said is unknown: there is no zero and no default.

A source that has answered without a number, or has not answered, gives way to the next one until it has it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from actors.overview.fields import FIELDS, Value, flaw, jumps
from actors.overview.question import Heard


@dataclass(frozen=True, slots=True)
class Source:
    """Somebody who says `fields`; what it says is good until it should have said it anew, `good_for_s`. `label` is what
    it is called."""

    name: str
    label: str
    fields: tuple[str, ...]
    good_for_s: float


@dataclass(frozen=True, slots=True)
class Known:
    """A value, who said it and of when (ns UTC)."""

    value: Value
    source: str
    as_of: int
    stale: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    value: Value
    label: str
    as_of: int
    #: On the steady clock.
    heard_at: float


@dataclass(frozen=True, slots=True)
class _Doubted:
    source: str
    value: Value
    #: None where the source did not say.
    as_of: int | None


class Knowledge:
    """`sources` in order, the best first; `stale_after_s` by group of fields. `now` is in seconds of a steady clock,
    `clock_ns` UTC."""

    def __init__(self, sources: Iterable[Source], stale_after_s: Mapping[str, float]) -> None:
        self._sources = {source.name: source for source in sources}
        self._chains = {
            name: [source.name for source in self._sources.values() if name in source.fields] for name in FIELDS
        }
        self._stale_after_s = stale_after_s
        #: By field and source, what it said last, and of which of them it still says so.
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._saying: set[tuple[str, str]] = set()
        #: Those that have answered, or failed to, or could not be asked.
        self._concluded: set[str] = set()
        self._believed: dict[str, _Kept] = {}
        self._doubted: dict[str, _Doubted] = {}

    def hear(self, source: str, readings: Mapping[str, Heard], now: float, clock_ns: int) -> dict[str, str]:
        """What a source says now. Gives why some of it is not believed, by field; what it does not say it no longer
        knows."""
        self.missed(source)
        wrong: dict[str, str] = {}
        own = self._sources[source]
        for name in own.fields:
            if (heard := readings.get(name)) is None:
                continue
            as_of = clock_ns if heard.as_of is None else heard.as_of
            why = flaw(name, heard.value, as_of, clock_ns) or self._doubt(source, name, heard)
            if why:
                wrong[name] = why
                continue
            kept = _Kept(heard.value, heard.by or own.label, as_of, now)
            self._kept[name, source] = self._believed[name] = kept
            self._saying.add((name, source))
            self._doubted.pop(name, None)
        return wrong

    def missed(self, source: str) -> None:
        """It was asked and said nothing."""
        self._concluded.add(source)
        self._saying.difference_update((name, source) for name in self._sources[source].fields)

    def passed_over(self, source: str) -> None:
        """It cannot be asked now: others are not to wait for it. What it said before stays as good as it was."""
        self._concluded.add(source)

    def doubts(self, source: str) -> bool:
        """Whether something it said is to be said once more."""
        return any(doubted.source == source for doubted in self._doubted.values())

    def wants(self, source: str, now: float) -> bool:
        """Whether it is needed: for some number all better sources have concluded and have it not."""
        return any(self._wants(source, name, now) for name in self._sources[source].fields)

    def known(self, name: str, now: float, clock_ns: int) -> Known | None:
        """What is to be told of a number; None when nobody ever said it."""
        kept = next((self._kept[name, one] for one in self._chains[name] if self._has(one, name, now)), None)
        if kept is None and (kept := self._believed.get(name)) is None:
            return None
        field = FIELDS[name]
        silent = now - kept.heard_at > self._stale_after_s[field.group]
        stale = silent or clock_ns - kept.as_of > field.oldest_s * 1e9
        return Known(kept.value, kept.label, kept.as_of, stale)

    def restore(self, name: str, known: Known, now: float) -> None:
        """What somebody else told last, unless we know newer; it counts as not heard again since."""
        if name not in FIELDS or flaw(name, known.value, known.as_of, known.as_of):
            return
        own = self._believed.get(name)
        if own is None or own.as_of < known.as_of:
            silent = now - self._stale_after_s[FIELDS[name].group] - 1
            self._believed[name] = _Kept(known.value, known.source, known.as_of, silent)

    def _doubt(self, source: str, name: str, heard: Heard) -> str:
        """Why a value is not believed yet; empty when it is."""
        before = self._believed.get(name)
        if before is None or not jumps(name, before.value, heard.value):
            return ""
        doubted = self._doubted.get(name)
        if doubted is not None and not jumps(name, doubted.value, heard.value):
            # The same reading, handed out twice, says nothing new.
            again = doubted.source == source and heard.as_of is not None and doubted.as_of == heard.as_of
            if not again:
                return ""
        self._doubted[name] = _Doubted(source, heard.value, heard.as_of)
        return "a jump, until it is said again"

    def _wants(self, source: str, name: str, now: float) -> bool:
        for better in self._chains[name]:
            if better == source:
                return True
            if better not in self._concluded or self._has(better, name, now):
                return False
        return False

    def _has(self, source: str, name: str, now: float) -> bool:
        if (name, source) not in self._saying:
            return False
        return now - self._kept[name, source].heard_at <= self._sources[source].good_for_s
