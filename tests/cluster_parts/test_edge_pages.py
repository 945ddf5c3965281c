"""The pages of reports through the real front door: who gets which language, what is kept, and for how long."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from hypothesis import given
from hypothesis import strategies as st

from cluster.edge_configuration import Route
from serve_apps.reports_language import accepted
from tests.cluster_parts.doors import Door, Open
from tests.polling import until
from tests.serve_apps.report_world import KEY, ReportWorld, served, world

_ENGLISH = {"title_en": "The day", "html_en": "<h2>Prices</h2>"}


class Behind:
    """What the door leads to; counts what comes through by path and query."""

    def __init__(self, made: ReportWorld) -> None:
        self._made = made
        self.seen: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            self.seen.append(f"{scope['path']}?{scope['query_string'].decode()}")
        app = self._made.api if scope.get("path", "").startswith("/api/v1/") else self._made.pages
        await app(scope, receive, send)


@asynccontextmanager
async def behind_a_door(tmp_path: Path, open_door: Open) -> AsyncIterator[tuple[Door, ReportWorld, Behind]]:
    async with world(tmp_path / "data") as made:
        behind = Behind(made)
        async with served(behind) as port:
            door = await open_door(routes=[Route([("127.0.0.1", port)], health_path="/healthz")])
            behind.seen.clear()
            yield door, made, behind


async def get(door: Door, path: str, **headers: str) -> tuple[ClientResponse, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with door.client.get(door.bases[0] + path, headers=sent) as answer:
        return answer, (await answer.read()).decode()


async def test_each_reader_gets_their_language_from_the_cache(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, behind):
        await made.publish("Ngày", **_ENGLISH)
        readers: list[tuple[dict[str, str], str]] = [
            ({}, "vi"),
            ({"accept_language": "en-US,en;q=0.9,vi;q=0.5"}, "en"),
            ({"accept_language": "EN"}, "en"),
            ({"accept_language": "de, en;q=0.2, vi;q=0.1"}, "en"),
            ({"accept_language": "de"}, "vi"),
            ({"cookie": "preferred_language=en"}, "en"),
            ({"cookie": "a=b; preferred_language=vi", "accept_language": "en"}, "vi"),
            ({"cookie": "preferred_language=fr", "accept_language": "en"}, "en"),
        ]
        for _ in range(3):
            for headers, language in readers:
                answer, page = await get(door, "/crypto_report/1", **headers)
                assert (answer.status, answer.headers["Content-Language"]) == (200, language), headers
                assert f'<html lang="{language}">' in page
                assert "Accept-Language, Cookie" in answer.headers.getall("Vary")
        assert set(behind.seen) == {"/crypto_report/1?lang=vi", "/crypto_report/1?lang=en"}
        assert len(behind.seen) < 3 * len(readers) / 2


async def test_an_address_that_says_the_language_does_not_vary(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, behind):
        await made.publish("Ngày", **_ENGLISH)
        for path, language in (("/crypto_report?lang=en", "en"), ("/crypto_report?lang=vi&id=1", "vi")):
            answer, page = await get(door, path, accept_language="vi" if language == "en" else "en")
            assert f'<html lang="{language}">' in page
            assert "Vary" not in answer.headers
        _, page = await get(door, "/crypto_report?lang=xx", accept_language="en")
        assert '<html lang="en">' in page
        assert behind.seen[-1] == "/crypto_report?lang=en" or len(behind.seen) == 2


async def test_what_no_page_asks_for_makes_no_further_answer(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, behind):
        for number in range(12):
            await made.publish(f"report-{number}")
        _, second = await get(door, "/crypto_reports_list?page=2")
        behind.seen.clear()
        began = time.monotonic()
        for number in range(20):
            _, page = await get(door, f"/crypto_reports_list?utm={number}&page=2&x=y")
            assert page == second
        assert len(behind.seen) <= 1 + (time.monotonic() - began) / 2


async def test_the_same_is_compressed_and_not_sent_twice(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, _):
        await made.publish("Ngày")
        plain, page = await get(door, "/crypto_report")
        async with door.client.get(door.bases[0] + "/crypto_report", headers={"Accept-Encoding": "gzip"}) as packed:
            assert packed.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await packed.read()).decode() == page
            vary = ",".join(packed.headers.getall("Vary")).lower()
            assert all(name in vary for name in ("accept-encoding", "accept-language", "cookie"))
            tag = packed.headers["ETag"]
        for known in (tag, plain.headers["ETag"]):
            again, body = await get(door, "/crypto_report", if_none_match=known)
            assert (again.status, body) == (304, "")
            assert "Accept-Language, Cookie" in again.headers.getall("Vary")


async def test_a_new_report_is_everywhere_within_five_seconds(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, _):
        await made.publish("cũ", title_en="old")
        paths = ("/crypto_report", "/crypto_reports_list", "/rss.xml", "/sitemap.xml", "/crypto_report?lang=en")
        stop = asyncio.Event()

        async def look_on() -> None:
            # Who looks all the time must not keep an old answer alive.
            while not stop.is_set():
                for path in paths:
                    await get(door, path)

        looking = [asyncio.create_task(look_on()) for _ in range(3)]
        await asyncio.sleep(0.5)
        body = {"title_vi": "tin mới", "title_en": "tin mới", "html_vi": "<p>x</p>"}
        async with door.client.post(
            door.bases[0] + "/api/v1/reports", json=body, headers={"X-Auto-Update-Key": KEY}
        ) as answer:
            assert answer.status == 201
        began = time.monotonic()

        async def is_new(path: str) -> bool:
            _, page = await get(door, path)
            return "tin mới" in page or "/crypto_report/2<" in page

        for path in paths:
            await until(lambda path=path: is_new(path), 5 - (time.monotonic() - began))  # type: ignore[misc]
        stop.set()
        await asyncio.gather(*looking)
        assert time.monotonic() - began < 5


async def test_frames_are_where_they_were_before(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, behind):
        await made.publish("Ngày")
        _, page = await get(door, "/crypto_report/1")
        token = page.partition("token=")[2].partition('"')[0]
        for path in ("/api/crypto_reports/1/sandboxed", "/api/crypto_reports/1/shadow_dom", "/crypto_report/1/frame"):
            answer, frame = await get(door, f"{path}?token={token}&lang=vi")
            assert (answer.status, "<h2>Ngày</h2>" in frame) == (200, True)
        assert (await get(door, "/api/crypto_reports/1/sandboxed"))[0].status == 403
        assert len([one for one in behind.seen if token in one]) == 1


async def test_a_report_may_be_large_and_other_bodies_may_not(tmp_path: Path, open_door: Open) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, made, _):
        body = {"title_vi": "x", "html_vi": "<p>" + "giá " * 700_000 + "</p>"}
        content = json.dumps(body, ensure_ascii=False).encode()
        url, kind = door.bases[0] + "/api/v1/reports", {"Content-Type": "application/json"}
        key = {"X-Auto-Update-Key": KEY}
        assert 3 << 20 < len(content) < 5 << 20
        for headers, status in (({}, 413), ({"X-Auto-Update-Key": "wrong"}, 403), (key, 201)):
            async with door.client.post(url, data=content, headers=kind | headers) as answer:
                assert answer.status == status
        assert len((await made.actor.report()).pages.html_vi) == len(body["html_vi"])
        for path, data, status in (("/api/v1/reports", b" " * (9 << 20), 413), ("/api/v1/other", content, 413)):
            async with door.client.post(door.bases[0] + path, data=data, headers=kind | key) as answer:
                assert answer.status == status


# Not q=0, which browsers do not say: HAProxy reads what stands behind it as if it were not there.
_SAID = st.lists(
    st.tuples(st.sampled_from(["vi", "en", "en-GB", "vi-VN", "de", "*", "EN"]), st.integers(1, 1000)), max_size=4
)


async def test_the_door_decides_as_the_application_does(tmp_path: Path, open_door: Open) -> None:
    examples: list[str] = []

    @given(_SAID)
    def collect(said: list[tuple[str, int]]) -> None:
        examples.append(", ".join(f"{tag};q={quality / 1000:g}" for tag, quality in said))

    collect()
    async with behind_a_door(tmp_path, open_door) as (door, made, _):
        await made.publish("Ngày", **_ENGLISH)
        for asked in examples:
            answer, _page = await get(door, "/crypto_report/1", accept_language=asked)
            assert answer.headers["Content-Language"] == accepted(asked), asked


@pytest.mark.parametrize("path", ["/crypto_report/99", "/crypto_reports_list?page=x"])
async def test_what_is_not_there_is_not_kept(tmp_path: Path, open_door: Open, path: str) -> None:
    async with behind_a_door(tmp_path, open_door) as (door, _, _):
        answer, page = await get(door, path, accept_language="en")
        assert answer.status in (400, 404)
        assert '<html lang="en">' in page
        assert answer.headers["Cache-Control"] == "no-store"
