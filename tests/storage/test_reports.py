"""The log of reports and the files of their pages."""

from pathlib import Path

import msgspec
import pytest

from storage.reports import Pages, Report, ReportRemoved, ReportStore, encoded


def made(number: int, text: str = "giá", version: int = 1, change: int | None = None) -> tuple[Report, bytes]:
    content, crc = encoded(Pages(html_vi=f"<p>{text}</p>"))
    same = dict.fromkeys(("author", "key", "title_en", "summary_vi", "summary_en"), "")
    report = msgspec.convert(
        {"type": "report", **same, "id": number, "version": version, "change": change or number, "created_at": 1}
        | {"updated_at": 1, "title_vi": text, "has_english": False, "nbytes": len(content), "crc": crc},
        Report,
    )
    return report, content


def test_reports_are_there_after_a_restart_and_removed_ones_are_not(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    (first, content), (second, more) = made(1), made(2, "hai")
    store.keep(first, content)
    store.keep(second, more)
    store.remove(ReportRemoved(id=1, change=3))
    store.forget_pages(first)
    store.close()
    again = ReportStore(tmp_path)
    assert list(again.records()) == [first, second, ReportRemoved(id=1, change=3)]
    assert again.pages(second).html_vi == "<p>hai</p>"
    with pytest.raises(FileNotFoundError):
        again.pages(first)
    again.close()


def test_a_record_that_was_half_written_is_not_there(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    report, content = made(1)
    store.keep(report, content)
    store.close()
    log = tmp_path / "reports.log"
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: len(whole) // 2])
    again = ReportStore(tmp_path)
    assert list(again.records()) == [report]
    again.keep(*made(2))
    assert [record.id for record in again.records()] == [1, 2]
    again.close()


def test_pages_that_were_damaged_are_not_given(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    report, content = made(1)
    store.keep(report, content)
    file = next((tmp_path / "pages").iterdir())
    file.write_bytes(content.replace(b"g", b"h"))
    with pytest.raises(ValueError, match="damaged"):
        store.pages(report)
    store.close()


def test_what_somebody_left_who_was_killed_is_taken_away(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    report, content = made(1)
    store.keep(report, content)
    for name in ("1.2.json", "9.1.json", "1.2.new"):
        (tmp_path / "pages" / name).write_bytes(b"half")
    store.forget_others([report])
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["1.1.json"]
    store.close()


def test_a_log_that_is_made_short_holds_the_same(tmp_path: Path) -> None:
    store = ReportStore(tmp_path)
    for version in range(1, 20):
        report, content = made(1, f"text {version}", version, version)
        store.keep(report, content)
    long = (tmp_path / "reports.log").stat().st_size
    store.shorten([ReportRemoved(id=7, change=3), report])
    store.keep(*made(2, change=20))
    assert (tmp_path / "reports.log").stat().st_size < long / 4
    assert [(record.id, record.change) for record in store.records()] == [(7, 3), (1, 19), (2, 20)]
    store.close()
