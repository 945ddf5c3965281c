"""What parts of an instance agree on is known from the code alone, and what is not as it was is named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from actors import contract as contracts
from actors.contract import code, contract, difference
from actors.supervisor import IN_THEIR_PLACE, Supervisor


@dataclass
class Page:
    first: int


class Row(msgspec.Struct):
    pages: dict[str, list[Page]]


class Librarian:
    def __init__(self, shelf: str) -> None: ...

    async def rows(self, since: int = 7) -> Sequence[Row]: ...

    async def _count(self) -> int: ...

    def name(self) -> str: ...


def test_it_is_what_can_be_asked_and_what_is_sent() -> None:
    assert contract([Librarian]) == {
        "Librarian.__init__": "(self, shelf: str) -> None",
        "Librarian.rows": f"(self, since: int = Ellipsis) -> collections.abc.Sequence[{__name__}.Row]",
        "Row": "pages",
        "Page": "first",
    }


def test_what_is_not_as_it_was_is_named() -> None:
    before = contract([Librarian])
    assert difference(before, before) == ""
    assert difference(before, before | {"Librarian.close": "(self)"}) == "Librarian.close is new"
    assert difference(before | {"Librarian.close": "(self)"}, before) == "Librarian.close is gone"
    assert difference(before, before | {"Page": "first, last"}) == "Page was first, and is first, last"


def test_all_actors_of_an_instance_have_one() -> None:
    agreed = contract((Supervisor, *IN_THEIR_PLACE))
    for actor in IN_THEIR_PLACE:
        assert f"{actor.__name__}.status" in agreed
    assert {"Origin", "Placement", "Bundle", "Page"} <= agreed.keys()


def test_code_is_named_after_all_that_its_files_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "ROOT", tmp_path)
    names = [code()]

    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        names.append(code())

    write("actors/a.py", "1")
    write("actors/a.py", "2")
    write("storage/sql/001.sql", "2")
    assert len({*names}) == 4
    write("actors/__pycache__/a.pyc", "3")
    write("serve_apps/web/node_modules/x.js", "3")
    write("docs/a.md", "3")
    assert len({*names}) == 4
