"""Which reports there are, and what one may be: decisions about them, without a disk. Pure: a decision gives the record
to write down, which counts once it is applied; the time is passed in.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from config import SettingsError
from storage.reports import Pages, Record, Report, ReportRemoved, encoded

#: Pages of a report, all together: one that is larger than the first is slow to load, than the second refused.
LARGE_BYTES: Final = 2 << 20
MOST_BYTES: Final = 5 << 20
LONGEST_TITLE: Final = 200
LONGEST_SUMMARY: Final = 1000
LATEST: Final = -1
#: Controls, what turns the direction of writing around, and what XML cannot hold.
_HIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
#: Of a character; JSON can hold it, UTF-8 cannot.
_HALF: Final = re.compile(r"[\ud800-\udfff]")
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


class ReportError(SettingsError):
    """A report that cannot be; the message is one line for the user."""


class UnknownReport(ReportError):
    """There is no report of that number."""


class TooLarge(ReportError):
    """Its pages are too large, or there are too many reports."""


class NotWritten(ReportError):
    """The disk takes nothing now; it may later."""


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is given to publish a report. With a `key` that was given before, it takes the place of that report."""

    title_vi: str
    html_vi: str
    title_en: str = ""
    html_en: str = ""
    summary_vi: str = ""
    summary_en: str = ""
    css: str = ""
    js_vi: str = ""
    js_en: str = ""
    key: str = ""


class ReportBook:
    """Everything the records say. At most `most_reports` with `most_bytes` of pages together."""

    def __init__(self, records: Iterable[Record], most_reports: int, most_bytes: int) -> None:
        self._most_reports, self._most_bytes = most_reports, most_bytes
        self._reports: dict[int, Report] = {}
        self._keys: dict[str, int] = {}
        self._next_id = 1
        #: How many changes there were.
        self.change = 0
        self._removed: dict[int, ReportRemoved] = {}
        for record in records:
            self.apply(record)

    @property
    def reports(self) -> list[Report]:
        """By number: the oldest first."""
        return [self._reports[one] for one in sorted(self._reports)]

    @property
    def ids(self) -> list[int]:
        return sorted(self._reports)

    @property
    def removed_ids(self) -> list[int]:
        """Of reports that there were."""
        return list(self._removed)

    @property
    def records(self) -> list[Record]:
        """What a log has to hold for all this."""
        return [*self._removed.values(), *self.reports]

    @property
    def nbytes(self) -> int:
        return sum(report.nbytes for report in self._reports.values())

    def report(self, report_id: int) -> Report:
        """-1: the latest. `UnknownReport`."""
        wanted = max(self._reports, default=0) if report_id == LATEST else report_id
        if wanted not in self._reports:
            raise UnknownReport("there is no report yet" if report_id == LATEST else f"there is no report {report_id}")
        return self._reports[wanted]

    def newest(self, count: int, before: int | None = None, skip: int = 0) -> list[Report]:
        """The newest first; `before`: of those with a smaller number."""
        ids = [one for one in self.ids if before is None or one < before]
        return [self._reports[one] for one in reversed(ids)][skip : skip + count]

    def find(self, report_id: int) -> Report | None:
        return self._reports.get(report_id)

    def published(self, given: Mapping[str, Any], author: str, now: int) -> tuple[Report, Pages, bytes]:
        """The record of a new report, or of a new version of the one with its key, and its pages, also as they are
        kept. `ReportError`."""
        try:
            said = msgspec.convert(given, Given)
        except msgspec.ValidationError as error:
            raise ReportError(f"a report cannot be like this: {error}") from None
        _check(said)
        pages = Pages(**{name: getattr(said, name) for name in Pages.__struct_fields__})
        content, crc = encoded(pages)
        if size_of(pages) > MOST_BYTES:
            raise TooLarge(f"the pages of a report may have {MOST_BYTES >> 20} MiB at most")
        before = self._reports.get(self._keys.get(said.key, 0)) if said.key else None
        if before is None and len(self._reports) >= self._most_reports:
            raise TooLarge(f"there are {self._most_reports} reports, as many as may be: remove some")
        if self.nbytes + len(content) - (before.nbytes if before else 0) > self._most_bytes:
            raise TooLarge("all reports together have as many bytes as they may have: remove some")
        report = Report(
            id=before.id if before else self._next_id,
            version=before.version + 1 if before else 1,
            change=self.change + 1,
            created_at=before.created_at if before else now,
            updated_at=now,
            author=author,
            key=said.key,
            title_vi=said.title_vi.strip(),
            title_en=said.title_en.strip() or said.title_vi.strip(),
            summary_vi=said.summary_vi.strip(),
            summary_en=said.summary_en.strip() or said.summary_vi.strip(),
            has_english=bool(said.html_en),
            nbytes=len(content),
            crc=crc,
        )
        return report, pages, content

    def removed(self, report_id: int) -> ReportRemoved:
        """`UnknownReport`, for -1 too: asked for again it would be another one."""
        if report_id not in self._reports:
            raise UnknownReport(f"there is no report {report_id}")
        return ReportRemoved(id=report_id, change=self.change + 1)

    def apply(self, record: Record) -> None:
        self.change = max(self.change, record.change)
        self._next_id = max(self._next_id, record.id + 1)
        before = self._reports.pop(record.id, None)
        if before is not None and before.key:
            self._keys.pop(before.key, None)
        if isinstance(record, ReportRemoved):
            self._removed[record.id] = record
            return
        self._reports[record.id] = record
        if record.key:
            self._keys[record.key] = record.id


def keyed(given: Mapping[str, Any]) -> dict[str, Any]:
    """With a key of its own where it has none: a call that is made again, as Ray does when the actor died under it,
    publishes no second report."""
    return {**given, "key": given.get("key") or f"once-{uuid.uuid4().hex}"}


def size_of(pages: Pages) -> int:
    """Of all pages together, in bytes."""
    return sum(len(getattr(pages, name).encode()) for name in Pages.__struct_fields__)


def _check(given: Given) -> None:
    if not given.title_vi.strip() or not given.html_vi.strip():
        raise ReportError("a report needs title_vi and html_vi")
    if given.key and not _KEY.fullmatch(given.key):
        raise ReportError("key must have 1 to 100 letters, digits or . _ : - and begin with a letter or digit")
    for name in Pages.__struct_fields__:
        if _HALF.search(getattr(given, name)):
            raise ReportError(f"{name} has half of a character, which cannot be written in UTF-8")
    lengths: Sequence[tuple[str, int]] = (
        *((name, LONGEST_TITLE) for name in ("title_vi", "title_en")),
        *((name, LONGEST_SUMMARY) for name in ("summary_vi", "summary_en")),
    )
    for name, most in lengths:
        value = getattr(given, name)
        if len(value) > most:
            raise ReportError(f"{name} may have {most} characters at most")
        if _HIDDEN.search(value):
            raise ReportError(f"{name} has a character that cannot be shown")
