"""The pages as a client gets them over ASGI, and how large what is built is."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

import serve_apps
from serve_apps.pages import PagesApp

DIST = Path(serve_apps.__file__).parent / "web" / "dist"
#: What a page may weigh at its first load, compressed.
MOST_BYTES = 300_000


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>home</h1>")
    (folder / "chart.html").write_text("<h1>chart</h1>")
    (folder / "404.html").write_text("<h1>not here</h1>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-abc.js").write_text("let a")
    (folder / "assets" / "style-abc.css").write_text("p{}")
    (tmp_path / "secret").write_text("secret")
    return folder


async def ready() -> tuple[bool, dict[str, Any]]:
    return True, {"status": "ready", "feeds": {"binance": {"state": "live", "lag_ms": 12}}}


async def not_ready() -> tuple[bool, dict[str, Any]]:
    return False, {"status": "starting"}


async def ask(app: PagesApp, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await app({"type": "http", "method": method, "path": path, "headers": encoded}, receive, send)
    start, body = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], answered, body["body"]


async def test_the_home_page_is_revalidated_and_not_sent_twice(dist: Path) -> None:
    app = PagesApp(dist, ready)
    status, headers, body = await ask(app, "/")
    assert (status, body) == (200, b"<h1>home</h1>")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "public, max-age=1, s-maxage=10"
    assert headers["content-length"] == str(len(body))
    for known in (headers["etag"], f'"other", W/{headers["etag"]}', "*"):
        status, again, body = await ask(app, "/", if_none_match=known)
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert (await ask(app, "/", if_none_match='"other"'))[0] == 200


async def test_each_built_page_is_served_under_its_name(dist: Path) -> None:
    app = PagesApp(dist, ready)
    assert (await ask(app, "/chart"))[::2] == (200, b"<h1>chart</h1>")
    assert (await ask(app, "/chart.html"))[0] == 404
    assert (await ask(app, "/index"))[0] == 404


@pytest.mark.parametrize("page", ["/", "/chart", "/operations"])
async def test_a_page_and_all_it_needs_first_weigh_less_than_300_kb_compressed(page: str) -> None:
    app, waiting, weights = PagesApp(DIST, ready), [page], dict[str, int]()
    while waiting:
        path = waiting.pop()
        status, _, body = await ask(app, path)
        assert status == 200, path
        weights[path] = len(gzip.compress(body))
        found = re.findall(r"""(?:src|href)="(/assets/[^"]+)"|["'](?:\./)([\w.-]+\.(?:js|css))["']""", body.decode())
        links = {absolute or f"/assets/{relative}" for absolute, relative in found}
        waiting += [link for link in links if link not in weights and link not in waiting]
    assert len(weights) > 3, "it needs a style sheet and scripts"
    assert sum(weights.values()) < MOST_BYTES, weights


async def test_assets_are_kept_for_ever(dist: Path) -> None:
    app = PagesApp(dist, ready)
    for path, content_type in (
        ("/assets/index-abc.js", "javascript; charset=utf-8"),
        ("/assets/style-abc.css", "text/css; charset=utf-8"),
    ):
        status, headers, _ = await ask(app, path)
        assert status == 200
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["content-type"].endswith(content_type)


@pytest.mark.parametrize("path", ["/", "/assets/index-abc.js", "/favicon.ico", "/healthz", "/readyz", "/nope"])
async def test_every_answer_has_the_security_headers(dist: Path, path: str) -> None:
    _, headers, _ = await ask(PagesApp(dist, ready), path)
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/assets/index-abc.js", "/readyz", "/nope"])
async def test_head_answers_like_get_without_a_body(dist: Path, path: str) -> None:
    app = PagesApp(dist, ready)
    status, headers, _ = await ask(app, path)
    assert await ask(app, path, "HEAD") == (status, headers, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/assets",
        "/assets/",
        "/assets/../../secret",
        "/assets/..%2f..%2fsecret",
        "//secret",
        "/../secret",
        "/assets/\x00",
        "/index.html/",
        "/404.html",
    ],
)
async def test_a_path_that_was_not_built_is_a_styled_404(dist: Path, path: str) -> None:
    status, headers, body = await ask(PagesApp(dist, ready), path)
    assert (status, body) == (404, b"<h1>not here</h1>")
    assert headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW"])
async def test_other_methods_are_refused_and_told_what_is_allowed(dist: Path, method: str) -> None:
    status, headers, _ = await ask(PagesApp(dist, ready), "/", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_without_a_build_the_pages_say_how_to_build_them_and_the_probes_work(tmp_path: Path) -> None:
    app = PagesApp(tmp_path / "dist", ready)
    status, _, body = await ask(app, "/")
    assert status == 503
    assert b"make web" in body
    assert str(tmp_path).encode() not in body
    assert (await ask(app, "/healthz"))[0] == 200
    assert (await ask(app, "/readyz"))[0] == 200
    assert await ask(app, "/health") == await ask(app, "/readyz")


async def test_the_probes_tell_alive_and_ready_apart(dist: Path) -> None:
    app = PagesApp(dist, not_ready)
    status, headers, body = await ask(app, "/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    status, headers, body = await ask(app, "/readyz")
    assert (status, json.loads(body)) == (503, {"status": "starting"})
    assert (headers["content-type"], headers["cache-control"]) == ("application/json", "no-store")
    status, _, body = await ask(PagesApp(dist, ready), "/readyz")
    assert (status, json.loads(body)["status"]) == (200, "ready")
