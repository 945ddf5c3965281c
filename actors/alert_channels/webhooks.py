"""HTTP posts: webhooks, and messages of Slack. They go to the address that was checked, follow no redirect, and of the
answer nothing but its head is read."""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from actors.alerting.addresses import checked_url, is_public
from actors.alerting.retries import Outcome, of_http
from actors.polling.provider import rest_asked_for
from storage.alert_log import Firing, Targets

#: Names that are looked up at the same time.
_LOOK_UPS: Final = 8


class NotPublic(Exception):
    """A name stands for no address that alerts may be sent to."""


class Webhooks:
    """Posts `body` of a firing to the URL that `target` finds; with `private`, to any address."""

    def __init__(self, target: Callable[[Targets], str | None], body: Callable[[Firing], bytes], private: bool) -> None:
        self._target = target
        self._body = body
        self._private = private
        self._resolver = PublicResolver(private)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, targets: Targets, firing: Firing) -> Outcome:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers={"User-Agent": "rayfeed"}
            )
        headers = {"Content-Type": "application/json", "Idempotency-Key": firing.delivery_id}
        try:
            # What is no name is not looked up.
            url = checked_url(self._target(targets) or "", self._private)
            async with self._session.post(
                url, data=self._body(firing), headers=headers, allow_redirects=False
            ) as answer:
                rest = rest_asked_for(answer.headers.get("Retry-After"), time.time_ns())
                outcome = of_http(answer.status, rest)
                answer.close()
                return outcome
        except aiohttp.ClientConnectorCertificateError as error:
            return Outcome("passing", error=f"the certificate of {error.host} is not good for it")
        except aiohttp.ClientConnectorError as error:
            return Outcome("passing", error=f"no connection to {error.host}: {_why(error.os_error)}")
        except (aiohttp.ClientError, OSError) as error:
            # Some of these texts name the whole URL.
            return Outcome("passing", error=f"no answer: {type(error).__name__}")
        except (ValueError, NotPublic) as error:
            return Outcome("final", error=str(error))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()


class PublicResolver(AbstractResolver):
    """Looks names up and leaves out addresses that alerts must not be sent to; threads of its own, as a slow look-up
    must not keep others waiting."""

    def __init__(self, private: bool) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(_LOOK_UPS, thread_name_prefix="alert-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        allowed = [one for one in found if self._private or is_public(one["host"])]
        if not allowed:
            raise NotPublic(f"{host} has no public address (setting alerts.allow_private_targets)")
        return allowed

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _why(error: OSError) -> str:
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        ResolveResult(hostname=host, host=str(address[0]), port=port, family=of, proto=proto, flags=flags)
        for of, _, proto, _, address in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    ]
