"""What `rayfeed doctor` finds out about others: exchanges, your ClickHouse, Redis and Ray, and our own front door. All
are asked at once, each for a few seconds at most.
"""

import asyncio
import email.utils
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from cluster.doctor_findings import Finding, ok, warning, wrong
from cluster.instance import Details
from config import Settings
from storage.redis_connection import RedisRefused, check, opened

ANSWER_S: Final = 3.0
#: HTTP says the time to the second.
CLOCK_S: Final = 2.0
_SPOOLED: Final = "column files and the live feed go on meanwhile, and rows wait in DATA/spool"


@dataclass(frozen=True, slots=True)
class Door:
    """How one address of an exchange answered: `status` of HTTP, or why not; `ahead_s`: its clock against ours."""

    url: str
    status: int | None = None
    failure: str = ""
    ahead_s: float | None = None


async def reach(settings: Settings, details: Details | None) -> list[Finding]:
    """`details` of a running instance say what it uses; otherwise the settings say what it would use."""
    clickhouse_url = details.clickhouse_url if details else settings.clickhouse_url
    # That of a running instance may be embedded, its own child.
    redis_url = details.redis_url if details else settings.redis_url
    ray = settings.ray_address if details is None else None
    asked: list[Awaitable[list[Finding]]] = []
    if (details.source if details else settings.source) == "live":
        asked.append(_exchanges(settings))
    if clickhouse_url is not None:
        asked.append(_within(_clickhouse(clickhouse_url, settings), "ClickHouse", "CLICKHOUSE_URL"))
    if redis_url is not None:
        asked.append(_within(_redis(redis_url, settings.redis_url is not None), "Redis", "REDIS_URL"))
    if ray is not None:
        asked.append(_ray(ray))
    if details is not None:
        asked.append(_front_door(details, settings.edge.tls))
    answers = await asyncio.gather(*asked)
    return [finding for answer in answers for finding in answer]


# ---- exchanges


async def _exchanges(settings: Settings) -> list[Finding]:
    wanted = {name: own for name, own in settings.exchanges.items() if own.enabled}
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    # As the collectors do: the environment's proxies are not used.
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as client:
        doors = await asyncio.gather(
            *(_door(client, url) for own in wanted.values() for url in (own.websocket, own.rest))
        )
    pairs = zip(doors[::2], doors[1::2], strict=True)
    found = exchanges(dict(zip(wanted, pairs, strict=True)))
    ahead = [door.ahead_s for door in doors if door.ahead_s is not None]
    return [*found, against_exchanges(ahead)] if ahead else found


async def _door(client: aiohttp.ClientSession, url: str) -> Door:
    """Any answer of HTTP says that somebody is there."""
    http = url.replace("ws", "http", 1) if url.startswith("ws") else url
    try:
        async with client.get(http, allow_redirects=False) as answer:
            return Door(url, answer.status, ahead_s=_ahead(answer.headers.get("Date")))
    except TimeoutError:
        return Door(url, failure=f"no answer within {ANSWER_S:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Door(url, failure=_one_line(error))


def _ahead(date: str | None) -> float | None:
    try:
        # In the middle of the second it says.
        return email.utils.parsedate_to_datetime(date).timestamp() + 0.5 - time.time() if date else None
    except ValueError:
        return None


def exchanges(doors: Mapping[str, tuple[Door, Door]]) -> list[Finding]:
    """By exchange, how its WebSocket and its REST server answered."""
    silent = {door.failure for pair in doors.values() for door in pair if door.status is None}
    if len(doors) > 1 and all(door.status is None for pair in doors.values() for door in pair):
        found = f"none of {len(doors)} exchanges can be reached: {'; '.join(sorted(silent))}"
        remedy = "check network, DNS and firewall of this machine; --source sim needs none"
        return [wrong("reachability", "exchanges", found, remedy)]
    return [exchange(name, *pair) for name, pair in doors.items()]


def exchange(name: str, websocket: Door, rest: Door) -> Finding:
    silent = [door for door in (websocket, rest) if door.status is None]
    if silent:
        why = "; ".join(f"{urlsplit(door.url).netloc}: {door.failure}" for door in silent)
        remedy = f"check network, DNS and firewall, or leave it out with --exchanges; {name} may be down as well"
        return wrong("reachability", name, f"cannot be reached: {why}", remedy)
    if rest.status in (403, 451):
        remedy = "it serves nobody from this address (country, or a ban): use another one, or leave it out"
        return warning("reachability", name, f"{urlsplit(rest.url).netloc} answers {rest.status}", remedy)
    return ok("reachability", name, f"{urlsplit(websocket.url).netloc} and {urlsplit(rest.url).netloc} answer")


def against_exchanges(ahead_s: Iterable[float]) -> Finding:
    """Their clocks against ours; the middle one counts, as one of them may be wrong itself."""
    every = sorted(ahead_s)
    middle = every[len(every) // 2]
    if abs(middle) > CLOCK_S:
        found = f"{abs(middle):.1f} s {'behind' if middle > 0 else 'ahead of'} the exchanges"
        return wrong("clock", "against exchanges", found, "set it, and let a time service keep it: apt install chrony")
    return ok("clock", "against exchanges", f"within {CLOCK_S:g} s of {len(every)} answers")


# ---- servers of yours


async def _clickhouse(url: str, settings: Settings) -> list[Finding]:
    return [await asyncio.to_thread(clickhouse, url, settings.data, settings.clickhouse_cluster)]


def clickhouse(url: str, data: Path, cluster: str | None) -> Finding:
    """Asks the server; the URL holds a password and is not repeated."""
    from storage.clickhouse import DatabaseUnavailable, QueryFailed, open_clickhouse

    place = urlsplit(url).hostname or "?"
    try:
        database = open_clickhouse(url, data / "clickhouse", cluster)
    except ValueError as error:
        return wrong("reachability", "ClickHouse", str(error), "set CLICKHOUSE_URL so, and start again")
    try:
        version = database.query("SELECT version() AS version")["version"][0].as_py()
    except QueryFailed as error:
        # Its database is made at the first start; everything else it says is about who we are.
        if error.code == _UNKNOWN_DATABASE:
            return ok("reachability", "ClickHouse", f"{place} answers; its database is made at the first start")
        remedy = f"check user and password in CLICKHOUSE_URL; {_SPOOLED}"
        return wrong("reachability", "ClickHouse", f"{place} refuses us: {_one_line(error)}", remedy)
    except DatabaseUnavailable as error:
        remedy = f"check host and port in CLICKHOUSE_URL, and that the server runs; {_SPOOLED}"
        return wrong("reachability", "ClickHouse", f"{place}: {_one_line(error)}", remedy)
    finally:
        database.close()
    return server_version(str(version), place)


_UNKNOWN_DATABASE: Final = 81


def server_version(version: str, place: str) -> Finding:
    from storage.clickhouse_migrations import OLDEST, RETENTION_SINCE

    number = tuple(int(part) for part in version.split(".")[:2])
    if number < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return wrong("reachability", "ClickHouse", f"{version} is too old", f"rayfeed needs {needed} or newer")
    if number < RETENTION_SINCE:
        remedy = f"from {'.'.join(map(str, RETENTION_SINCE))} on it can"
        return warning("reachability", "ClickHouse", f"{version} at {place}: it cannot forget old rows", remedy)
    return ok("reachability", "ClickHouse", f"{version} at {place}")


async def _redis(url: str, yours: bool) -> list[Finding]:
    name = "Redis" if yours else "Redis (embedded)"
    remedy = (
        "check REDIS_URL, and that the server runs; everything but latest values and streams goes on"
        if yours
        else "it is started again by itself; DATA/logs/redis.log says why it ends"
    )
    try:
        failure = await check(url)
    except RedisRefused as refused:
        failure = str(refused)
    if failure:
        return [wrong("reachability", name, failure, remedy)]
    async with opened(url) as client:
        version = (await client.info("server"))["redis_version"]
    return [ok("reachability", name, f"{version} answers")]


async def _ray(address: str) -> list[Finding]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return [ok("reachability", "Ray", f"RAY_ADDRESS is {address}: looked for at the start")]
    remedy = "check RAY_ADDRESS (the GCS address that `ray start --head` printed), and that no firewall is between"
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError) as error:
        return [wrong("reachability", "Ray", f"{address}: {_one_line(error)}", remedy)]
    writer.close()
    return [ok("reachability", "Ray", f"somebody listens on {address}")]


# ---- our own front door


async def _front_door(details: Details, tls: bool) -> list[Finding]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    log = "it is started again by itself; DATA/logs/edge.log says why it ends"
    async with aiohttp.ClientSession(timeout=timeout) as client:
        try:
            async with client.get(f"{details.url}/readyz") as answer:
                said: dict[str, Any] = await answer.json(content_type=None)
                found = [readiness(details.url, answer.status, said)]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            found = [wrong("front door", "HTTP", f"{details.url} does not answer: {_one_line(error)}", log)]
    if tls:
        found.append(await _tls(details, log))
    return found


def readiness(url: str, status: int, said: Any) -> Finding:
    word = said.get("status", "") if isinstance(said, dict) else ""
    if status == 200:
        return ok("front door", "HTTP", f"{url} answers: {word or 'ready'}")
    return wrong("front door", "HTTP", f"{url}/readyz answers {status} {word}", "what does not answer is named below")


async def _tls(details: Details, log: str) -> Finding:
    host = urlsplit(details.url).hostname or "127.0.0.1"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, details.tls_port, ssl=context)
    except (OSError, TimeoutError) as error:
        return wrong("front door", "HTTPS", f"port {details.tls_port}: {_one_line(error)}", log)
    writer.close()
    return ok("front door", "HTTPS", f"port {details.tls_port} answers")


async def _within(doing: Awaitable[list[Finding]], name: str, setting: str) -> list[Finding]:
    try:
        return await asyncio.wait_for(doing, 2 * ANSWER_S)
    except TimeoutError:
        remedy = f"check {setting}, and what stands between: a firewall that drops what it does not like is silent"
        return [wrong("reachability", name, f"no answer within {2 * ANSWER_S:g} s", remedy)]


def _one_line(error: BaseException) -> str:
    if isinstance(error, socket.gaierror | aiohttp.ClientConnectorDNSError):
        return "no such host is known (DNS)"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _one_line(error.os_error)
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    said = str(error).splitlines()
    return said[0] if said else type(error).__name__
