"""Reports: I own the reports of an instance, one log and a file for each in the data folder. I survive being killed
(what I said is published is on the disk) and ClickHouse being away (its table is a copy, which I complete once it
answers). Whoever shows reports asks me for them, and hears from me at once when there is another.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import pyarrow as pa
import structlog

from actors.report_book import LARGE_BYTES, LATEST, NotWritten, ReportBook, ReportError, size_of
from config import Settings
from storage.record_schema import REPORTS
from storage.reports import Pages, Record, Report, ReportStore

#: Who asks for news waits this long when there are none.
NEWS_S: Final = 10.0
#: ClickHouse is asked again what it lacks after so long.
COPY_RETRY_S: Final = 10.0
#: The log is made short when so many of its records count no longer.
_SHORTEN_AFTER: Final = 1000

log = structlog.get_logger(__name__)


class News(msgspec.Struct, frozen=True):
    """How many changes there were to the reports, and which there are, by number."""

    change: int
    ids: list[int]


class Found(msgspec.Struct, frozen=True):
    """A report with its pages."""

    report: Report
    pages: Pages


class Listed(msgspec.Struct, frozen=True):
    """Some reports, the newest first, of `total`."""

    reports: list[Report]
    total: int


class Reports:
    """An actor: one per instance. `database` is the handle of the actor that gets the rows. Methods raise `ReportError`
    for what cannot be."""

    def __init__(self, settings: Settings, database: Any = None, clock: Callable[[], int] = time.time_ns) -> None:
        self._store = ReportStore(settings.data / "reports")
        self._book = ReportBook(self._store.records(), settings.pages.max_reports, settings.pages.max_bytes)
        self._store.forget_others(self._book.reports)
        self._database = database
        self._clock = clock
        self._news = asyncio.Event()
        #: Held from a decision until it is written down.
        self._alone = asyncio.Lock()
        self._outdated = 0
        self._copying: asyncio.Task[None] | None = None
        self._copied = database is None

    def __repr__(self) -> str:
        return f"Reports({len(self._book.ids)} reports)"

    async def status(self) -> dict[str, Any]:
        """reports, their bytes, damaged (lines of the log), copied (whether ClickHouse has them)."""
        self._copy()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "reports": len(self._book.ids),
            "bytes": self._book.nbytes,
            "damaged": self._store.damaged,
            "copied": self._copied,
        }

    async def stop(self) -> None:
        if self._copying is not None:
            await asyncio.wait([self._copying], timeout=1.0)
            self._copying.cancel()
        self._store.close()

    async def publish(self, given: Mapping[str, Any], author: str) -> dict[str, Any]:
        """Publish a report, see `actors.report_book.Given`; with the key of one that there is, its next version. What
        was published, with `warnings`."""
        async with self._alone:
            # Encoding megabytes takes its time, which others need not wait for.
            report, pages, content = await asyncio.to_thread(self._book.published, dict(given), author, self._clock())
            before = self._book.find(report.id)
            await self._written(self._store.keep, report, content)
            self._apply(report)
            if before is not None:
                await asyncio.to_thread(self._store.forget_pages, before)
        size = size_of(pages)
        if size <= LARGE_BYTES:
            return {**shown(report), "warnings": []}
        log.warning("a large report", report=report.id, bytes=size)
        return {**shown(report), "warnings": [f"{size} bytes of pages: above {LARGE_BYTES >> 20} MiB they load slowly"]}

    async def remove(self, report_id: int) -> None:
        """`UnknownReport`."""
        async with self._alone:
            removed, before = self._book.removed(report_id), self._book.report(report_id)
            await self._written(self._store.remove, removed)
            self._apply(removed)
            await asyncio.to_thread(self._store.forget_pages, before)

    async def report(self, report_id: int = LATEST) -> Found:
        """With its pages; -1: the latest. `UnknownReport`."""
        report = self._book.report(report_id)
        try:
            return Found(report, await asyncio.to_thread(self._store.pages, report))
        except (OSError, ValueError) as error:
            if self._book.find(report.id) != report:
                # It was replaced or removed while it was read.
                return await self.report(report.id)
            log.error("the pages of a report cannot be read", report=report.id, error=str(error))
            raise NotWritten(f"the pages of report {report.id} cannot be read: restore them from a backup") from None

    async def newest(self, count: int, before: int | None = None, skip: int = 0) -> Listed:
        """See `ReportBook.newest`."""
        return Listed(self._book.newest(count, before, skip), len(self._book.ids))

    async def news(self, change: int | None = None) -> News | None:
        """See `News`; None when nothing has changed since `change` after some seconds."""
        if change == self._book.change:
            try:
                await asyncio.wait_for(self._news.wait(), NEWS_S)
            except TimeoutError:
                return None
        return News(self._book.change, self._book.ids)

    async def _written(self, write: Callable[..., None], *arguments: Any) -> None:
        try:
            await asyncio.to_thread(write, *arguments)
        except OSError as error:
            raise NotWritten(f"the disk of this instance takes nothing now: {error.strerror}") from None

    def _apply(self, record: Record) -> None:
        known = len(self._book.ids)
        self._book.apply(record)
        self._outdated += len(self._book.ids) <= known
        if self._outdated > _SHORTEN_AFTER:
            self._outdated = 0
            try:
                self._store.shorten(self._book.records)
            except OSError as error:
                log.warning("the log of reports could not be made short", error=str(error))
        self._news.set()
        self._news = asyncio.Event()
        self._copied = self._database is None
        self._copy()

    def _copy(self) -> None:
        if not self._copied and (self._copying is None or self._copying.done()):
            self._copying = asyncio.get_running_loop().create_task(self._complete(), name="copy of reports")

    async def _complete(self) -> None:
        """Write to ClickHouse what it lacks."""
        change, unreadable = self._book.change, list[ReportError]()
        try:
            found = await self._database.query.remote("SELECT id, revision, active FROM published_reports FINAL", {})
            there = {row["id"]: (row["revision"], bool(row["active"])) for row in found.to_pylist()}
            for report in self._book.reports:
                if there.get(report.id) != (report.version, True):
                    try:
                        pages = (await self.report(report.id)).pages
                    except ReportError as error:
                        # The others are copied all the same.
                        unreadable.append(error)
                    else:
                        await self._insert(_row(report, pages))
            for removed in self._book.removed_ids:
                if there.get(removed, (0, False))[1]:
                    await self._insert(_REMOVED_ROW | {"id": removed})
            if unreadable:
                raise unreadable[0]
            self._copied = change == self._book.change
        except Exception as error:  # noqa: BLE001 - ClickHouse has a copy, and is asked again
            log.debug("reports are not copied now", error=repr(error))
            await asyncio.sleep(COPY_RETRY_S)

    async def _insert(self, row: Mapping[str, Any]) -> None:
        await self._database.insert.remote("published_reports", None, pa.Table.from_pylist([dict(row)], schema=REPORTS))


def shown(report: Report) -> dict[str, Any]:
    """What anybody may know of a report, without its pages."""
    hidden = ("change", "crc", "nbytes")
    return {name: getattr(report, name) for name in Report.__struct_fields__ if name not in hidden}


_REMOVED_ROW: Final = {
    **dict.fromkeys(("created_at", "revision"), 0),
    **dict.fromkeys(("html_content", "title", "title_en", "summary", "summary_en", "author"), ""),
    "active": False,
}


def _row(report: Report, pages: Pages) -> dict[str, Any]:
    return {
        "id": report.id,
        "created_at": report.created_at,
        "html_content": pages.html_vi,
        "css_content": pages.css or None,
        "js_content": pages.js_vi or None,
        "html_content_en": pages.html_en or None,
        "js_content_en": pages.js_en or None,
        "title": report.title_vi,
        "title_en": report.title_en,
        "summary": report.summary_vi,
        "summary_en": report.summary_en,
        "author": report.author,
        "revision": report.version,
        "active": True,
    }
