"""The actor that owns the reports, and what may be one."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.database import Database
from actors.report_book import LARGE_BYTES, MOST_BYTES, NotWritten, ReportBook, ReportError, TooLarge, UnknownReport
from actors.reports import Reports
from config import load
from storage.clickhouse import DatabaseUnavailable
from storage.reports import Record
from tests.polling import until
from tests.servers import ClickHouseServer, needs_clickhouse_server
from tests.storage.clickhouses import server

__all__ = ["server"]

_numbers = itertools.count()
_ONE = {"title_vi": "Báo cáo", "html_vi": "<p>giá</p>"}


class Method:
    def __init__(self, called: Any) -> None:
        self.remote = called


class Handle:
    """What Ray gives for the database actor; `away` says whether ClickHouse is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.away = False
        self.insert, self.query = Method(database.insert), Method(self._query)

    async def _query(self, sql: str, parameters: Any) -> Any:
        if self.away:
            raise DatabaseUnavailable("refused")
        return await self._database.query(sql, parameters)


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
async def database(
    request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path
) -> AsyncIterator[Database]:
    of_server = server is not None and request.param == "server"
    url = f"{server.url}_reports_{next(_numbers)}" if server is not None and of_server else None
    opened = Database(load(tmp_path).model_copy(update={"clickhouse_url": url}))
    yield opened
    await opened.stop()


async def rows(database: Database) -> list[tuple[int, str, int, bool]]:
    found = await database.query("SELECT id, title, revision, active FROM published_reports FINAL ORDER BY id", {})
    return [(row["id"], row["title"], row["revision"], bool(row["active"])) for row in found.to_pylist()]


async def test_what_was_published_is_there_after_a_restart(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path))
    first = await reports.publish(_ONE | {"css": "p{}", "js_vi": "1", "html_en": "<p>en</p>"}, "ada")
    await reports.publish(_ONE | {"title_vi": "hai"}, "ada")
    await reports.remove(2)
    await reports.stop()
    again = Reports(load(tmp_path))
    found = await again.report()
    assert (found.report.id, found.report.author, found.pages.css) == (first["id"], "ada", "p{}")
    assert (found.report.title_en, found.report.has_english) == ("Báo cáo", True)
    # The number of one that was removed is not given again.
    assert (await again.publish(_ONE, "ada"))["id"] == 3
    await again.stop()


async def test_the_same_key_publishes_the_next_version_of_the_same_report(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path))
    first = await reports.publish(_ONE | {"key": "daily-2026-01-31"}, "ada")
    second = await reports.publish(_ONE | {"key": "daily-2026-01-31", "title_vi": "hai"}, "bob")
    assert (second["id"], second["version"], second["created_at"]) == (first["id"], 2, first["created_at"])
    assert [report.title_vi for report in (await reports.newest(10)).reports] == ["hai"]
    assert len(list((tmp_path / "reports" / "pages").iterdir())) == 1
    await reports.stop()


async def test_whoever_waits_hears_of_a_report_at_once(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path))
    news = await reports.news()
    assert news is not None
    assert (news.change, news.ids) == (0, [])
    waiting = asyncio.ensure_future(reports.news(0))
    await asyncio.sleep(0)
    await reports.publish(_ONE, "ada")
    told = await asyncio.wait_for(waiting, 1)
    assert told is not None
    assert (told.change, told.ids) == (1, [1])
    await reports.stop()


async def test_clickhouse_gets_what_there_is_also_what_it_missed(database: Database, tmp_path: Path) -> None:
    handle = Handle(database)
    reports = Reports(load(tmp_path / "own"), handle)
    await reports.publish(_ONE | {"title_vi": "một", "key": "one"}, "ada")

    async def has(expected: list[tuple[int, str, int, bool]]) -> bool:
        await reports.status()
        await database.flush(10)
        return await rows(database) == expected

    await until(lambda: has([(1, "một", 1, True)]), 30)
    await reports.publish(_ONE | {"title_vi": "mới", "key": "one"}, "ada")
    await reports.publish(_ONE | {"title_vi": "hai"}, "ada")
    await until(lambda: has([(1, "mới", 2, True), (2, "hai", 1, True)]), 30)
    await reports.stop()
    # Another start, with what happened while ClickHouse was away.
    handle.away = True
    alone = Reports(load(tmp_path / "own"), handle)
    await alone.status()
    await alone.remove(1)
    await alone.publish(_ONE | {"title_vi": "ba"}, "ada")
    await alone.stop()
    handle.away = False
    reports = Reports(load(tmp_path / "own"), handle)
    await until(lambda: has([(1, "", 0, False), (2, "hai", 1, True), (3, "ba", 1, True)]), 30)
    assert (await reports.status())["copied"]
    await reports.stop()


async def test_a_report_that_cannot_be_read_keeps_no_other_from_clickhouse(database: Database, tmp_path: Path) -> None:
    alone = Reports(load(tmp_path / "own"))
    await alone.publish(_ONE, "ada")
    await alone.publish(_ONE | {"title_vi": "hai"}, "ada")
    await alone.stop()
    (tmp_path / "own" / "reports" / "pages" / "1.1.json").write_bytes(b"{}")
    reports = Reports(load(tmp_path / "own"), Handle(database))

    async def has_the_other() -> bool:
        await database.flush(10)
        return await rows(database) == [(2, "hai", 1, True)]

    assert not (await reports.status())["copied"]
    await until(has_the_other, 30)
    assert not (await reports.status())["copied"]
    await reports.stop()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"title_vi": " "}, "needs title_vi"),
        ({"html_vi": ""}, "needs title_vi and html_vi"),
        ({"title_vi": "x" * 201}, "title_vi may have 200"),
        ({"title_en": "a\x00b"}, "cannot be shown"),
        ({"summary_vi": "x" * 1001}, "summary_vi may have 1000"),
        ({"key": "../x"}, "key must have"),
        ({"html_vi": 7}, r"Expected `str`.*html_vi"),
        ({"more": ""}, "unknown field `more`"),
    ],
)
async def test_what_a_report_cannot_be_is_said(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    reports = Reports(load(tmp_path))
    with pytest.raises(ReportError, match=said):
        await reports.publish(_ONE | wrong, "ada")
    assert (await reports.newest(1)).total == 0
    await reports.stop()


async def test_a_large_report_is_told_and_a_larger_one_refused(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path))
    assert (await reports.publish(_ONE | {"html_vi": "x" * LARGE_BYTES}, "ada"))["warnings"] == []
    large = await reports.publish(_ONE | {"html_vi": "ế" * (LARGE_BYTES // 3 + 1)}, "ada")
    assert "load slowly" in large["warnings"][0]
    with pytest.raises(TooLarge, match="5 MiB"):
        await reports.publish(_ONE | {"js_vi": "x" * MOST_BYTES}, "ada")
    await reports.stop()


async def test_there_are_no_more_reports_than_there_may_be(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path, {"pages": {"max_reports": 2, "max_bytes": 1500}}))
    for number in range(2):
        await reports.publish(_ONE | {"key": f"key-{number}"}, "ada")
    with pytest.raises(TooLarge, match="2 reports"):
        await reports.publish(_ONE, "ada")
    assert (await reports.publish(_ONE | {"key": "key-1"}, "ada"))["version"] == 2
    with pytest.raises(TooLarge, match="together"):
        await reports.publish(_ONE | {"key": "key-1", "js_vi": "x" * 1500}, "ada")
    await reports.stop()


async def test_what_the_disk_does_not_take_is_not_published(tmp_path: Path) -> None:
    reports = Reports(load(tmp_path))
    await reports.publish(_ONE, "ada")
    shutil.rmtree(tmp_path / "reports" / "pages")
    with pytest.raises(NotWritten, match="disk"):
        await reports.publish(_ONE, "ada")
    assert (await reports.newest(10)).total == 1
    with pytest.raises(NotWritten, match="cannot be read"):
        await reports.report(1)
    with pytest.raises(UnknownReport):
        await reports.report(2)
    await reports.stop()


@given(st.lists(st.one_of(st.tuples(st.just("publish"), st.sampled_from(["", "a", "b"])), st.just(("remove", "")))))
def test_a_book_read_from_its_records_is_the_same(steps: list[tuple[str, str]]) -> None:
    book, records = ReportBook([], 10, 10_000), list[Record]()
    for step, key in steps:
        try:
            if step == "publish":
                record: Record = book.published(_ONE | {"key": key}, "ada", len(records))[0]
            else:
                record = book.removed(-1)
        except ReportError:
            continue
        book.apply(record)
        records.append(record)
    for told in (records, book.records):
        again = ReportBook(told, 10, 10_000)
        assert (again.reports, again.ids) == (book.reports, book.ids)
        assert (
            book.published(_ONE | {"key": "new"}, "ada", 0)[0].id == again.published(_ONE | {"key": "new"}, "", 0)[0].id
        )
    assert len({report.key for report in book.reports if report.key}) == sum(bool(one.key) for one in book.reports)
    assert [record.change for record in records] == list(range(1, len(records) + 1))
