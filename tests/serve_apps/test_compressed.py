"""What may be kept is compressed once, for who accepts it."""

import gzip
from typing import Any

import pytest

from serve_apps.asgi import Receive, Scope, Send, send_whole, serve_lifespan
from serve_apps.compressed import Compressed
from tests.serve_apps.conftest import fetch, serving

TEXT = b"<p>price</p>" * 100
LARGE = b"".join(b"%d," % number for number in range(100_000))
KEPT = ((b"cache-control", b"public, max-age=1"), (b"content-type", b"text/html; charset=utf-8"), (b"etag", b'"one"'))


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await serve_lifespan(receive, send)
        return
    headers, body, status = list(KEPT), TEXT, 200
    match scope["path"]:
        case "/large":
            body = LARGE
        case "/short":
            body = b"short"
        case "/binary":
            headers[1] = (b"content-type", b"application/octet-stream")
        case "/now":
            headers[0] = (b"cache-control", b"no-store")
        case "/untagged":
            del headers[2]
        case "/lost":
            status = 404
        case "/pieces":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": TEXT, "more_body": True})
            await send({"type": "http.response.body", "body": TEXT})
            return
        case "/same":
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
    await send_whole(send, status, headers, b"" if scope["method"] == "HEAD" else body)


@pytest.mark.parametrize(("path", "body"), [("/", TEXT), ("/large", LARGE)])
def test_who_accepts_it_gets_gzip_with_a_weak_tag_and_others_the_text(path: str, body: bytes) -> None:
    with serving(Compressed(site)) as port:
        for _ in range(2):
            said = fetch(port, path, headers={"Accept-Encoding": "br, gzip"})
            assert gzip.decompress(said.body) == body
            assert len(said.body) < len(body)
            assert said.headers["content-encoding"] == "gzip"
            assert said.headers["content-length"] == str(len(said.body))
            assert said.headers["etag"] == 'W/"one"'
            assert said.headers["vary"] == "Accept-Encoding"
        for accepted in ("identity", "gzip;q=0", "br"):
            said = fetch(port, path, headers={"Accept-Encoding": accepted})
            assert said.body == body
            assert "content-encoding" not in said.headers
            assert (said.headers["etag"], said.headers["vary"]) == ('"one"', "Accept-Encoding")


@pytest.mark.parametrize("path", ["/short", "/binary", "/now", "/untagged", "/lost", "/pieces"])
def test_what_is_short_binary_not_kept_or_comes_in_pieces_stays_as_it_is(path: str) -> None:
    with serving(Compressed(site)) as port:
        plain = fetch(port, path, headers={"Accept-Encoding": "identity"})
        said = fetch(port, path, headers={"Accept-Encoding": "gzip"})
    assert said.body == plain.body
    assert "content-encoding" not in said.headers


def test_head_and_304_say_that_there_are_two_versions() -> None:
    with serving(Compressed(site)) as port:
        for method, path, status in (("HEAD", "/", 200), ("GET", "/same", 304)):
            said = fetch(port, path, method=method, headers={"Accept-Encoding": "gzip"})
            assert (said.status, said.body, said.headers["vary"]) == (status, b"", "Accept-Encoding")


def test_other_paths_than_those_named_are_left_alone() -> None:
    with serving(Compressed(site, paths=("/",))) as port:
        assert "vary" not in fetch(port, "/large", headers={"Accept-Encoding": "gzip"}).headers
        assert fetch(port, "/", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_a_text_is_compressed_once_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = gzip.compress

    def counted(body: bytes, *arguments: Any, **options: Any) -> bytes:
        made.append(len(body))
        return original(body, *arguments, **options)

    monkeypatch.setattr(gzip, "compress", counted)
    app = Compressed(site, most_bytes=200)
    with serving(app) as port:
        for path in ("/", "/", "/another", "/", "/third", "/fourth", "/fifth", "/sixth", "/"):
            fetch(port, path, headers={"Accept-Encoding": "gzip"})
            assert app._bytes == sum(map(len, app._made.values())) <= 200
    assert 7 <= len(made) < 9
