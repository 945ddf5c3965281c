"""Ranges of columns through the real front door: what is kept of them, and in which format."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from cluster.edge_configuration import Route
from serve_apps.data_conditions import accepted_format
from serve_apps.data_formats import CONTENT_TYPES
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.day_files import Day
from storage.day_seal import measured, write_seal
from tests.cluster_parts.doors import Door, Open
from tests.serve_apps.conftest import DAY, DAY_SECONDS, data_app, made_rows, target
from tests.serve_apps.report_world import served

RANGE = target(DAY, DAY + 100)


class Behind:
    """A data API with one sealed day; counts what comes through by query."""

    def __init__(self, root: Path) -> None:
        writer = ColumnWriter(root, 64)
        writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY, DAY + 7, DAY + 99]))
        writer.close()
        day = Day(root / "coinbase" / "BTC-USD" / "TRADES", "TRADES", DAY // DAY_SECONDS)
        write_seal(day, measured(day))
        self._app = data_app(ColumnReader(root), 1 << 30)
        self.seen: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/api/data":
            self.seen.append(scope["query_string"].decode())
        # The fixture waits for `/`.
        at = {"path": "/api/symbols"} if scope.get("path") == "/" else {}
        await self._app(scope | at, receive, send)


@asynccontextmanager
async def behind_a_door(tmp_path: Path, open_door: Open) -> AsyncIterator[tuple[Door, Behind, str]]:
    """The door, what is behind it, and how that is reached without it."""
    behind = Behind(tmp_path / "columns")
    async with served(behind) as port:
        door = await open_door(routes=[Route([("127.0.0.1", port)], health_path="/api/symbols")])
        yield door, behind, f"http://127.0.0.1:{port}"


async def said(door: Door, url: str, accept: str | None) -> tuple[int, str, bytes]:
    """Status, content type and body; all of it depends on what is accepted, and says so."""
    headers = {} if accept is None else {"Accept": accept}
    async with door.client.get(url, headers=headers, skip_auto_headers=["Accept"]) as answer:
        assert "Accept" in ", ".join(answer.headers.getall("Vary", [])).split(", ")
        return answer.status, answer.headers["Content-Type"], await answer.read()


@pytest.mark.parametrize("accept", [None, "*/*", "application/octet-stream", "text/html, */*;q=0.8"])
async def test_who_says_no_format_is_answered_from_the_cache(
    tmp_path: Path, open_door: Open, accept: str | None
) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, behind, direct):
        plain = await said(door, direct + RANGE, accept)
        assert plain[:2] == (200, "application/octet-stream")
        behind.seen.clear()
        for _ in range(4):
            assert await said(door, door.bases[0] + RANGE, accept) == plain
        assert len(behind.seen) == 1
        # What is kept is nobody's who likes another format.
        status, kind, body = await said(door, door.bases[0] + RANGE, "text/csv")
        assert (status, kind, body[:11]) == (200, "text/csv; charset=utf-8", b"time,price\n")


async def test_the_door_finds_the_format_the_application_does(tmp_path: Path, open_door: Open) -> None:
    examples: list[str] = []
    names = [kind.decode().partition(";")[0] for kind in CONTENT_TYPES.values()]
    known = st.sampled_from([*names, "*/*", "text/html", "application/ndjson", "TEXT/CSV"])

    @given(st.lists(st.tuples(known, st.integers(0, 1000)), max_size=4))
    def collect(liked: list[tuple[str, int]]) -> None:
        examples.append(", ".join(f"{name};q={quality / 1000:g}" for name, quality in liked))

    collect()
    async with behind_a_door(tmp_path, open_door) as (door, _, _direct):
        for accept in examples:
            status, kind, _ = await said(door, door.bases[0] + RANGE, accept)
            assert (status, kind.encode()) == (200, CONTENT_TYPES[accepted_format(accept)]), accept


@pytest.mark.parametrize(
    "asked",
    [
        "/api/data",
        "/api/data?",
        "/api/data?symbol",
        "/api/data?a=b?",
        "/api/data?%zz=",
        f"{RANGE}&format=csv",
        f"{RANGE}&%66ormat=csv",
        f"{RANGE}&%66ormat=csv&x=%zz",
        f"{RANGE}&format=",
        f"{RANGE}&format=what",
        f"{RANGE}&x=%zz",
        f"{RANGE}&max_points=2",
        RANGE.replace(",", "%2C"),
        "/api/symbols?a=b",
    ],
)
async def test_an_address_is_answered_as_without_the_door(tmp_path: Path, open_door: Open, asked: str) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, _, direct):
        answers = []
        for base in (direct, door.bases[0]):
            async with door.client.get(URL(base + asked, encoded=True)) as answer:
                answers.append((answer.status, answer.headers.get("Content-Type"), await answer.read()))
        assert answers[0] == answers[1]
