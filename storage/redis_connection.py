"""Connections to Redis, the embedded or the user's: how they are made, and what their errors mean for the user.

`rediss://` is TLS; the certificate is checked against the system's authorities or those of `?ssl_ca_certs=FILE`.
"""

import os
import ssl
from collections.abc import Iterator
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError
from redis.exceptions import TimeoutError as NoAnswer

ANSWER_SECONDS: Final = 5.0
#: Streams can be cut and taken over from dead consumers since then.
OLDEST: Final = (6, 2)

_FORM: Final = "redis:// or rediss://[[user]:password@]host[:port][/database]"


class RedisRefused(Exception):
    """A Redis that will not be of use however long one waits; the message is one line for the user."""


def opened(url: str) -> Redis:
    """A client that gives up early and by itself tries nothing again. `ValueError` for a url that cannot be one; it
    does not show the url, which may hold a password."""
    try:
        return Redis.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise ValueError(
            f"the URL of Redis is not of the form {_FORM}; other signs than letters and digits in the password are "
            "written as %XX"
        ) from None


def complaint(error: BaseException) -> str:
    """One line about what went wrong, and what to do where that is known."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of Redis is not trusted: {cause.verify_message}; name the file with its authority's "
                "certificate in REDIS_URL: rediss://...?ssl_ca_certs=FILE"
            )
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with Redis ({cause.reason or 'refused'}); a server without TLS wants redis:// in REDIS_URL"
        if isinstance(cause, AuthenticationError | AuthorizationError):
            return f"Redis refuses the user or password in REDIS_URL: {cause}"
    said = " ".join(str(error).split()) or type(error).__name__
    # What is said in the wrong one of two languages gets no answer.
    unanswered = isinstance(error, NoAnswer) or "closed by server" in said or "reset by peer" in said
    return f"{said} (a server with TLS wants rediss:// in REDIS_URL, one without redis://)" if unanswered else said


def is_lasting(error: BaseException) -> bool:
    """Whether waiting will not help."""
    return any(isinstance(cause, _LASTING) for cause in _causes(error))


async def check(url: str) -> str | None:
    """None for a Redis that can be used, what is wrong for one that does not answer now. `RedisRefused` when waiting
    will not help: a wrong password or certificate, or a server that is too old."""
    try:
        client = opened(url)
    except ValueError as error:
        raise RedisRefused(str(error)) from None
    options = client.connection_pool.connection_kwargs
    for name in _FILES:
        if (path := options.get(name)) and not os.access(path, os.R_OK):
            raise RedisRefused(f"REDIS_URL says {name}={path}, which cannot be read")
    try:
        await client.ping()
        version = str((await client.info("server"))["redis_version"])
    except (RedisError, OSError) as error:
        said = complaint(error)
        if is_lasting(error):
            raise RedisRefused(said) from None
        return said
    finally:
        await client.aclose()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise RedisRefused(f"Redis {version} is too old: rayfeed needs {'.'.join(map(str, OLDEST))} or newer")
    return None


_LASTING: Final = (ssl.SSLError, AuthenticationError, AuthorizationError)
#: What a URL may name as files.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
