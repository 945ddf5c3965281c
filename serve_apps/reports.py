"""The pages of reports: one report, the list, the print view, what stands in the frame of a report, RSS, sitemap and
robots.txt, before an application that answers everything else.

A page is made once for all replicas and readers (`serve_apps.cache`), under a key with the number of changes to the
reports, so it is good until something changes and not a moment longer; the front door keeps it for two seconds. In
which language it is follows from the address, or else from the reader: then the answer says so in Vary.
"""

import asyncio
import bisect
import contextlib
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from actors.report_book import LATEST, ReportError, UnknownReport
from actors.reports import News
from serve_apps.asgi import (
    BadRequest,
    Receive,
    Scope,
    Send,
    has_version,
    send_head,
    send_problem,
    send_whole,
)
from serve_apps.cache import SHORT_TERM, Cache
from serve_apps.reports_frame import check, sign
from serve_apps.reports_language import Language, known, negotiated
from serve_apps.reports_paging import PER_PAGE, Paging
from serve_apps.reports_source import ReportSource
from serve_apps.reports_views import SITEMAP_REPORTS, Views, summary_of
from serve_apps.shared_answer import NoAnswer

App = Callable[[Scope, Receive, Send], Awaitable[None]]
#: What will give an answer.
type _Making = Coroutine[Any, Any, _Answer]

RELATED: Final = 3
_LONGEST_QUERY: Final = 1000
IN_FEED: Final = 20
_NUMBER: Final = re.compile(r"-?\d{1,10}")
_PAGE_NUMBER: Final = re.compile(r"\d{1,9}")
_SITEMAP: Final = re.compile(r"sitemap-([1-9]\d{0,3})\.xml")
_HTML: Final = "text/html; charset=utf-8"
_SECURITY: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-resource-policy": "same-origin",
}
_PAGE: Final = {
    **_SECURITY,
    "x-frame-options": "DENY",
    "content-security-policy": (
        "default-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
}
_DOCUMENT: Final = {**_SECURITY, "x-frame-options": "SAMEORIGIN", "x-dns-prefetch-control": "off"}
#: Browsers ask again, the front door after two seconds.
_FRESH: Final = "public, max-age=1, s-maxage=2"
#: An address with a token is good for one version of a report; one that was removed is gone from the front door soon.
_FRAME: Final = "public, max-age=300, s-maxage=2"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    vary: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request: `language`, which the address says or else (`varies`) the reader."""

    language: Language
    varies: bool
    query: dict[str, str] = field(default_factory=dict)


class _Problem(Exception):
    """A page that cannot be had: its status, and the name of the text that says why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class ReportsApp:
    """ASGI application. `secret` signs links to frames, which are good for at least `frame_s`."""

    def __init__(
        self,
        app: App,
        source: ReportSource,
        views: Views,
        cache: Cache,
        secret: bytes,
        frame_s: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._source = source
        self._views = views
        self._cache = cache
        self._secret = secret
        self._frame_s = frame_s
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._source.close()
            return
        made = self._made(scope) if scope["type"] == "http" else None
        if made is None:
            await self._app(scope, receive, send)
        elif scope["method"] not in ("GET", "HEAD"):
            made.close()
            await send_problem(send, 405, "Only GET and HEAD are answered here.", [(b"allow", b"GET, HEAD")])
        else:
            await _send(scope, send, await self._answered(scope, made))

    def _made(self, scope: Scope) -> _Making | None:
        """What answers a path, None for those of others."""
        asked = _asked(scope)
        match scope["path"].strip("/").split("/"):
            case ["crypto_report"]:
                return self._report(asked, asked.query.get("id", str(LATEST)))
            case ["crypto_report", number]:
                return self._report(asked, number)
            case ["crypto_report", number, "frame"] | ["api", "crypto_reports", number, "sandboxed" | "shadow_dom"]:
                return self._frame(asked, number)
            case ["crypto_report", number, "pdf"] | ["pdf-template", number]:
                return self._pdf(asked, number)
            case ["crypto_reports_list"]:
                return self._list(asked)
            case ["rss.xml" | "rss"]:
                return self._rss(known(asked.query.get("lang")) or "vi")
            case ["sitemap.xml"]:
                return self._sitemap(None)
            case [name] if found := _SITEMAP.fullmatch(name):
                return self._sitemap(int(found[1]))
            case ["robots.txt"]:
                return self._robots()
        return None

    async def _answered(self, scope: Scope, made: _Making) -> _Answer:
        language = _asked(scope).language
        try:
            return await made
        except _Problem as problem:
            status, what = problem.status, str(problem)
        except UnknownReport:
            status, what = 404, "not_found"
        except (NoAnswer, ReportError):
            status, what = 503, "unavailable"
        except BadRequest as error:
            return _Answer(error.status, _SECURITY | {"content-type": "text/plain"}, f"{error}\n".encode())
        headers = _PAGE | {"content-type": _HTML, "content-language": language, "cache-control": "no-store"}
        if status == 503:
            headers["retry-after"] = "1"
        return _Answer(status, headers, self._views.problem(language, what).encode())

    async def _report(self, asked: _Asked, number: str) -> _Answer:
        news = await self._source.news()
        report_id, language = _known_id(number, news), asked.language

        async def make() -> bytes:
            found, others = await asyncio.gather(
                self._source.report(report_id), self._source.newest(RELATED, before=report_id)
            )
            token = sign(self._secret, report_id, found.report.version, self._clock(), self._frame_s)
            page = await asyncio.to_thread(self._views.report, found, others.reports, language, token)
            return _kept(page)

        # A page that is kept has a token of the same while as one that is made now: it never ends sooner.
        began = int(self._clock()) // self._frame_s
        return await self._page(news, f"report:{report_id}:{language}:{began}", make, asked)

    async def _list(self, asked: _Asked) -> _Answer:
        given = asked.query.get("page", "1")
        if not _PAGE_NUMBER.fullmatch(given) or int(given) < 1:
            raise _Problem(400, "wrong_page")
        news = await self._source.news()
        paging, language = Paging(len(news.ids), int(given)), asked.language

        async def make() -> bytes:
            listed = await self._source.newest(PER_PAGE, None, paging.skip)
            first = listed.reports if paging.page == 1 else (await self._source.newest(1)).reports
            shown = Paging(listed.total, paging.page)
            return _kept(self._views.listed(listed.reports, shown, first[0] if first else None, language))

        return await self._page(news, f"list:{paging.page}:{language}", make, asked)

    async def _pdf(self, asked: _Asked, number: str) -> _Answer:
        news = await self._source.news()
        report_id, language = _known_id(number, news), asked.language

        async def make() -> bytes:
            framed = await asyncio.to_thread(self._views.pdf, await self._source.report(report_id), language)
            return _kept(framed.html, framed.policy)

        headers = {"x-report-id": str(report_id), "x-template-type": "pdf-printable"}
        return await self._page(news, f"pdf:{report_id}:{language}", make, asked, headers)

    async def _frame(self, asked: _Asked, number: str) -> _Answer:
        news = await self._source.news()
        report_id, language = _known_id(str(LATEST) if number == "latest" else number, news), asked.language
        version = check(self._secret, report_id, asked.query.get("token", ""), self._clock())

        async def make() -> bytes | None:
            found = await self._source.report(report_id)
            if found.report.version != version:
                return None
            framed = await asyncio.to_thread(self._views.frame, found, language)
            return _kept(framed.html, framed.policy)

        body = await self._cache.get(self._key(news, f"frame:{report_id}:{version}:{language}"), make, SHORT_TERM)
        if body is None:
            raise BadRequest(403, "This token is for another version of the report: load its page again.")
        answer = _answer(body, _HTML, _DOCUMENT, _FRAME, language)
        return replace(answer, vary=asked.varies)

    async def _rss(self, language: Language) -> _Answer:
        news = await self._source.news()

        async def make() -> bytes:
            listed = await self._source.newest(IN_FEED)
            said: list[str] = []
            for report in listed.reports:
                summary = report.summary_vi if language == "vi" else report.summary_en
                if not summary:
                    with contextlib.suppress(ReportError):
                        # Megabytes take seconds. One whose pages are damaged takes no other out of the feed.
                        summary = await asyncio.to_thread(summary_of, await self._source.report(report.id), language)
                said.append(summary)
            return _kept(self._views.rss(list(zip(listed.reports, said, strict=True)), language))

        body = await self._cache.get(self._key(news, f"rss:{language}"), make, SHORT_TERM)
        return _answer(body or b"", "application/rss+xml; charset=utf-8", _SECURITY, _FRESH, language)

    async def _sitemap(self, number: int | None) -> _Answer:
        """The one of few reports, or an index of as many as it takes."""
        news = await self._source.news()
        files = max(1, -(-len(news.ids) // SITEMAP_REPORTS))
        if number is not None and number > files:
            raise _Problem(404, "not_found")

        async def make() -> bytes:
            if number is None and files > 1:
                return _kept(self._views.sitemap_index(files))
            skip = ((number or 1) - 1) * SITEMAP_REPORTS
            listed = await self._source.newest(SITEMAP_REPORTS, None, skip)
            return _kept(await asyncio.to_thread(self._views.sitemap, listed.reports, skip == 0))

        body = await self._cache.get(self._key(news, f"sitemap:{number or 0}"), make, SHORT_TERM)
        return _answer(body or b"", "application/xml; charset=utf-8", _SECURITY, _FRESH, None)

    async def _robots(self) -> _Answer:
        body = _kept(self._views.robots())
        return _answer(body, "text/plain; charset=utf-8", _SECURITY, "public, max-age=86400", None)

    async def _page(
        self,
        news: News,
        key: str,
        make: Callable[[], Awaitable[bytes]],
        asked: _Asked,
        headers: dict[str, str] | None = None,
    ) -> _Answer:
        body = await self._cache.get(self._key(news, key), make, SHORT_TERM)
        if body is None:
            raise _Problem(404, "not_found")
        own = _PAGE if headers is None else {**_SECURITY, "x-frame-options": "DENY", **headers}
        return replace(_answer(body, _HTML, own, _FRESH, asked.language), vary=asked.varies)

    def _key(self, news: News, key: str) -> str:
        return f"reports:{self._views.edition}:{news.change}:{key}"


def _asked(scope: Scope) -> _Asked:
    query = dict(parse_qsl(scope["query_string"].decode("ascii", "replace")[:_LONGEST_QUERY]))
    said = known(query.get("lang"))
    return _Asked(said or negotiated(scope), said is None, query)


def _known_id(number: str, news: News) -> int:
    """`_Problem` for what is no number, or that of no report."""
    if not _NUMBER.fullmatch(number):
        raise _Problem(400, "wrong_report")
    wanted = int(number)
    if wanted == LATEST and news.ids:
        return news.ids[-1]
    at = bisect.bisect_left(news.ids, wanted)
    if at == len(news.ids) or news.ids[at] != wanted:
        raise _Problem(404, "not_found")
    return wanted


def _kept(text: str, policy: str | None = None) -> bytes:
    """A page as it is cached: its tag and its policy before it."""
    body = text.encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return msgspec.json.encode([tag, policy]) + b"\n" + body


def _answer(kept: bytes, kind: str, headers: dict[str, str], control: str, language: Language | None) -> _Answer:
    head, _, body = kept.partition(b"\n")
    tag, policy = msgspec.json.decode(head, type=tuple[str, str | None])
    said = headers | {"content-type": kind, "cache-control": control, "etag": tag}
    if language is not None:
        said["content-language"] = language
    if policy is not None:
        said["content-security-policy"] = policy
    return _Answer(200, said, body)


async def _send(scope: Scope, send: Send, answer: _Answer) -> None:
    headers = answer.headers | ({"vary": "Accept-Language, Cookie"} if answer.vary else {})
    encoded: Iterable[tuple[bytes, bytes]] = [(name.encode(), value.encode()) for name, value in headers.items()]
    if answer.status == 200 and has_version(scope, answer.headers["etag"].encode()):
        unsent = (b"content-type", b"content-security-policy")
        await send_head(send, 304, [pair for pair in encoded if pair[0] not in unsent])
    elif scope["method"] == "HEAD":
        await send_head(send, answer.status, [*encoded, (b"content-length", b"%d" % len(answer.body))])
    else:
        await send_whole(send, answer.status, encoded, answer.body)
