"""REST requests to one exchange, within one budget of weight for all of them: waits until a request may be sent,
rests as long as the exchange asks (Retry-After), and tries again what may work the second time. What is live comes
before what is past: spare requests take what the others leave.
"""

import asyncio
import time
from types import TracebackType
from typing import Final, Self

import aiohttp

from actors.answer_body import TooLarge, bounded_body
from actors.feeds.feed import RestRequest
from actors.request_budget import RequestBudget

TIMEOUT_S: Final = 20.0
ATTEMPTS: Final = 4
FIRST_RETRY_S: Final = 0.5
#: Rest when an exchange refuses without saying for how long.
DEFAULT_REST_S: Final = 60.0
#: Larger answers are refused: the longest we ask for, a list of all instruments, has a tenth of it.
MAX_BODY_BYTES: Final = 64 << 20
#: Binance says in each answer how much of the minute's weight is used.
_USED_WEIGHT: Final = "x-mbx-used-weight-1m"


class RestError(Exception):
    """A request without a usable answer; the message says why, in one line. `passing` where it says something of the
    exchange at this moment (away, failing, slow, asking for a rest) and not of the request."""

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


class RestClient:
    """Use as an async context manager."""

    def __init__(self, base: str, budget: RequestBudget) -> None:
        self._base = base.rstrip("/")
        self._budget = budget
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def url(self, request: RestRequest) -> str:
        return f"{self._base}{request.path}"

    async def get(self, request: RestRequest, attempts: int = ATTEMPTS, spare: bool = False) -> bytes:
        """The body of the answer; `RestError` when there is none after so many attempts. A `spare` request takes what
        the others leave of the budget; see `RequestBudget.take`."""
        wait = FIRST_RETRY_S
        for attempt in range(1, attempts + 1):
            await spend(self._budget, request.weight, spare)
            try:
                return await self._get(request)
            except _Again as again:
                if attempt == attempts:
                    raise RestError(str(again), passing=True) from None
            await asyncio.sleep(wait)
            wait *= 2
        raise AssertionError("every attempt returns, raises or is followed by another")

    async def _get(self, request: RestRequest) -> bytes:
        assert self._session is not None
        try:
            async with self._session.get(self.url(request)) as answer:
                now = time.monotonic()
                if (used := answer.headers.get(_USED_WEIGHT, "")).isdecimal():
                    self._budget.observe(int(used), now)
                if answer.status in (418, 429):
                    self._budget.pause(retry_after(answer.headers.get("Retry-After")) or DEFAULT_REST_S, now)
                    raise _Again(f"{request.path}: {answer.status} too many requests")
                if answer.status >= 500:
                    raise _Again(f"{request.path}: {answer.status} {answer.reason}")
                body = await bounded_body(answer, MAX_BODY_BYTES)
                if answer.status != 200:
                    raise RestError(f"{request.path}: {answer.status} {body[:200].decode(errors='replace')}")
                return body
        except TooLarge as error:
            raise RestError(f"{request.path}: {error}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Again(f"{request.path}: {str(error) or type(error).__name__}") from None


class _Again(Exception):
    """May work the next time."""


def retry_after(header: str | None) -> float:
    """The seconds a Retry-After header asks for; 0 without one, an hour at most."""
    return min(float(header), 3600.0) if header and header.isdecimal() else 0.0


async def spend(budget: RequestBudget, weight: float, spare: bool = False) -> None:
    """Wait until the weight may be spent, and spend it."""
    if not (wait := budget.take(weight, time.monotonic(), spare)):
        return
    budget.waiting += not spare
    try:
        while wait:
            await asyncio.sleep(wait)
            wait = budget.take(weight, time.monotonic(), spare)
    finally:
        budget.waiting -= not spare
