"""How another process comes to collect from an exchange: it collects beside the one that is there until it has
everything, keeps what comes, and lets it go once the other has ended. No trade and no quote is missed; what both have
received the shards keep once.

Whoever looks for the collector finds the successor from the moment it has everything. What is half done when the
supervisor dies is gone on with from the names alone: of two collectors the older one ends.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import ray
import structlog

from actors import directory

#: A collector has this long to get everything, books too; a connection is content with what it has a little earlier.
COMPLETE_S: Final = 90.0
_LOOK_S: Final = 0.2

log = structlog.get_logger(__name__)


class SuccessionError(RuntimeError):
    """The successor got nothing; the old collector goes on. One line."""


async def succeed(
    name: str, old: Any, make: Callable[[str], Any], counts: Callable[[Any], None], lead: Callable[[], Awaitable[None]]
) -> None:
    """Let another process take the place of the collector `old`, which is called `name`.

    `make` starts one that Ray knows by this name, `counts` is told the one that counts from then on, and `lead` tells
    that one the shards as they are. `SuccessionError`, and what Ray raises; then all is as it was.
    """
    known_as = successor_of(directory.name_in_ray(name))
    new = make(known_as)
    try:
        await new.begin_beside.remote(await old.received.remote())
        async with asyncio.timeout(COMPLETE_S):
            while not (said := await new.status.remote())["complete"]:
                if said["failure"]:
                    raise SuccessionError(f"{name}: its successor fails: {said['failure']}")
                await asyncio.sleep(_LOOK_S)
    except BaseException as error:
        ray.kill(new, no_restart=True)
        if isinstance(error, TimeoutError):
            raise SuccessionError(f"{name}: its successor did not get everything within {COMPLETE_S:g} s") from None
        raise
    directory.succeed(name, known_as)
    counts(new)
    await _follow(old, new, lead)


async def go_on(name: str, new: Any, lead: Callable[[], Awaitable[None]]) -> None:
    """Whoever did this has died: end what is left over beside the collector that counts."""
    known_as = directory.name_in_ray(name)
    with suppress(ValueError):
        ray.kill(ray.get_actor(successor_of(known_as), namespace=directory.NAMESPACE), no_restart=True)
    if (before := _predecessor_of(known_as)) is not None:
        with suppress(ValueError):
            await _follow(ray.get_actor(before, namespace=directory.NAMESPACE), new, lead)


async def _follow(old: Any, new: Any, lead: Callable[[], Awaitable[None]]) -> None:
    heard = {}
    try:
        heard = await old.retire.remote()
    except ray.exceptions.RayError as error:
        # Its process dies just now: what it held is fetched as after any death.
        log.warning("a collector ended before it was replaced", error=repr(error))
    await new.take_over.remote(heard)
    await lead()
    ray.kill(old, no_restart=True)


def successor_of(known_as: str) -> str:
    """The name in Ray of the one after `collector:okx`, or after `collector:okx#2`."""
    name, _, number = known_as.partition("#")
    return f"{name}#{int(number or 1) + 1}"


def _predecessor_of(known_as: str) -> str | None:
    name, _, number = known_as.partition("#")
    if not number:
        return None
    return name if number == "2" else f"{name}#{int(number) - 1}"
