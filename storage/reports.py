"""The reports of an instance: a log of which there are (`storage.record_log`), and a file for the pages of each.

The log is the truth; the table `published_reports` in ClickHouse has the same. The file of a report is whole on the
disk before the log names it, so whoever is killed or loses power between the two has the report or not, never half.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from storage.file_operations import sync_folder, write_new_file
from storage.record_log import RecordLog

_PAGES: Final = "pages"


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """What a report brings, as it was given: HTML, CSS and scripts. "" where there is none; without English pages the
    Vietnamese ones stand for them."""

    html_vi: str
    html_en: str = ""
    css: str = ""
    js_vi: str = ""
    js_en: str = ""

    def __repr__(self) -> str:
        return f"Pages({len(self.html_vi)} characters)"


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """A report without its pages, published for the `version`th time. Times are ns since the epoch; `change` counts
    everything that ever happened to reports; `key` ("" for none) is what its author calls it; `nbytes` and `crc` are
    those of its file."""

    id: int
    version: int
    change: int
    created_at: int
    updated_at: int
    author: str
    key: str
    title_vi: str
    title_en: str
    summary_vi: str
    summary_en: str
    has_english: bool
    nbytes: int
    crc: int


class ReportRemoved(msgspec.Struct, frozen=True, kw_only=True, tag="report_removed"):
    id: int
    change: int


Record = Report | ReportRemoved

_decode: Final = msgspec.json.Decoder(Record).decode


class ReportStore:
    """The reports in `folder`; one process writes them. OSError when the disk fails: nothing has changed then."""

    def __init__(self, folder: Path) -> None:
        self._pages = folder / _PAGES
        self._pages.mkdir(parents=True, exist_ok=True)
        self._log: RecordLog[Record] = RecordLog(folder / "reports.log", msgspec.json.encode, _decoded)

    @property
    def damaged(self) -> int:
        """Lines of the log that were left out."""
        return self._log.damaged

    def records(self) -> Iterator[Record]:
        """The oldest first."""
        return self._log.read()

    def keep(self, report: Report, content: bytes) -> None:
        """A report with the pages `content` (see `encoded`); both survive a power cut."""
        path = self._path(report)
        new = path.with_suffix(".new")
        write_new_file(new, np.frombuffer(content, np.uint8))
        new.replace(path)
        sync_folder(self._pages)
        self._write(report)

    def remove(self, removed: ReportRemoved) -> None:
        """No such report any more."""
        self._write(removed)

    def forget_pages(self, report: Report) -> None:
        """Take the pages away of what the log no longer names."""
        self._path(report).unlink(missing_ok=True)

    def forget_others(self, reports: Sequence[Report]) -> None:
        """Take away what was left by somebody who was killed: all pages but those of these reports."""
        known = {self._path(report).name for report in reports}
        for path in self._pages.iterdir():
            if path.name not in known:
                path.unlink()

    def pages(self, report: Report) -> Pages:
        """OSError and ValueError where its file is gone or damaged."""
        content = self._path(report).read_bytes()
        if len(content) != report.nbytes or zlib.crc32(content) != report.crc:
            raise ValueError(f"the pages of report {report.id} are damaged")
        return msgspec.json.decode(content, type=Pages)

    def shorten(self, records: Sequence[Record]) -> None:
        """Let the log hold these alone."""
        size = self._log.size
        self._log.prepare(records)
        self._log.swap(size)

    def close(self) -> None:
        self._log.close()

    def _write(self, record: Record) -> None:
        self._log.append([record])
        self._log.sync()

    def _path(self, report: Report) -> Path:
        return self._pages / f"{report.id}.{report.version}.json"


def encoded(pages: Pages) -> tuple[bytes, int]:
    """As in its file, and the checksum of that."""
    content = msgspec.json.encode(pages)
    return content, zlib.crc32(content)


def _decoded(content: bytes) -> Record | None:
    try:
        record: Record = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return record
