"""What `rayfeed doctor` reads in what a running instance says of itself: actors, feeds, symbols, sinks, replicas,
hosts. Pure; times are ns.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cluster.doctor_findings import Finding, limited, ok, warning, wrong
from cluster.doctor_machine import MAKE_ROOM, size
from cluster.moments import text_of
from cluster.serving import works
from config import Settings

#: What heals by itself has so long to do so.
PATIENCE_S: Final = 60
#: Reasons that are told one by one, and symbols that are named with each.
MOST_REASONS: Final = 12
MOST_SYMBOLS: Final = 4
_WORST_FIRST: Final = ("stale", "gapped", "syncing")
#: A spool this full is about to lose rows.
FULL_SPOOL: Final = 0.8
HOST_CLOCK_MS: Final = 100.0
LATE_MS: Final = 5_000.0
_DISK: Final = ("No space left", "Read-only", "Disk quota")
_SINKS: Final = ("database", "publisher")

Said = Mapping[str, Mapping[str, Any]]


def instance(
    said: Said, symbols: Sequence[Mapping[str, Any]], settings: Settings, source: str, now_ns: int
) -> Iterator[Finding]:
    """Of `Supervisor.status` and `Supervisor.integrity`."""
    yield from actors(said)
    yield from feeds(said, settings, source)
    yield from integrity(symbols, now_ns)
    yield from sinks(said, settings)
    yield from others(said)


def actors(said: Said) -> Iterator[Finding]:
    log = "Ray starts its process again; if this stays, look at its log in the Ray dashboard (linked by rayfeed status)"
    bad = False
    for name, one in sorted(said.items()):
        failure = str(one.get("failure") or one.get("blocked") or "")
        if not one["answers"]:
            bad = True
            yield wrong("actors", name, f"does not answer: {failure or 'no reason given'}", log)
        elif failure:
            bad = True
            yield wrong("actors", name, failure, _remedy(failure, log))
    if not bad:
        yield ok("actors", "actors", f"{len(said)} run and answer")


def _remedy(failure: str, otherwise: str) -> str:
    if any(text in failure for text in _DISK):
        return f"its disk takes nothing: {MAKE_ROOM}"
    if "backup" in failure:
        return "make one by hand and see what it says: rayfeed backup"
    return otherwise


def feeds(said: Said, settings: Settings, source: str) -> Iterator[Finding]:
    for one in (one for _, one in sorted(said.items()) if "exchange" in one):
        yield feed(one, source)
        waiting, held = one.get("frames_waiting", 0), one.get("batches_in_flight", 0)
        if held >= settings.collector.max_batches_in_flight or waiting >= settings.collector.max_frames:
            found = f"{held} batches and {waiting:,} frames wait: its window is full, and its sockets are not read"
            remedy = "a shard takes nothing: see what is said of shards and disk; more shards help where a core is busy"
            yield wrong("feeds", f"{one['exchange']} window", found, remedy)


def feed(one: Mapping[str, Any], source: str) -> Finding:
    """Of the status of a collector."""
    name, state = one["exchange"], one.get("state", "?")
    error, lag = one.get("last_error") or "", one.get("lag_ms")
    again = max(0, one.get("connects", 0) - one.get("connections", 0))
    told = f"{state}, {one.get('symbols', 0)} symbols, {again:,} reconnects"
    if state != "streaming":
        where = (
            "it is simulated: `rayfeed sim faults` says what was made to go wrong"
            if source != "live"
            else "check the network (rayfeed doctor asks the exchange itself) and the exchange's status page"
        )
        since = f"no data for {one['data_s']:,.0f} s" if one.get("data_s") else "no data yet"
        return wrong(
            "feeds",
            name,
            f"the exchange is away: {told}; {since}; {error or 'no error was told'}",
            f"{where}; it is tried again by itself, and what was missed is fetched over REST",
        )
    if source == "live" and lag is not None and abs(lag) > LATE_MS:
        remedy = "see what is said of the clock; else the way to the exchange, or this machine, is too slow"
        return warning("feeds", name, f"{told}; data is {lag:,.0f} ms late", remedy)
    return ok("feeds", name, told + ("" if lag is None else f", {lag:,.0f} ms late"))


def integrity(symbols: Sequence[Mapping[str, Any]], now_ns: int) -> Iterator[Finding]:
    """Symbols of an exchange that are in one state for one reason are one finding."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for one in symbols:
        if one["state"] != "synced":
            groups.setdefault((one["state"], one["exchange"], one["why"]), []).append(one)
    synced = sum(one["state"] == "synced" for one in symbols)
    if synced or not symbols:
        yield ok("symbols", "symbols", f"{synced} of {len(symbols)} are synced")
    ordered = sorted(groups.items(), key=lambda item: (_WORST_FIRST.index(item[0][0]), item[0][1], -len(item[1])))
    yield from limited((alike(own, now_ns) for _, own in ordered), MOST_REASONS, "stale, gapped or syncing too")


def alike(rows: Sequence[Mapping[str, Any]], now_ns: int) -> Finding:
    """Of rows of `Supervisor.integrity` with the same exchange, state (not synced) and reason."""
    exchange, state, why = rows[0]["exchange"], rows[0]["state"], rows[0]["why"] or "no reason given"
    names = [one["symbol"] for one in rows]
    shown = " ".join(names[:MOST_SYMBOLS]) + (f" and {len(names) - MOST_SYMBOLS} more" if names[MOST_SYMBOLS:] else "")
    since = min((one["since"] for one in rows if one["since"]), default=0)
    missing = sum(one.get("missing") or 0 for one in rows)
    found = f"{shown} {state}{f' since {text_of(since)} UTC' if since else ''}: {why}"
    name = f"{exchange} {names[0]}" if len(rows) == 1 else f"{exchange}, {len(rows)} symbols"
    if state == "stale":
        remedy = f"see what is said of the feed {exchange}; what it no longer trades: rayfeed symbols remove {exchange}"
        return wrong("symbols", name, found, f"{remedy} {names[0]}")
    if state == "gapped":
        found += f"; {missing:,} trades are missing" if missing else ""
        remedy = "it is filled over REST by itself; `rayfeed audit` and the page /operations say how far it is"
        late = since and now_ns - since > PATIENCE_S * 1_000_000_000
        return (wrong if late else warning)("symbols", name, found, remedy)
    return warning("symbols", name, found, "it is on its way; if this stays, see what is said of its feed")


def sinks(said: Said, settings: Settings) -> Iterator[Finding]:
    for name in _SINKS:
        if (one := said.get(name)) is not None and one["answers"]:
            yield from (database if name == "database" else publisher)(one, settings)


def database(one: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    name = f"ClickHouse ({one.get('kind', '?')})"
    spooled, room = one.get("spooled_bytes", 0), settings.sinks.spool_bytes
    lost = one.get("tables_dropped", 0) + one.get("tables_rejected", 0)
    if one.get("available") is False:
        why = str(one.get("last_error") or "no reason given")
        yield wrong("sinks", name, f"is away: {why}", _remedy(why, _away(one)))
    elif one.get("available") is None:
        yield warning("sinks", name, "was not reached yet", "ask again in a moment")
    else:
        yield ok("sinks", name, f"{one.get('version') or ''} has {one.get('rows_written', 0):,} rows".strip())
    waiting = f"{size(spooled)} of {size(room)} wait for ClickHouse"
    if spooled > FULL_SPOOL * room or (spooled and not one.get("available")):
        finding = wrong if spooled > FULL_SPOOL * room else warning
        remedy = "bring ClickHouse back before it is full, then the oldest rows go; sinks.spool_bytes makes it larger"
        yield finding("sinks", "spool", waiting, remedy)
    elif spooled:
        # Rows that were written down a moment ago, or what is left of a time without it: it gets less by itself.
        yield ok("sinks", "spool", waiting)
    if lost:
        remedy = "the column files have all of it; hours of trades that are short are written again by themselves"
        yield warning("sinks", "lost to ClickHouse", f"{lost:,} tables of rows", remedy)


def _away(one: Mapping[str, Any]) -> str:
    if one.get("kind") == "server":
        where = "check CLICKHOUSE_URL (host, port, user, password) and that the server runs, then start again with it"
        return f"{where}; column files and the live feed go on, and rows wait in DATA/spool"
    return "its folder DATA/clickhouse may be damaged or its disk full; column files go on, rows wait in DATA/spool"


def publisher(one: Mapping[str, Any], _settings: Settings) -> Iterator[Finding]:
    if one.get("available") is False:
        remedy = "check REDIS_URL if it is yours; latest values are written again and streams go on when it is back"
        yield wrong("sinks", "Redis", f"is away: {one.get('last_error') or 'no reason given'}", remedy)
    else:
        yield ok("sinks", "Redis", f"{one.get('written', 0):,} values, {one.get('batches_written', 0):,} batches")
    if lost := one.get("batches_dropped", 0) + one.get("dropped", 0):
        remedy = "who reads streams is told of the hole; redis.waiting_bytes makes room for longer absences"
        yield warning("sinks", "lost to Redis", f"{lost:,} batches and values", remedy)


def others(said: Said) -> Iterator[Finding]:
    """Breakers of providers, days of column files that could not be sealed."""
    for name, one in sorted(said.items()):
        breaker = one.get("breaker")
        if isinstance(breaker, Mapping) and breaker.get("state") not in (None, "closed"):
            remedy = "the provider is asked again after a while by itself; check its address, key and limits"
            found = f"left alone ({breaker['state']}): {one.get('last_error') or 'it failed'}"
            yield warning("breakers", name, found, remedy)
        if "left alone: " in (remark := str(one.get("remark") or "")):
            remedy = "they are asked again after a while by themselves; check their keys and the network"
            yield warning("breakers", name, f"left alone: {remark.partition('left alone: ')[2]}", remedy)
        if failed := one.get("days_failed"):
            day, why = next(iter(failed.items()))
            yield warning("storage", name, f"{day}: {why}", "rayfeed verify says what is damaged")


def replicas(running: Mapping[str, Mapping[str, Any]] | None) -> Iterator[Finding]:
    """See `cluster.serving.replicas`."""
    if running is None:
        remedy = "Ray starts Serve's controller again; if this stays: rayfeed down, and start it again"
        yield wrong("serving", "Serve", "does not answer", remedy)
        return
    for name, one in sorted(running.items()):
        told = f"{one['status'].lower()}, {one['run']} replicas"
        if not works(name, one):
            remedy = "Serve starts replicas again by itself; if this stays, the Serve tab of the Ray dashboard says why"
            yield wrong("serving", name, f"{told} {one['message']}".strip(), remedy)
        else:
            yield ok("serving", name, told)


def hosts(nodes: Sequence[Mapping[str, Any]], clocks_ms: Mapping[str, float]) -> Iterator[Finding]:
    """`nodes` as Ray lists them; `clocks_ms`: by address, how far its clock is from the one here."""
    dead = [one["NodeManagerAddress"] for one in nodes if not one["Alive"]]
    alive = [one["NodeManagerAddress"] for one in nodes if one["Alive"]]
    yield ok("hosts", "hosts", f"{len(alive)} alive{f', {len(dead)} gone' if dead else ''}")
    for address, ahead in sorted(clocks_ms.items()):
        if abs(ahead) > HOST_CLOCK_MS:
            found = f"its clock is {abs(ahead):,.0f} ms {'ahead' if ahead > 0 else 'behind'}"
            yield wrong("clock", f"host {address}", found, "let a time service keep it: apt install chrony")
    if clocks_ms:
        worst = max(map(abs, clocks_ms.values()))
        if worst <= HOST_CLOCK_MS:
            yield ok("clock", "between hosts", f"{worst:,.0f} ms apart at most")
