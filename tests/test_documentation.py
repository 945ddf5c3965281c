"""docs/ becomes pages without a link that leads nowhere and without a request to anywhere; what it names exists."""

import ast
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from actors.feeds.registry import FEEDS
from storage.schema import COLUMNS, INDICATOR_FIELDS

PROJECT = Path(__file__).parents[1]
DOCS = PROJECT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [PROJECT / "README.md", *PAGES]
#: Folders of the checkout: what documents name below them is there.
TREES = ("actors", "benchmarks", "cluster", "config", "docs", "notebooks", "research", "serve_apps", "storage", "tests")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
_TEST = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


class Page(HTMLParser):
    """What a page links to and loads, and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and "canonical" not in given.get("rel", ""):
            self.loads.append(given.get("href", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_in_the_menu(site: Path) -> None:
    menu = Page((site / "index.html").read_text()).links
    for page in PAGES:
        assert (site / f"{page.stem}.html").is_file()
        assert page.stem == "index" or f"{page.stem}.html" in menu, f"{page.name} is not in mkdocs.yml"


def test_every_link_and_anchor_of_a_page_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path.read_text()) for path in site.glob("*.html") if path.name != "404.html"}
    checked = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.name}: {link}"
            checked += 1
    assert checked > 500


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    loads = {load for path in site.glob("*.html") for load in Page(path.read_text()).loads}
    assert any(load.endswith(".css") for load in loads)
    assert [load for load in loads if urlsplit(load).netloc] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet.name


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("[part](index.md#nowhere)", "nowhere"),
        ("[file](../actors/nobody.py)", "nobody.py"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "mkdocs.yml").write_text((PROJECT / "mkdocs.yml").read_text())
    (tmp_path / "docs" / "hooks.py").write_text((DOCS / "hooks.py").read_text())
    (tmp_path / "docs" / "index.md").write_text(f"# One\n\n{text}\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode != 0
    assert wrong in done.stderr


# ---- what is named exists


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_files_that_are_linked_or_named_exist(path: Path) -> None:
    text = path.read_text()
    for link in _LINK.findall(_FENCE.sub("", text)):
        if not urlsplit(link).scheme and not link.startswith("#"):
            assert (path.parent / link.partition("#")[0]).exists(), link
    for named in _CODE.findall(_FENCE.sub("", text)):
        if named.partition("/")[0] in TREES and re.fullmatch(r"[\w./-]+\.(py|md|yaml|sql|ipynb|json|ts)", named):
            # What is to be made has a place for its name.
            assert "NAME" in named or (PROJECT / named).exists(), f"{path.name}: {named}"


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((PROJECT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_promise_names_tests_that_exist() -> None:
    sections = (DOCS / "failures.md").read_text().split("\n## ")[1:]
    assert len(sections) == 11, "ten promises, and all of them together"
    for section in sections:
        named = _TEST.findall(section)
        assert named, section.partition("\n")[0]
        for test, path in named:
            assert test in functions_of(path), f"{path} has no {test}"


# ---- what is to be done to add something is what was done for what there is


def files(page: str) -> list[str]:
    return _ROW.findall((DOCS / page).read_text())


@pytest.mark.parametrize("exchange", FEEDS)
def test_each_exchange_has_what_the_page_about_adding_one_lists(exchange: str) -> None:
    listed = files("add_exchange.md")
    assert len(listed) == 14
    for name in listed:
        if (exchange, name) == ("binance", "tests/actors/simulator/dialects/test_NAME.py"):
            continue  # the tests of the market itself are made of it
        path = PROJECT / name.replace("NAME", exchange)
        assert path.is_file(), path
        assert exchange in path.read_text().lower(), path


def test_nothing_else_of_the_program_names_an_exchange_that_was_added() -> None:
    """Bybit was added last, and has nothing that others have not."""
    listed = {name.replace("NAME", "bybit") for name in files("add_exchange.md")}
    done = subprocess.run(
        ["git", "grep", "-il", "bybit", "--", "actors", "cluster", "config", "serve_apps/*.py", "storage"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    own = ("actors/feeds/bybit/", "actors/overview/")
    assert {name for name in done.stdout.split() if not name.startswith(own)} <= listed


def test_the_newest_indicator_is_where_the_page_about_adding_one_says() -> None:
    listed = files("add_indicator.md")
    newest = INDICATOR_FIELDS[-1]
    for name in listed:
        if "NAME" in name:
            assert any(newest in path.read_text() for path in (PROJECT / "storage" / "sql").glob("*.sql"))
        elif name != "actors/aggregation/indicators.py":  # known there by its place
            assert newest in (PROJECT / name).read_text(), name
    place = f"value[{len(INDICATOR_FIELDS) - 1}] ="
    assert place in (PROJECT / "actors" / "aggregation" / "indicators.py").read_text()


def test_columns_are_where_the_page_about_adding_one_says() -> None:
    page = (DOCS / "add_column.md").read_text()
    to_events, to_files = (_ROW.findall(part) for part in page.split("\n## ")[1:])
    for column, listed in (("predicted_funding_rate", to_events), ("price64", to_files)):
        assert len(listed) >= 4
        for name in listed:
            found = (PROJECT / "storage" / "sql").glob("*.sql") if "NAME" in name else [PROJECT / name]
            assert any(column in path.read_text() for path in found), name


def test_the_next_migration_the_pages_name_is_the_next_one() -> None:
    newest = max(int(path.name[:4]) for path in (PROJECT / "storage" / "sql").glob("*.sql"))
    for page in ("add_indicator.md", "add_column.md"):
        assert f"`storage/sql/{newest + 1:04}_NAME.sql`" in (DOCS / page).read_text(), page


def test_the_bytes_of_a_row_are_those_of_its_columns() -> None:
    sizes = {kind: sum(column.itemsize for column in columns.values()) for kind, columns in COLUMNS.items()}
    text = (DOCS / "capacity.md").read_text()
    assert f"A trade takes {sizes['TRADES']} bytes in the column files, a quote {sizes['MD']}" in text
    assert f"| 1,000 | {1_000 * 86_400 * sizes['TRADES'] / 1e9:.1f} GB |" in text
