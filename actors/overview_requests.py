"""One request to a provider of the overview: bounded in time and size, where it was meant to go and nowhere else, and
what goes wrong said without a key.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from yarl import URL

from actors.answer_body import TooLarge, bounded_body
from actors.overview.question import Question, Readings, complaint
from actors.polling.provider import Failed, Limited, check, rest_asked_for

#: The largest answer we ask for has a hundredth of it.
MAX_BODY_BYTES: Final = 1 << 20


def session(timeout_s: float) -> aiohttp.ClientSession:
    """Compressed answers are not asked for, and not read: nothing may grow in our memory."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    )


async def ask(client: aiohttp.ClientSession, url: str, question: Question, clock: Callable[[], int]) -> Readings:
    """What the provider at `url` says. Raises `Failed`, `Refused` and `Limited`, whose texts may still hold a key."""
    where = URL(url + question.request.path, encoded=True)
    try:
        # A redirect is not followed: it would take our key elsewhere.
        async with client.get(where, headers=question.request.headers, allow_redirects=False) as answer:
            body = await bounded_body(answer, MAX_BODY_BYTES)
            status, retry_after = answer.status, answer.headers.get("Retry-After")
    except TooLarge as error:
        raise Failed(str(error)) from None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Failed(f"no answer: {str(error) or type(error).__name__}") from None
    if status == 418 or (status == 503 and retry_after is not None):
        # Binance's ban of those who go on after a 429, and who asks for time.
        raise Limited(rest_asked_for(retry_after, clock()))
    check(status, retry_after, complaint(body) if status != 200 else "", clock())
    return await asyncio.to_thread(question.read, body) if len(body) > 1 << 16 else question.read(body)
