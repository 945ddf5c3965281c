"""The pages of reports over ASGI, with a real actor behind them."""

import asyncio
import json
import re
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from actors.reports import Found
from serve_apps import reports_views
from serve_apps.reports_language import Language
from tests.polling import until
from tests.serve_apps.asgi_client import Answer
from tests.serve_apps.report_world import BASE, HOUR, ReportWorld, world

_ENGLISH = {"title_en": "The day", "html_en": "<h2>Prices</h2><p>up</p>", "summary_en": "All rose."}


def frame_of(answer: Answer) -> str:
    found = re.search(r'<iframe id="report" src="([^"]+)"', answer.body.decode())
    assert found is not None
    return found[1].replace("&amp;", "&")


def json_ld(answer: Answer) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/ld\+json">(.+?)</script>', answer.body.decode(), re.DOTALL)
    return [json.loads(one) for one in found]


async def test_a_report_is_shown_in_the_language_of_its_reader(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("Ngày", **_ENGLISH)
        vi = await made.get(f"/crypto_report/{number}")
        assert (vi.status, vi.headers["content-language"]) == (200, "vi")
        assert '<html lang="vi">' in vi.body.decode()
        assert "<h1>Ngày</h1>" in vi.body.decode()
        assert vi.headers["vary"] == "Accept-Language, Cookie"
        for headers in ({"accept_language": "de, en;q=0.8, vi;q=0.3"}, {"cookie": "a=b; preferred_language=en"}):
            en = await made.get(f"/crypto_report/{number}", **headers)
            assert "<h1>The day</h1>" in en.body.decode()
            assert (en.headers["content-language"], en.headers["vary"]) == ("en", "Accept-Language, Cookie")
        said = await made.get(f"/crypto_report/{number}?lang=en", cookie="preferred_language=vi")
        assert '<html lang="en">' in said.body.decode()
        assert "vary" not in said.headers


@pytest.mark.parametrize("path", ["/crypto_report", "/crypto_report?id=-1", "/crypto_report/-1"])
async def test_the_latest_report_has_addresses_of_its_own(tmp_path: Path, path: str) -> None:
    async with world(tmp_path) as made:
        assert (await made.get(path)).status == 404
        await made.publish("first")
        await made.publish("second")
        answer = await made.get(path)
        assert "<h1>second</h1>" in answer.body.decode()
        assert f'<link rel="canonical" href="{BASE}/crypto_report/2?lang=vi">' in answer.body.decode()
        first = (await made.get("/crypto_report?id=1&lang=vi")).body.decode()
        assert "<h1>first</h1>" in first
        assert 'href="/crypto_report/1?lang=en"' in first


async def test_what_somebody_has_is_not_sent_again_until_it_changes(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("one")
        for path in (f"/crypto_report/{number}", "/crypto_reports_list", f"/pdf-template/{number}", "/rss.xml"):
            first = await made.get(path)
            assert first.headers["cache-control"] == "public, max-age=1, s-maxage=2"
            for known in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
                again = await made.get(path, if_none_match=known)
                assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
            await made.publish(f"another than {path}")
            changed = await made.get(path, if_none_match=first.headers["etag"])
            assert changed.status == (304 if path.endswith(str(number)) else 200)


async def test_head_says_what_get_would(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.publish()
        for path in ("/crypto_report", "/crypto_reports_list", "/sitemap.xml", "/robots.txt", "/crypto_report/99"):
            got, head = await made.get(path), await made.get(path, "HEAD")
            assert (head.status, head.body) == (got.status, b"")
            assert head.headers["content-length"] == str(len(got.body))
        assert (await made.get("/crypto_report", "POST")).headers["allow"] == "GET, HEAD"


async def test_a_report_that_is_not_there_has_a_page_that_says_so_in_both_languages(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.publish()
        for path in ("/crypto_report/99", "/crypto_report/-7", "/pdf-template/2", "/crypto_report/2/pdf"):
            for language, said in (("vi", "Không tìm thấy"), ("en", "This page is not here")):
                answer = await made.get(path, accept_language=language)
                assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
                assert said in answer.body.decode()
                assert 'name="robots" content="noindex"' in answer.body.decode()
                assert answer.headers["cache-control"] == "no-store"
        for path in ("/crypto_report/abc", "/crypto_report?id=1x", "/crypto_reports_list?page=0", "/crypto_report/1e3"):
            assert (await made.get(path)).status == 400
        for path in ("/crypto_reports_list?page=-1", "/crypto_reports_list?page=x"):
            assert (await made.get(path)).status == 400
        asked = made.asked.copy()
        await made.get("/crypto_report/98")
        assert made.asked == asked


async def test_the_list_has_pages_and_a_page_behind_the_last_is_the_last(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        empty = await made.get("/crypto_reports_list", accept_language="en")
        assert (empty.status, "There are no reports yet." in empty.body.decode()) == (200, True)
        for number in range(23):
            await made.publish(f"report-{number}")
        first = (await made.get("/crypto_reports_list?lang=en")).body.decode()
        assert re.findall(r"<h2>(report-\d+)</h2>", first) == [f"report-{n}" for n in range(22, 12, -1)]
        assert "<dd>1 / 3</dd>" in first
        last = (await made.get("/crypto_reports_list?page=3")).body.decode()
        assert 'href="/crypto_reports_list?page=3&amp;lang=en"' in last
        assert re.findall(r"<h2>(report-\d+)</h2>", last) == ["report-2", "report-1", "report-0"]
        assert (await made.get("/crypto_reports_list?page=999")).body.decode() == last


async def test_what_search_engines_read_is_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        for number in range(5):
            await made.publish(f"report-{number}")
        number = await made.publish("Giá </script> & <b>", **_ENGLISH, summary_vi="Mọi thứ tăng.")
        answer = await made.get(f"/crypto_report/{number}")
        page = answer.body.decode()
        address = f"{BASE}/crypto_report/{number}"
        assert f'<link rel="alternate" hreflang="en" href="{address}?lang=en">' in page
        assert f'<link rel="alternate" hreflang="x-default" href="{address}">' in page
        assert '<meta property="og:title" content="Giá &lt;/script&gt; &amp; &lt;b&gt;">' in page
        article, crumbs = json_ld(answer)
        assert article["headline"] == "Giá </script> & <b>"
        assert (article["inLanguage"], article["datePublished"][:10]) == ("vi", "2026-01-31")
        assert article["articleBody"] == "Giá & giá"
        assert [one["position"] for one in crumbs["itemListElement"]] == [1, 2, 3]
        assert {one["item"].partition("/crypto")[0] for one in crumbs["itemListElement"][1:]} == {BASE}
        assert re.findall(r"<strong>(report-\d)</strong>", page) == ["report-4", "report-3", "report-2"]


async def test_the_feed_says_what_is_in_a_report_without_its_scripts(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        long = "từ " * 300
        await made.publish(
            "một", html_vi=f"<script>evil()</script><style>p{{}}</style><p>Giá&nbsp;lên</p><p>{long}</p>"
        )
        await made.publish("hai", summary_vi="Tóm tắt <b>", html_vi="<p>x</p>")
        answer = await made.get("/rss.xml")
        assert answer.headers["content-type"] == "application/rss+xml; charset=utf-8"
        channel = ElementTree.fromstring(answer.body).find("channel")
        assert channel is not None
        items = channel.findall("item")
        assert [item.findtext("title") for item in items] == ["hai (#2, 31/01/2026)", "một (#1, 31/01/2026)"]
        said = [str(item.findtext("description")) for item in items]
        assert said[0] == "Tóm tắt <b>"
        assert said[1].startswith("Giá lên từ từ")
        assert said[1].endswith("…")
        assert len(said[1]) <= 300
        assert items[0].findtext("guid") == f"{BASE}/crypto_report/2"
        assert items[0].findtext("pubDate") == "Sat, 31 Jan 2026 19:02:00 +0700"
        assert (channel.findtext("language"), channel.findtext("ttl")) == ("vi-VN", "60")
        english = ElementTree.fromstring((await made.get("/rss?lang=en")).body)
        assert english.findtext("channel/language") == "en"
        assert (await made.get("/rss")).body == answer.body


async def test_a_report_whose_pages_are_damaged_takes_no_other_out_of_the_feed(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("một")
        await made.publish("hai", html_vi="<p>Giá lên</p>")
        (tmp_path / "reports" / "pages" / f"{number}.1.json").write_bytes(b"{}")
        items = ElementTree.fromstring((await made.get("/rss.xml")).body).findall("channel/item")
        assert [item.findtext("description") for item in items] == ["Giá lên", ""]


async def test_others_are_answered_while_large_reports_are_read_for_the_feed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    def reading(found: Found, language: Language) -> str:
        began.set()
        assert ended.wait(5)
        return reports_views.summary_of(found, language)

    async with world(tmp_path) as made:
        await made.publish("một")
        monkeypatch.setattr("serve_apps.reports.summary_of", reading)
        feed = asyncio.create_task(made.get("/rss.xml"))
        await until(began.is_set)
        assert (await made.get("/robots.txt")).status == 200
        assert not feed.done()
        ended.set()
        assert "một giá" in (await feed).body.decode()


async def test_the_sitemap_names_every_report_and_is_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9"}
    async with world(tmp_path) as made:
        for number in range(5):
            await made.publish(f"report-{number}")
        whole = ElementTree.fromstring((await made.get("/sitemap.xml")).body)
        listed = [one.text for one in whole.findall("s:url/s:loc", space)]
        fixed = ["/", "/crypto_report", "/crypto_reports_list"]
        assert listed == [BASE + path for path in (*fixed, *(f"/crypto_report/{n}" for n in range(5, 0, -1)))]
        assert (await made.get("/sitemap-2.xml")).status == 404
        assert reports_views.SITEMAP_REPORTS + len(fixed) == 50_000
        monkeypatch.setattr("serve_apps.reports.SITEMAP_REPORTS", 2)
        await made.publish("report-5")
        index = ElementTree.fromstring((await made.get("/sitemap.xml")).body)
        files = [str(one.text).removeprefix(BASE) for one in index.findall("s:sitemap/s:loc", space)]
        assert files == ["/sitemap-1.xml", "/sitemap-2.xml", "/sitemap-3.xml"]
        split: list[Any] = []
        for file in files:
            split += ElementTree.fromstring((await made.get(file)).body).findall("s:url/s:loc", space)
        paths = [*fixed, *(f"/crypto_report/{n}" for n in range(6, 0, -1))]
        assert [one.text for one in split] == [BASE + path for path in paths]


async def test_robots_are_told_where_the_sitemap_is_and_who_may_not_read(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        said = (await made.get("/robots.txt")).body.decode()
        assert "User-agent: GPTBot\nDisallow: /\n" in said
        assert said.endswith(f"User-agent: *\nAllow: /\n\nSitemap: {BASE}/sitemap.xml\n")


async def test_the_frame_of_a_report_opens_with_its_token_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("một", js_vi="document.title = '</script><!--'", css="p{}</style><p>")
        other = await made.publish("hai")
        address = frame_of(await made.get(f"/crypto_report/{number}"))
        frame = await made.get(address)
        assert frame.status == 200
        policy = frame.headers["content-security-policy"]
        for part in ("default-src 'none'", "connect-src 'none'", "sandbox allow-scripts", "frame-ancestors 'self'"):
            assert part in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert frame.headers["x-frame-options"] == "SAMEORIGIN"
        assert frame.body.count(b"</script>") == frame.body.count(b"<script>") == 2
        assert frame.body.count(b"</style>") == 2
        old = address.replace("/crypto_report/", "/api/crypto_reports/").replace("/frame", "/sandboxed")
        assert (await made.get(old)).body == frame.body
        for wrong in (
            f"/crypto_report/{number}/frame",
            f"/crypto_report/{number}/frame?token=x",
            address.replace(f"/{number}/", f"/{other}/"),
            address[:-1] + ("0" if address[-1] != "0" else "1"),
        ):
            assert (await made.get(wrong)).status == 403
        made.clock.ns += 2 * HOUR * 10**9
        assert (await made.get(address)).status == 403


async def test_a_page_that_is_kept_has_a_token_that_is_good_as_long_as_one_of_now(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("một")
        for _ in range(8):
            address = frame_of(await made.get(f"/crypto_report/{number}"))
            made.clock.ns += HOUR // 2 * 10**9
            later = await made.get(f"/crypto_report/{number}")
            made.clock.ns += (HOUR // 2 - 1) * 10**9
            assert (await made.get(address)).status == 200
            made.clock.ns += HOUR // 2 * 10**9
            assert (await made.get(frame_of(later))).status == 200


async def test_a_token_is_for_one_version_of_a_report(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("một", key="daily")
        address = frame_of(await made.get(f"/crypto_report/{number}"))
        assert (await made.get(address)).status == 200
        assert await made.publish("hai", key="daily") == number
        assert (await made.get(address)).status == 403
        again = frame_of(await made.get(f"/crypto_report/{number}"))
        assert "<h2>hai</h2>" in (await made.get(again)).body.decode()


async def test_the_print_view_runs_no_script_of_the_report(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish("một", js_vi="own()", html_vi="<p onclick='x()'>giá</p><script>evil()</script>")
        answer = await made.get(f"/pdf-template/{number}")
        page = answer.body.decode()
        assert (await made.get(f"/crypto_report/{number}/pdf")).body == answer.body
        assert "<p>giá</p>" in page
        for bad in ("own()", "evil()", "onclick"):
            assert bad not in page
        assert "31/01/2026 19:01 UTC+7" in page
        assert "sandbox allow-scripts allow-modals" in answer.headers["content-security-policy"]
        assert answer.headers["x-template-type"] == "pdf-printable"


async def test_many_at_once_make_a_page_once(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish()
        made.asked.clear()
        answers = await asyncio.gather(*(made.get(f"/crypto_report/{number}") for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert made.asked.count("report") == 1


async def test_a_report_that_was_removed_is_gone_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        number = await made.publish()
        await made.publish("stays")
        assert (await made.get(f"/crypto_report/{number}")).status == 200
        await made.actor.remove(number)

        async def gone() -> bool:
            return (await made.get(f"/crypto_report/{number}")).status == 404

        await until(gone)
        assert "stays" in (await made.get("/crypto_reports_list")).body.decode()


async def test_paths_of_others_are_passed_on(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        assert (await made.get("/healthz")).json == {"status": "ok"}
        for path in ("/crypto_report/1/x", "/crypto_reports", "/sitemap-0.xml"):
            assert (await made.get(path)).status == 404


async def test_while_nobody_knows_the_reports_the_page_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("serve_apps.reports_source.FIRST_S", 0.05)

    class Away(ReportWorld):
        async def ask(self, method: str, *arguments: Any) -> Any:
            raise ConnectionError(method)

    made = Away(tmp_path)
    answer = await made.get("/crypto_report", accept_language="en")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "Reports are not available right now" in answer.body.decode()
    await made.close()
