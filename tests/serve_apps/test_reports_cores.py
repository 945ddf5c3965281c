"""What the pages of reports are made of: languages, paging, tokens, texts, and what is let through of HTML."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.asgi import BadRequest
from serve_apps.reports_frame import TEMPLATES, check, policy, script, sign, style
from serve_apps.reports_html import plain_text, sanitised, sections
from serve_apps.reports_language import LANGUAGES, accepted, negotiated
from serve_apps.reports_paging import Paging
from serve_apps.texts import TEXTS, texts

# ---- languages


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        ("", "vi"),
        ("en", "en"),
        ("en-GB,en;q=0.9", "en"),
        ("EN-us", "en"),
        ("vi-VN,vi;q=0.9,en;q=0.8", "vi"),
        ("en;q=0.3, vi;q=0.7", "vi"),
        ("en;q=0.7, vi;q=0.7", "en"),
        ("de, fr;q=0.9, en;q=0.1", "en"),
        ("de, fr", "vi"),
        ("en;q=0, *", "vi"),
        ("en;q=2", "vi"),
        ("en;q=nan", "vi"),
        ("en;q=inf", "vi"),
        ("english", "vi"),
        (";;,,;q=,en;q=", "vi"),
    ],
)
def test_the_best_language_that_we_have_is_taken(asked: str, language: str) -> None:
    assert accepted(asked) == language


@given(st.text(), st.text(), st.sampled_from(["", "preferred_language="]))
def test_whatever_a_browser_says_there_is_a_language(asked: str, cookie: str, name: str) -> None:
    headers = [
        (b"accept-language", asked.encode("utf-8", "replace")),
        (b"cookie", (name + cookie).encode("utf-8", "replace")),
    ]
    assert negotiated({"headers": headers}) in LANGUAGES


@given(st.lists(st.tuples(st.sampled_from(["vi", "en", "en-GB", "de", "*"]), st.integers(0, 1000))))
def test_no_language_of_ours_was_asked_for_more(said: list[tuple[str, int]]) -> None:
    chosen = accepted(", ".join(f"{tag};q={quality / 1000:g}" for tag, quality in said))
    best = {language: max((q for tag, q in said if tag[:2] == language), default=0) for language in LANGUAGES}
    assert best[chosen] == max(best.values())


def test_every_text_is_there_in_both_languages() -> None:
    vi, en = texts("vi"), texts("en")
    assert vi.keys() == en.keys() == TEXTS.keys()
    assert all(text.strip() for both in TEXTS.values() for text in both)


def test_templates_use_the_texts_there_are_and_all_of_them() -> None:
    templates = [path.read_text() for path in TEMPLATES.glob("*.*ml") if path.name != "daily.html"]
    used = {name for template in templates for name in re.findall(r"\bt\.([a-z_]+)", template)}
    problems = {"not_found", "wrong_page", "wrong_report", "unavailable"}
    assert used | problems | {f"{name}_hint" for name in problems} == TEXTS.keys()


# ---- paging


@given(st.integers(0, 500), st.integers(1, 80), st.integers(1, 20))
def test_every_report_is_on_one_page_and_numbers_lead_everywhere(total: int, asked: int, per_page: int) -> None:
    paging = Paging(total, asked, per_page)
    pages = [Paging(total, page, per_page) for page in range(1, paging.pages + 1)]
    assert [n for page in pages for n in range(page.skip, page.last)] == list(range(total))
    assert 1 <= paging.page <= paging.pages
    shown = [number for number in paging.numbers if number is not None]
    assert shown == sorted(set(shown))
    assert {1, paging.page, paging.pages} <= set(shown)
    if paging.pages <= 10:
        assert shown == list(range(1, paging.pages + 1))
    pairs = list(zip(paging.numbers, paging.numbers[1:], strict=False))
    # Something is left out where there is a gap, and nowhere else.
    assert all(one is None or other is None or other == one + 1 for one, other in pairs)
    assert (paging.newer is None, paging.older is None) == (paging.page == 1, paging.page == paging.pages)


def test_far_pages_are_left_out() -> None:
    assert Paging(400, 20).numbers == [1, 2, None, 18, 19, 20, 21, 22, None, 39, 40]
    assert Paging(110, 1).numbers == [1, 2, 3, None, 10, 11]


# ---- tokens


@given(st.integers(1, 10**6), st.integers(1, 1000), st.floats(0, 1e10), st.integers(60, 86400))
def test_a_token_is_good_for_its_report_for_a_while(report: int, version: int, now: float, lasts: int) -> None:
    token = sign(b"secret", report, version, now, lasts)
    assert check(b"secret", report, token, now + lasts - 1) == version
    for wrong in (
        (b"other", report, token, now),
        (b"secret", report + 1, token, now),
        (b"secret", report, token, now + 2 * lasts + 1),
        (b"secret", report, token.replace(f"{version}-", f"{version + 1}-", 1), now),
        (b"secret", report, "", now),
        (b"secret", report, token + "0", now),
    ):
        with pytest.raises(BadRequest) as refused:
            check(*wrong)
        assert refused.value.status == 403


def test_pages_that_are_made_in_the_same_while_hold_the_same_token() -> None:
    tokens = {sign(b"secret", 1, 1, 3600.0 * 5 + second, 3600) for second in range(0, 3600, 60)}
    assert len(tokens) == 1


# ---- documents


class _Elements(HTMLParser):
    """What a browser would make of text: elements with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


_ATTACKS = [
    "<script>evil()</script>",
    "<SCRIPT SRC=http://evil.example/x.js></SCRIPT>",
    "<img src=x onerror=evil()>",
    "<img src='http://evil.example/pixel.png'>",
    '<img src="data:text/html,<script>evil()</script>">',
    "<img srcset='http://evil.example/a 1x'>",
    "<svg onload=evil()><path d='M0 0'/></svg>",
    "<svg><script>evil()</script></svg>",
    "<svg><a xlink:href='javascript:evil()'><text>x</text></a></svg>",
    "<svg><use href='http://evil.example/x.svg#a'/></svg>",
    "<svg><foreignObject><iframe src=javascript:evil()></iframe></foreignObject></svg>",
    "<svg><animate onbegin=evil() attributeName=x dur=1s></svg>",
    "<svg><style><img src=x onerror=evil()></style></svg>",
    '<svg></p><style><a id="</style><img src=1 onerror=evil()>">',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=evil()&gt;">',
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=evil()>",
    '<noscript><p title="</noscript><img src=x onerror=evil()>">',
    "<template><script>evil()</script></template>",
    "<a href='javascript:evil()'>x</a>",
    "<a href='java\tscript:evil()'>x</a>",
    "<a href='&#106;avascript:evil()'>x</a>",
    "<a href='data:text/html,<script>evil()</script>'>x</a>",
    "<a href='//evil.example'>x</a>",
    "<a href='vbscript:evil()'>x</a>",
    "<iframe srcdoc='<script>evil()</script>'></iframe>",
    "<iframe src='http://evil.example'></iframe>",
    "<object data='http://evil.example'></object><embed src='http://evil.example'>",
    "<form action='http://evil.example'><input name=a><button formaction='javascript:evil()'>x</button></form>",
    "<link rel=stylesheet href='http://evil.example/x.css'>",
    "<link rel=dns-prefetch href='http://evil.example'>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href='http://evil.example/'>",
    "<style>@import url(http://evil.example)</style>",
    "<video src='http://evil.example' onerror=evil()></video><audio src=x onerror=evil()>",
    "<details open ontoggle=evil()>x</details>",
    "<body onload=evil()><frameset onload=evil()>",
    "<p onclick=evil() onmouseover='evil()' style='color:red'>x</p>",
    "<input autofocus onfocus=evil()>",
    "<marquee onstart=evil()>x</marquee>",
    "<isindex action=javascript:evil()>",
    "<!--><img src=x onerror=evil()>-->",
    "<![CDATA[<img src=x onerror=evil()>]]>",
    "<p/onclick=evil()>x<//p>",
    "</main></body><script>evil()</script>",
    "<scr<script>ipt>evil()</scr</script>ipt>",
    "<img \x00src=x one\x00rror=evil()>",
    "<table background='http://evil.example/x.png'><tr><td background='javascript:evil()'>x",
    "<portal src='http://evil.example'></portal><applet code=evil></applet>",
]
_REFUSED = {
    *("script", "style", "iframe", "object", "embed", "form", "input", "button", "link", "meta", "base", "template"),
    *("noscript", "video", "audio", "use", "animate", "foreignobject", "math", "body", "html", "frameset", "portal"),
}


def is_harmless(html: str) -> None:
    for tag, attributes in _Elements(html).found:
        assert tag not in _REFUSED, html
        for name, value in attributes.items():
            assert not name.startswith("on"), html
            assert name not in {"srcset", "srcdoc", "background", "action", "formaction", "xlink:href", "ping"}, html
            if name == "src":
                assert re.match(r"data:image/(png|jpeg|gif|webp);base64,", value or ""), html
            if name == "href":
                assert re.match(r"#|https?://|mailto:", value or ""), html


@pytest.mark.parametrize("attack", _ATTACKS)
@pytest.mark.parametrize("around", ["{}", "<section><h2>a</h2>{}</section>", "<svg>{}</svg>", "<table><tr>{}</table>"])
def test_no_attack_comes_through(attack: str, around: str) -> None:
    once = sanitised(around.format(attack))
    is_harmless(once)
    # A second parser that reads it otherwise than the first would change it.
    assert sanitised(once) == once


@given(st.lists(st.one_of(st.sampled_from(_ATTACKS), st.text(alphabet="<>/\"'= ap-!svg&;\n", max_size=20)), max_size=6))
def test_no_mixture_of_attacks_comes_through(parts: list[str]) -> None:
    is_harmless(sanitised("".join(parts)))


def test_what_reports_are_made_of_stays() -> None:
    kept = (
        '<section id="a" class="card"><h2>Giá &amp; khối lượng</h2><p style="color:red">x<sup>2</sup></p>'
        '<table><caption>t</caption><tbody><tr><th scope="row">a</th><td colspan="2">1</td></tr></tbody></table>'
        '<svg viewBox="0 0 10 10" role="img" aria-labelledby="t"><title id="t">T</title>'
        '<defs><linearGradient id="g" x1="0"><stop offset="0" stop-color="red"></stop></linearGradient></defs>'
        '<path d="M0 0L1 1" fill="none" stroke="currentColor" stroke-width="2"></path>'
        '<text x="1" text-anchor="end">1</text></svg><a href="#a" rel="noopener noreferrer">a</a></section>'
    )
    assert sanitised(kept) == kept
    assert sections(kept) == ["Giá & khối lượng"]
    assert plain_text(kept, 100) == "Giá & khối lượng x2 t a 1 a"


@given(st.text(), st.integers(10, 50))
def test_a_summary_is_short(text: str, most: int) -> None:
    short = plain_text(sanitised(text), most)
    assert len(short) <= most
    assert short == " ".join(short.split())


@given(st.text(alphabet="</scriptSTYLE>!- x\r\n\0"), st.text(alphabet="</styleSCRIPT> {}"))
def test_scripts_and_styles_cannot_end_the_element_they_stand_in(js: str, css: str) -> None:
    safe = str(script(js))
    assert not re.search(r"</script|<!--|<script", safe, re.IGNORECASE)
    assert "\r" not in safe
    assert not re.search(r"</style", str(style(css)), re.IGNORECASE)


def test_a_script_that_ends_nothing_stays_as_it_is() -> None:
    js = "if (a < b && c > d) { run(`</p>`); } // Xin chào"
    assert script(js) == js
    assert style("a > b::after { content: '</p>' }") == "a > b::after { content: '</p>' }"


def test_a_document_without_scripts_runs_none() -> None:
    said: Any = policy([])
    assert "script-src 'none'" in said
    assert "default-src 'none'" in said
