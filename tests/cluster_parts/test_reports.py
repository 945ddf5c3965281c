"""`rayfeed report` on a data folder whose instance does not run."""

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.report_book import ReportError, UnknownReport
from cluster import reports
from cluster.instance import InstanceError
from config import SettingsError

_ONE = {"title_vi": "Báo cáo", "title_en": "A report", "html_vi": "<p>giá</p>", "key": "one"}


def invoke(*arguments: str) -> str:
    done = CliRunner().invoke(reports.app, list(arguments), env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def written(folder: Path, name: str, content: Any) -> str:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_reports_are_published_listed_and_removed(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    assert invoke("list", *data) == "no reports; make one with: rayfeed report generate\n"
    files = [written(tmp_path, "a.json", _ONE), written(tmp_path, "b.json", _ONE | {"key": "", "title_en": "Another"})]
    said = invoke("publish", *files, *data).splitlines()
    assert said[0] == "report 1, version 1: A report (/crypto_report/1)"
    assert said[1].startswith("report 2, version 1: Another")
    again = json.loads(invoke("publish", files[0], "--json", *data))
    assert (again["id"], again["version"], again["author"]) == (1, 2, getpass.getuser())
    assert [line.split()[:2] for line in invoke("list", *data).splitlines()[1:]] == [["2", "1"], ["1", "2"]]
    assert invoke("remove", "2", *data) == "2: removed\n"
    assert [row["id"] for row in json.loads(invoke("list", "--json", *data))] == [1]
    with pytest.raises(UnknownReport, match="no report 2"):
        invoke("remove", "2", *data)


def test_titles_are_listed_as_they_are_whatever_signs_they_hold(tmp_path: Path) -> None:
    title = "[urgent] Bitcoin [/b] at 12:00 :moon:"
    invoke("publish", written(tmp_path, "a.json", _ONE | {"title_en": title}), "--data", str(tmp_path))
    assert invoke("list", "--data", str(tmp_path)).splitlines()[1].endswith(title)


def test_who_reads_the_list_from_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    title = "Bitcoin and others " * 10
    invoke("publish", written(tmp_path, "a.json", _ONE | {"title_en": title}), "--data", str(tmp_path))
    done = CliRunner().invoke(reports.app, ["list", "--data", str(tmp_path)], env={"COLUMNS": "80"})
    assert done.stdout.splitlines()[1].endswith(title.strip())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ({"title_vi": "x"}, "html_vi"),
        ("x" * (17 << 20), "too large"),
        (_ONE | {"html_vi": "\ud83d"}, "html_vi has half of a character"),
    ],
)
def test_what_is_no_report_is_said(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises((SettingsError, ReportError), match=said):
        invoke("publish", written(tmp_path, "a.json", content), "--data", str(tmp_path))
    assert invoke("list", "--json", "--data", str(tmp_path)) == "[]\n"


def test_a_day_is_made_of_what_a_running_instance_has(tmp_path: Path) -> None:
    with pytest.raises(InstanceError, match="nothing runs"):
        invoke("generate", "--data", str(tmp_path))
    with pytest.raises(SettingsError, match="expected one like 2026-01-31"):
        invoke("generate", "--day", "yesterday", "--data", str(tmp_path))
    with pytest.raises(SettingsError, match="no data folder"):
        invoke("list", "--data", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="cannot be read"):
        invoke("publish", str(tmp_path / "none.json"), "--data", str(tmp_path))
