"""The screen of `rayfeed status --watch`: what `rayfeed status --json` says, and how fast it changes, as exactly as
many lines as the terminal has. Pure.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.text import Text

from cluster.doctor_machine import size
from cluster.moments import text_of
from cluster.serving import works

#: What is counted, and shown per second.
COUNTED: Final = ("frames", "trades", "quotes", "TRADES", "MD", "rows_written", "written", "batches_written")
#: From here on symbols stand beside the rest.
WIDE: Final = 140
#: Symbols that are not worth less than so many lines, in a terminal that is not wide.
_LEAST_SYMBOLS: Final = 4
_LEAST_SHARDS: Final = 2
#: An answer that is older is said to be.
_OLD_S: Final = 4.0
_ORDER: Final = ("stale", "gapped", "syncing", "synced")
_COLOURS: Final = {
    "stale": "red",
    "gapped": "red",
    "syncing": "yellow",
    "synced": "green",
    "streaming": "green",
    "not answering": "red",
}
_KEYS: Final = "q or Ctrl-C leaves"

Rates = Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class Watched:
    """What was said last (`rayfeed status --json`), `at` which second of a clock that only goes forward, and the rates
    since the time before."""

    said: dict[str, Any] | None = None
    at: float = 0.0
    rates: dict[str, dict[str, float]] = field(default_factory=dict)

    def hear(self, said: dict[str, Any], at: float) -> None:
        # Another process counts from nothing.
        same = self.said is not None and self.said["pid"] == said["pid"]
        before = self.said["actors"] if self.said is not None and same else {}
        self.rates = _rates(before, said["actors"], at - self.at) if before else {}
        self.said, self.at = said, at


def _rates(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> dict[str, dict[str, float]]:
    """Per second, by actor and what is counted; nothing of an actor that was started again."""
    found: dict[str, dict[str, float]] = {}
    for name, one in now.items() if seconds > 0 else ():
        old = before.get(name, {})
        if old.get("pid") == one.get("pid"):
            both = [what for what in COUNTED if what in one and what in old]
            found[name] = {what: max(0.0, (one[what] - old[what]) / seconds) for what in both}
    return found


def screen(watched: Watched, at: float, clock: str, width: int, height: int, remark: str = "") -> Text:
    """`height` lines of at most `width` columns. `clock`: the time of day; `remark`: why nothing newer comes."""
    said = watched.said
    foot = Text(_KEYS, style="dim")
    if said is None:
        return _filled([Text(remark or "asks the instance ...", style="yellow")], foot, width, height)
    late_s = at - watched.at
    if not remark and late_s > _OLD_S:
        remark = f"no answer for {late_s:.0f} s"
    head = _sides(
        Text.assemble(("rayfeed ", "bold"), said["url"], f"  {said['source']}"),
        Text(remark or clock, style="yellow" if remark else "dim"),
        width,
    )
    room = max(0, height - 2)
    actors, rates = said["actors"], watched.rates
    exchanges = list(_exchanges(actors, rates))
    tail = [*_sinks(actors, rates), _serving(said.get("replicas"))]
    counted = _counted(said["integrity"])
    if width >= WIDE:
        left = [*exchanges, Text(), *_shards(actors, rates, room), Text(), *tail]
        half = max(map(len, left), default=0)
        right = [counted, *_symbols(said["integrity"], room - 1)]
        body = _beside(left[:room], right[:room], half, width)
    else:
        most = max(_LEAST_SHARDS, room - len(exchanges) - len(tail) - 3 - _LEAST_SYMBOLS)
        above = [*exchanges, *_shards(actors, rates, most), *tail, counted]
        body = [*above, *_symbols(said["integrity"], room - len(above))]
    return _filled([head, *body], foot, width, height)


def _exchanges(actors: Mapping[str, Any], rates: Rates) -> Iterator[Text]:
    yield _heading(f"{'EXCHANGE':<10} {'state':<13} {'frames/s':>9} {'trades/s':>9} {'lag':>9} {'again':>6}  symbols")
    for name, one in sorted(actors.items()):
        if "exchange" not in one:
            continue
        state = one.get("state", "?") if one["answers"] else "not answering"
        again = max(0, one.get("connects", 0) - one.get("connections", 0))
        lag = "" if one.get("lag_ms") is None else f"{one['lag_ms']:,.0f} ms"
        good, all_of = len(one.get("subscribed", ())), one.get("symbols", 0)
        yield Text.assemble(
            f"{one['exchange']:<10} ",
            (f"{state:<13}", _COLOURS.get(state, "yellow")),
            f" {_rate(rates, name, 'frames'):>9} {_rate(rates, name, 'trades'):>9} {lag:>9} {again:>6,}  ",
            (f"{good} of {all_of}", "" if good == all_of else "yellow"),
            (f"  {one.get('failure') or one.get('last_error') or ''}" if state != "streaming" else "", "red"),
        )


def _shards(actors: Mapping[str, Any], rates: Rates, most: int) -> Iterator[Text]:
    yield _heading(f"{'SHARD':<10} {'trades/s':>9} {'waiting':>9} {'sinks':>9} {'gaps':>6}")
    shards = {name: one for name, one in actors.items() if name.startswith("shard:")}
    # One that fails, or is behind, is what somebody looks for.
    worst = sorted(
        shards,
        key=lambda name: (
            shards[name]["answers"] and not shards[name].get("failure"),
            -shards[name].get("batches_waiting", 0),
            int(name.partition(":")[2]),
        ),
    )
    named = worst if len(worst) <= most else worst[: most - 1]
    for name in named:
        one = shards[name]
        failure = (one.get("failure") or "") if one["answers"] else "does not answer"
        yield Text.assemble(
            f"{name:<10} {_rate(rates, name, 'TRADES'):>9} {one.get('batches_waiting', 0):>9,}"
            f" {one.get('sinks_waiting', 0):>9,} {one.get('gaps_open', 0):>6,}",
            (f"  {failure}", "red"),
        )
    if len(named) < len(worst):
        yield Text(f"{len(worst) - len(named)} more", style="dim")


def _sinks(actors: Mapping[str, Any], rates: Rates) -> Iterator[Text]:
    one = actors.get("database", {"answers": False})
    spooled = one.get("spooled_bytes", 0)
    yield _sink(
        one,
        "ClickHouse",
        f"{_rate(rates, 'database', 'rows_written') or '0'} rows/s, {one.get('rows_written', 0):,} rows",
        f"spool {size(spooled)}" if spooled else "",
    )
    one = actors.get("publisher", {"answers": False})
    written = f"{_rate(rates, 'publisher', 'written') or '0'} values/s"
    waiting = one.get("bytes_pending", 0)
    yield _sink(one, "Redis", f"{written}, {one.get('batches_written', 0):,} batches", f"{size(waiting)} wait")


def _sink(one: Mapping[str, Any], name: str, counts: str, waits: str) -> Text:
    state = "not answering" if not one["answers"] else "away" if one.get("available") is False else ""
    why = f"{state} {one.get('last_error') or ''}" if state else ""
    return Text.assemble((f"{name:<10} ", "bold"), counts, f"  {waits}" if waits else "", (f"  {why}", "red"))


def _serving(replicas: Mapping[str, Mapping[str, Any]] | None) -> Text:
    told = Text.assemble(("SERVING    ", "bold"))
    if replicas is None:
        return told.append("does not answer", "yellow")
    for name, one in sorted(replicas.items()):
        good = works(name, one)
        told.append(f"{name} {one['run']}  " if good else f"{name} {one['status'].lower()}  ", "" if good else "red")
    return told


def _counted(symbols: Sequence[Mapping[str, Any]]) -> Text:
    states = Counter(one["state"] for one in symbols)
    told = Text.assemble(("SYMBOLS    ", "bold"))
    for state in reversed(_ORDER):
        told.append(f"{states[state]} {state}  ", _COLOURS[state] if states[state] else "dim")
    opened, closed = (sum(one.get(which) or 0 for one in symbols) for which in ("gaps_open", "gaps_closed"))
    return told.append(f"gaps: {opened:,} open, {closed:,} closed", "red" if opened else "")


def _symbols(symbols: Sequence[Mapping[str, Any]], most: int) -> Iterator[Text]:
    worst = sorted(
        symbols, key=lambda one: (_ORDER.index(one["state"]), one["since"] or 0, one["exchange"], one["symbol"])
    )
    named = worst if len(worst) <= most else worst[: max(0, most - 1)]
    for one in named:
        since = text_of(one["since"])[11:] if one["since"] else ""
        trades = f"{one['trades']:,} trades" if one.get("trades") else ""
        yield Text.assemble(
            f"{one['exchange']:<10} {one['symbol']:<16} ",
            (f"{one['state']:<8}", _COLOURS[one["state"]]),
            f" {since:<8}  {one['why'] or trades}",
        )
    if len(named) < len(worst) and most > 0:
        yield Text(f"{len(worst) - len(named)} more", style="dim")


def _rate(rates: Rates, name: str, what: str) -> str:
    rate = rates.get(name, {}).get(what)
    return "" if rate is None else f"{rate:,.0f}"


def _heading(text: str) -> Text:
    first, _, rest = text.partition(" ")
    return Text.assemble((first, "bold"), (f" {rest}", "dim"))


def _sides(left: Text, right: Text, width: int) -> Text:
    left.truncate(max(0, width - len(right) - 1), overflow="ellipsis", pad=True)
    return Text.assemble(left, " ", right)


def _beside(left: list[Text], right: list[Text], half: int, width: int) -> list[Text]:
    half = min(half, width // 2)
    lines = []
    for row in range(max(len(left), len(right))):
        one = left[row].copy() if row < len(left) else Text()
        one.truncate(half, overflow="ellipsis", pad=True)
        lines.append(Text.assemble(one, "  ", right[row] if row < len(right) else Text()))
    return lines


def _filled(lines: list[Text], foot: Text, width: int, height: int) -> Text:
    """Exactly as many lines as there are, the last of them `foot`."""
    body = lines[: max(0, height - 1)]
    body += [Text()] * (height - 1 - len(body))
    for line in (*body, foot):
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, end="").join([*body, foot])
