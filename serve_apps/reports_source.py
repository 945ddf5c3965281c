"""What there is to show: the reports of the instance, asked of the actor that has them, and how many changes there
were, which every replica hears at once. Whoever keeps an answer keeps it for one number of changes, so none outlives a
change.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, Final, Protocol

import ray
import structlog

from actors.directory import REPORTS
from actors.report_book import ReportError
from actors.reports import NEWS_S, Found, Listed, News
from serve_apps.asked_actors import actor
from serve_apps.shared_answer import NoAnswer

#: A report has megabytes.
ANSWER_S: Final = 15.0
#: Who comes right after the start waits this long for what is known.
FIRST_S: Final = 3.0
RETRY_S: Final = 0.2

log = structlog.get_logger(__name__)


class AskReports(Protocol):
    """Calls a method of `actors.reports.Reports` by name; raises what that raises, and `NoAnswer`."""

    def __call__(self, method: str, *arguments: Any) -> Awaitable[Any]: ...


async def ask_reports(method: str, *arguments: Any) -> Any:
    """See `AskReports`."""
    try:
        within_s = ANSWER_S + (NEWS_S if method == "news" else 0)
        return await asyncio.wait_for(getattr(actor(REPORTS), method).remote(*arguments), within_s)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ReportError):
            raise error.cause from None
        raise
    except (TimeoutError, ray.exceptions.RayError, ValueError):
        raise NoAnswer("Who has the reports does not answer now; ask again in a moment.") from None


class ReportSource:
    """The reports as one replica sees them; used on one event loop."""

    def __init__(self, ask: AskReports) -> None:
        self._ask = ask
        self._news: News | None = None
        self._there = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def news(self) -> News:
        """What is known now. `NoAnswer` where nothing is known yet."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="news of reports")
        if self._news is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._there.wait(), FIRST_S)
        if self._news is None:
            raise NoAnswer("Which reports there are is not known yet; ask again in a moment.")
        return self._news

    async def report(self, report_id: int) -> Found:
        """`UnknownReport`, `NoAnswer`."""
        found: Found = await self._ask("report", report_id)
        return found

    async def newest(self, count: int, before: int | None = None, skip: int = 0) -> Listed:
        """See `Reports.newest`."""
        listed: Listed = await self._ask("newest", count, before, skip)
        return listed

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])

    async def _follow(self) -> None:
        while True:
            try:
                news: News | None = await self._ask("news", self._news.change if self._news else None)
                if news is not None:
                    self._news = news
                    self._there.set()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the actor comes back
                log.debug("the reports do not answer", error=repr(error))
                await asyncio.sleep(RETRY_S)
