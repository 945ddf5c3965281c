"""Reports over the API: who may publish, what is said of what cannot be, and reading page by page."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.reports import Reports
from serve_apps.market import Resource
from serve_apps.reports_api import METHODS, ReportsApi
from serve_apps.reports_publishing import REPORTS
from tests.serve_apps.asgi_client import Answer
from tests.serve_apps.guarded import TOKEN, Guarded

KEY = "lets-a-program-publish"
_ONE = {"title_vi": "Báo cáo", "html_vi": "<p>giá</p>"}


class Api(Guarded):
    def __init__(self, data: Path, key: str | None = KEY, **security: Any) -> None:
        super().__init__(data, Resource(REPORTS, METHODS, ReportsApi(self._ask_reports, TOKEN, key)), **security)
        self.reports = Reports(self.settings, None, self.clock)

    async def _ask_reports(self, method: str, *arguments: Any) -> Any:
        return await getattr(self.reports, method)(*arguments)

    async def publish(self, token: str | None = TOKEN, **given: Any) -> Answer:
        return await self.send("POST", REPORTS, _ONE | given, token)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = Api(tmp_path)
    await made.begin()
    yield made
    await made.end()
    await made.reports.stop()


async def test_an_admin_publishes_and_anybody_reads(api: Api) -> None:
    token = (await api.sign_in("ann"))["access_token"]
    made = await api.publish(token, key="daily", summary_en="Up", html_en="<p>price</p>")
    assert (made.status, made.headers["location"]) == (201, f"{REPORTS}/1")
    said = {"id": 1, "version": 1, "author": "ann", "key": "daily", "has_english": True, "warnings": []}
    said |= {"title_vi": "Báo cáo", "title_en": "Báo cáo", "summary_vi": "", "summary_en": "Up"}
    assert made.json == said | {"created_at": api.clock.now, "updated_at": api.clock.now}
    for number in ("1", "-1"):
        read = await api.send("GET", f"{REPORTS}/{number}")
        assert read.json["pages"]["html_en"] == "<p>price</p>"
    assert (await api.publish(token, key="daily")).json["version"] == 2
    # Asked for again, as after an answer that was lost, it would take the one before away.
    assert (await api.send("DELETE", f"{REPORTS}/-1", None, token)).status == 404
    assert (await api.send("GET", REPORTS)).json["total"] == 1


@pytest.mark.parametrize(("name", "status"), [("uma", 403), ("rita", 403), (None, 401)])
async def test_who_is_no_admin_does_not_publish(api: Api, name: str | None, status: int) -> None:
    token = (await api.sign_in(name))["access_token"] if name else None
    assert (await api.publish(token)).status == status
    assert (await api.send("DELETE", f"{REPORTS}/1", None, token)).status == status
    assert (await api.send("GET", REPORTS)).json["total"] == 0


async def test_a_program_publishes_with_its_key(api: Api) -> None:
    made = await api.send("POST", REPORTS, _ONE, x_auto_update_key=KEY)
    assert (made.status, made.json["author"]) == (201, "auto-update")
    wrong = await api.send("POST", REPORTS, _ONE, x_auto_update_key=KEY[:-1] + "é")
    assert (wrong.status, wrong.headers["content-type"]) == (403, "application/problem+json")
    assert KEY not in wrong.body.decode()
    # It is for publishing alone.
    assert (await api.send("DELETE", f"{REPORTS}/1", x_auto_update_key=KEY)).status == 401


async def test_a_report_without_a_key_gets_one_so_that_a_repeated_call_does_no_harm(api: Api) -> None:
    keys = [(await api.publish()).json["key"] for _ in range(2)]
    assert all(key.startswith("once-") for key in keys)
    assert keys[0] != keys[1]
    again = await api.reports.publish(_ONE | {"key": keys[0]}, "ada")
    assert (again["id"], again["version"], (await api.reports.newest(10)).total) == (1, 2, 2)


async def test_without_a_key_that_way_is_off_and_says_so(tmp_path: Path) -> None:
    api = Api(tmp_path, None)
    await api.begin()
    answer = await api.send("POST", REPORTS, _ONE, x_auto_update_key="")
    assert (answer.status, "AUTO_UPDATE_SECRET_KEY" in answer.json["detail"]) == (503, True)
    assert (await api.publish()).status == 201
    await api.end()
    await api.reports.stop()


async def test_in_production_a_key_is_taken_over_tls_alone(tmp_path: Path) -> None:
    api = Api(tmp_path, production=True)
    await api.begin()
    sent = {"x_auto_update_key": KEY, "x_forwarded_for": "192.0.2.7"}
    assert (await api.send("POST", REPORTS, _ONE, None, **sent)).status == 403
    assert (await api.send("POST", REPORTS, _ONE, None, **sent, x_forwarded_proto="https")).status == 201
    await api.end()
    await api.reports.stop()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"title_vi": "x"}, 400, "html_vi"),
        (_ONE | {"colour": "red"}, 400, "colour"),
        (b"[]", 400, "JSON object"),
        (b"{", 400, "JSON object"),
        (b"[" * 100_000, 400, "JSON object"),
        (_ONE | {"html_vi": "x" * ((5 << 20) + 1)}, 413, "5 MiB"),
        (b" " * ((8 << 20) + 1), 413, "8388608"),
    ],
)
async def test_what_cannot_be_published_is_said(api: Api, body: Any, status: int, said: str) -> None:
    answer = await api.send("POST", REPORTS, body, TOKEN)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json["detail"]


async def test_a_body_that_is_no_json_by_its_own_word_is_refused(api: Api) -> None:
    answer = await api.send("POST", REPORTS, _ONE, TOKEN, content_type="text/plain")
    assert answer.status == 415


async def test_a_report_of_a_megabyte_and_more_comes_through_the_guard(api: Api) -> None:
    assert (await api.publish(html_vi="<p>" + "x" * (3 << 20))).status == 201
    assert (await api.send("POST", "/api/v1/auth/login", b" " * (2 << 20))).status == 413


async def test_reports_are_read_page_by_page_also_while_there_are_more(api: Api) -> None:
    for number in range(7):
        await api.publish(title_vi=f"report-{number}")
    seen, cursor = list[str](), ""
    for _ in range(4):
        page = (await api.send("GET", f"{REPORTS}?limit=2{cursor}")).json
        seen += [report["title_vi"] for report in page["reports"]]
        await api.publish(title_vi="meanwhile")
        cursor = f"&cursor={page['next_cursor']}"
        if page["next_cursor"] is None:
            break
    assert seen == [f"report-{number}" for number in range(6, -1, -1)]
    assert "pages" not in page["reports"][0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "?limit=0", 400),
        ("GET", "?cursor=x", 400),
        ("GET", "?page=2", 400),
        ("GET", "/7", 404),
        ("GET", "/x", 400),
        ("GET", "/" + "9" * 40, 400),
        ("DELETE", "/7", 404),
        ("PUT", "/1", 405),
    ],
)
async def test_wrong_questions_are_problems(api: Api, method: str, path: str, status: int) -> None:
    answer = await api.send(method, REPORTS + path, None, TOKEN)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_a_report_that_was_removed_is_not_there(api: Api) -> None:
    await api.publish()
    assert (await api.send("DELETE", f"{REPORTS}/1", None, TOKEN)).status == 204
    assert (await api.send("GET", f"{REPORTS}/1")).status == 404
    assert (await api.publish()).json["id"] == 2
