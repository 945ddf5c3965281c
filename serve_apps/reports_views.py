"""What the pages of reports look like: from reports to the bytes of a page, a feed or a sitemap. Pure but for the
templates, which are read when this is made. Everything a report says is escaped, but for its HTML, which is sanitised
and stands in documents of its own.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from actors.reports import Found
from config import Settings
from serve_apps.reports_frame import PRINTING, RUNTIME, TEMPLATES, policy, script, style
from serve_apps.reports_html import plain_text, sanitised, sections
from serve_apps.reports_language import LANGUAGES, Language
from serve_apps.reports_paging import Paging
from serve_apps.texts import TEXTS, texts
from storage.reports import Pages, Report

SITE_NAME: Final = "rayfeed"
#: The hour of readers of Vietnamese.
_HANOI: Final = timezone(timedelta(hours=7), "UTC+7")
_DESCRIPTION: Final = 300
_ARTICLE: Final = 5000
#: Reports in one file of a sitemap, whose protocol allows 50,000 addresses: the first has three of other pages.
SITEMAP_REPORTS: Final = 50_000 - 3
#: Programs that collect pages to train models with.
AI_CRAWLERS: Final = (
    *("GPTBot", "ChatGPT-User", "CCBot", "anthropic-ai", "ClaudeBot", "Claude-Web", "Google-Extended", "Bytespider"),
    *("Amazonbot", "FacebookBot", "PerplexityBot", "Applebot-Extended"),
)
#: Of what Vite builds: the script of these pages, and their style.
SCRIPT: Final = "src/report/report.ts"
STYLE: Final = "src/report/report.css"


@dataclass(frozen=True, slots=True)
class Assets:
    """Addresses of what the pages load; None where it is not built."""

    script: str | None
    style: str | None

    @classmethod
    def read(cls, dist: Path) -> "Assets":
        try:
            built = json.loads((dist / ".vite" / "manifest.json").read_text("utf-8"))
            return cls(f"/{built[SCRIPT]['file']}", f"/{built[STYLE]['file']}")
        except (OSError, ValueError, KeyError):
            return cls(None, None)


@dataclass(frozen=True, slots=True)
class Framed:
    """A document with a policy of its own."""

    html: str
    policy: str


class Views:
    """Pages of a site whose address is `base_url`."""

    def __init__(self, base_url: str, assets: Assets) -> None:
        self.base_url = base_url.rstrip("/")
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._environment.globals |= {"assets": assets, "base_url": self.base_url, "site": SITE_NAME}
        self._frame_style = (TEMPLATES / "frame.css").read_text("utf-8")
        looks = [path.read_bytes() for path in sorted(TEMPLATES.iterdir())]
        said = repr((self.base_url, assets, TEXTS)).encode()
        #: What else a page depends on than on the reports: another one after an update.
        self.edition = hashlib.sha256(b"".join([*looks, said])).hexdigest()[:12]

    def report(self, found: Found, related: Sequence[Report], language: Language, token: str) -> str:
        """The page of a report; `token` is for its frame."""
        report = found.report
        html = sanitised(_html(found.pages, language))
        shown = _shown(report, language)
        text = plain_text(html, _ARTICLE)
        path = f"/crypto_report/{report.id}"
        description = shown["summary"] or plain_text(html, _DESCRIPTION)
        return self._page(
            "report.html",
            language,
            path,
            report=shown,
            description=description,
            sections=sections(html),
            related=[_shown(one, language) for one in related],
            frame=f"{path}/frame?lang={language}&token={token}",
            json_ld=self._article(report, shown, language, path, description, text),
        )

    def listed(self, reports: Sequence[Report], paging: Paging, latest: Report | None, language: Language) -> str:
        path = "/crypto_reports_list" + (f"?page={paging.page}" if paging.page > 1 else "")
        return self._page(
            "list.html",
            language,
            path,
            description=texts(language)["reports_about"],
            reports=[_shown(one, language) for one in reports],
            paging=paging,
            latest=_shown(latest, language) if latest else None,
        )

    def problem(self, language: Language, what: str) -> str:
        """A page that says what is wrong, by the names of its texts: `not_found`, `wrong_page`, `unavailable`."""
        said = texts(language)
        return self._page("404.html", language, None, heading=said[what], hint=said[f"{what}_hint"], description="")

    def frame(self, found: Found, language: Language) -> Framed:
        """What stands in the frame of a report."""
        own = (found.pages.js_en if language == "en" else "") or found.pages.js_vi
        scripts = [script(RUNTIME), *([script(own)] if own else [])]
        html = self._document("frame.html", found, language, scripts=scripts)
        return Framed(html, policy(scripts))

    def pdf(self, found: Found, language: Language) -> Framed:
        """A report to print, on paper of its own. Its scripts do not run: nothing is around it that would hold them."""
        printing = script(PRINTING)
        html = self._document("pdf.html", found, language, printing=printing, t=texts(language))
        return Framed(html, policy([printing], "allow-scripts allow-modals"))

    def rss(self, reports: Sequence[tuple[Report, str]], language: Language) -> str:
        """The newest reports, each with what is said of it (see `summary_of`)."""
        newest = max((report.updated_at for report, _ in reports), default=0)
        return self._environment.get_template("rss.xml").render(
            t=texts(language),
            items=[_shown(report, language) | {"description": said} for report, said in reports],
            language="vi-VN" if language == "vi" else "en",
            lang=language,
            built=format_datetime(_when(newest, _HANOI)),
        )

    def sitemap(self, reports: Sequence[Report], first: bool) -> str:
        """A file of the sitemap; pages that are no report stand in the first one, whose reports are the newest."""
        days = [(report.id, _when(report.updated_at, UTC).date().isoformat()) for report in reports]
        return self._environment.get_template("sitemap.xml").render(reports=days, first=first)

    def sitemap_index(self, files: int) -> str:
        return self._environment.get_template("sitemap_index.xml").render(files=files)

    def robots(self) -> str:
        refused = "".join(f"User-agent: {name}\nDisallow: /\n\n" for name in AI_CRAWLERS)
        return f"{refused}User-agent: *\nAllow: /\n\nSitemap: {self.base_url}/sitemap.xml\n"

    def _page(self, template: str, language: Language, path: str | None, **said: Any) -> str:
        joined = "&" if path and "?" in path else "?"
        addresses = {one: f"{self.base_url}{path}{joined}lang={one}" for one in LANGUAGES} if path else {}
        other = next(one for one in LANGUAGES if one != language)
        return self._environment.get_template(template).render(
            t=texts(language),
            language=language,
            other=other,
            switch=f"{path or ''}{joined}lang={other}",
            path=path,
            addresses=addresses,
            **said,
        )

    def _document(self, template: str, found: Found, language: Language, **said: Any) -> str:
        return self._environment.get_template(template).render(
            report=_shown(found.report, language),
            language=language,
            content=Markup(sanitised(_html(found.pages, language))),  # noqa: S704 - what nh3 has let through
            base_style=style(self._frame_style),
            own_style=style(found.pages.css),
            **said,
        )

    def _article(
        self, report: Report, shown: dict[str, Any], language: Language, path: str, description: str, text: str
    ) -> list[dict[str, Any]]:
        """JSON-LD, see schema.org."""
        address, said = f"{self.base_url}{path}?lang={language}", texts(language)
        site = {"@type": "Organization", "name": SITE_NAME, "url": f"{self.base_url}/"}
        crumbs = ((said["home"], "/"), (said["reports"], "/crypto_reports_list"), (shown["title"], path))
        return [
            {
                "@context": "https://schema.org",
                "@type": "Article",
                "headline": shown["title"],
                "description": description,
                "articleBody": text,
                "datePublished": shown["created_iso"],
                "dateModified": shown["updated_iso"],
                "inLanguage": language,
                "author": {"@type": "Organization", "name": report.author or SITE_NAME},
                "publisher": site,
                "mainEntityOfPage": {"@type": "WebPage", "@id": address},
                "image": f"{self.base_url}/favicon.svg",
            },
            {
                "@context": "https://schema.org",
                "@type": "BreadcrumbList",
                "itemListElement": [
                    {"@type": "ListItem", "position": number, "name": name, "item": f"{self.base_url}{where}"}
                    for number, (name, where) in enumerate(crumbs, 1)
                ],
            },
        ]


def base_url(settings: Settings) -> str:
    """Where readers find the site, as far as anybody knows."""
    if settings.pages.base_url is not None:
        return settings.pages.base_url
    tls = settings.edge.tls
    return f"https://localhost:{settings.tls_port}" if tls else f"http://localhost:{settings.port}"


def summary_of(found: Found, language: Language) -> str:
    """What a feed says of a report: its summary, or how it begins."""
    report = found.report
    said = report.summary_vi if language == "vi" else report.summary_en
    return said or plain_text(sanitised(_html(found.pages, language)), _DESCRIPTION)


def _html(pages: Pages, language: Language) -> str:
    return (pages.html_en if language == "en" else "") or pages.html_vi


def _when(ns: int, zone: Any) -> datetime:
    return datetime.fromtimestamp(ns // 1_000_000_000, zone)


def _shown(report: Report, language: Language) -> dict[str, Any]:
    """What templates say of a report."""
    vi = language == "vi"
    zone = _HANOI if vi else UTC
    created = _when(report.created_at, zone)
    return {
        "id": report.id,
        "title": report.title_vi if vi else report.title_en,
        "summary": report.summary_vi if vi else report.summary_en,
        "author": report.author,
        # Without a translation the pages are in Vietnamese whatever the reader wants.
        "language": language if vi or report.has_english else "vi",
        "created": f"{created:%d/%m/%Y %H:%M} {'UTC+7' if vi else 'UTC'}" if vi else f"{created:%-d %b %Y, %H:%M} UTC",
        "created_date": f"{created:%d/%m/%Y}" if vi else f"{created:%-d %b %Y}",
        "created_iso": _when(report.created_at, UTC).isoformat(),
        "updated_iso": _when(report.updated_at, UTC).isoformat(),
        "rfc822": format_datetime(_when(report.created_at, _HANOI)),
    }
