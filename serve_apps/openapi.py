"""The OpenAPI document and the page that shows it, made of the routes that the applications read requests by. The page
asks nobody else for anything: its style is a file of ours, its examples are links.
"""

import html
import importlib.metadata
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from serve_apps.asgi import ANY_ORIGIN, Receive, Scope, Send, send_whole
from serve_apps.parameters import Parameter, Route

App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHS: Final = ("/openapi.json", "/docs", "/docs.css")
PROBLEM: Final = "application/problem+json"
_SECURITY: Final = (
    (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_ERRORS: Final = {
    400: "The question is wrong: `detail` says what would fit.",
    401: "It needs the token: `Authorization: Bearer TOKEN`.",
    403: "That is not yours to do.",
    404: "There is no such thing; `detail` says where to look.",
    409: "Somebody else changed it meanwhile.",
    413: "Too much was sent.",
    415: "It has to be JSON.",
    422: "Understood, and refused.",
    429: "Too often: ask again after `Retry-After` seconds.",
    503: "Nobody knows it now: ask again after `Retry-After` seconds.",
}
_JSON: Final = "application/json"


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """OpenAPI 3.1 of all routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rayfeed",
            "version": version,
            "description": "Market data: bars, indicators, features, books, trades, and how far each can be trusted. "
            "Every answer says its version in `Api-Version`. A path that goes says so half a year before it does, in "
            "`Deprecation`, `Sunset` and `Link`. Errors are `application/problem+json` (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {"Problem": problem},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(routes: Iterable[Route], version: str) -> bytes:
    """All routes as one page to read."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>rayfeed API</title><link rel=stylesheet href=/docs.css><main>"
        f"<h1>rayfeed API <small>{html.escape(version)}</small></h1>"
        "<p>The same as <a href=/openapi.json>openapi.json</a> (OpenAPI 3.1). Errors are "
        "<code>application/problem+json</code>; 503 says when to ask again.</p>"
    ]
    parts += [_shown(route) for route in sorted(routes, key=lambda route: (route.path, route.method != "GET"))]
    return "".join([*parts, "</main></html>"]).encode()


def with_documents(app: App, routes: Sequence[Route]) -> App:
    """`app`, with `PATHS` answered before it."""
    version = importlib.metadata.version("rayfeed")
    files = {
        PATHS[0]: (b"application/json", msgspec.json.encode(document(routes, version))),
        PATHS[1]: (b"text/html; charset=utf-8", page(routes, version)),
        PATHS[2]: (b"text/css; charset=utf-8", _STYLE.encode()),
    }

    async def documents(scope: Scope, receive: Receive, send: Send) -> None:
        file = files.get(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        if file is None:
            await app(scope, receive, send)
            return
        kind, body = file
        await send_whole(send, 200, [(b"content-type", kind), ANY_ORIGIN, *_SECURITY], body)

    return documents


def _operation(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.path.strip('/').replace('/', '_').translate(_NAMES)}",
        "summary": route.summary,
        "parameters": [_segment(name, says) for name, says in route.segments.items()]
        + [_parameter(parameter) for parameter in route.parameters],
        "responses": {str(route.status): _answer(route)} | {str(status): _problem(status) for status in route.errors},
    }
    if route.about:
        said["description"] = route.about
    if route.body is not None:
        content = {"schema": route.body} | ({} if route.body_example is None else {"example": route.body_example})
        said["requestBody"] = {"required": True, "content": {_JSON: content}}
    if route.needs_token:
        said["security"] = [{"token": []}]
    if route.retired is not None:
        said["deprecated"] = True
    return said


def _segment(name: str, says: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": 100}
    return {"name": name, "in": "path", "required": True, "description": says, "schema": schema}


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    said = {"name": parameter.name, "in": "query", "description": parameter.says, "schema": parameter.schema}
    return said | ({"example": parameter.example} if parameter.example else {})


def _answer(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {} for kind in route.others}
    if route.example is not None:
        content = {_JSON: {"schema": _schema(route.example), "example": route.example}} | content
    return {"description": "As asked."} | ({"content": content} if content else {})


def _schema(example: Any) -> dict[str, Any]:
    """What every answer has in common with the example: its names, or that it is a list."""
    if isinstance(example, list):
        return {"type": "array", "items": {"type": "object"}}
    # With several exchanges a chart is another object.
    return {"type": "object"} if "bars" in example else {"type": "object", "required": list(example)}


def _problem(status: int) -> dict[str, Any]:
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if status == 422:
        content[_JSON] = {"schema": {"type": "object"}}
    return {"description": _ERRORS[status], "content": content}


def _shown(route: Route) -> str:
    rows = "".join(
        f"<tr><td><code>{{{html.escape(name)}}}</code><td>{html.escape(says)}<td>"
        for name, says in route.segments.items()
    ) + "".join(
        f"<tr><td><code>{html.escape(one.name)}</code><td>{html.escape(one.says)}<td>{_fits(one.schema)}"
        for one in route.parameters
    )
    link = _link(route)
    parts = [
        f"<section><h2><b>{route.method}</b> {html.escape(route.path)}</h2><p>{html.escape(route.summary)}.",
        " <em>Needs the token.</em>" if route.needs_token else "",
        f" <em>Goes on {route.retired.ends}: use {html.escape(route.retired.instead)}.</em>" if route.retired else "",
        f"<p>{html.escape(route.about)}" if route.about else "",
        f"<table>{rows}</table>" if rows else "",
    ]
    if route.body_example is not None:
        parts.append(f"<p>Send:<pre>{_pretty(route.body_example)}</pre>")
    if route.example is not None:
        parts.append(f"<details><summary>Answer</summary><pre>{_pretty(route.example)}</pre></details>")
    if route.method == "GET" and not route.needs_token:
        parts.append(f"<p>Try <a href='{html.escape(link)}'>{html.escape(link)}</a>")
    else:
        parts.append(
            f"<pre>curl -X {route.method} -H 'Authorization: Bearer TOKEN' {html.escape(_data(route) + link)}</pre>"
        )
    return "".join([*parts, "</section>"])


def _link(route: Route) -> str:
    """A request that works where the example of a symbol is collected."""
    said = route.example if isinstance(route.example, dict) else {}
    path = route.path
    for name in route.segments:
        path = path.replace(f"{{{name}}}", quote(str(said.get(name, "BTCUSDT")), safe=""))
    names = {parameter.name for parameter in route.parameters}
    query = {name: str(said[name]) for name in ("exchange", "timeframe") if name in names and name in said}
    if route.segments.keys() == {"symbol"} and "exchange" in names:
        query.setdefault("exchange", "binance")
    return path + (f"?{urlencode(list(query.items()))}" if query else "")


def _data(route: Route) -> str:
    if route.body_example is None:
        return ""
    return f"-H 'Content-Type: application/json' -d '{msgspec.json.encode(route.body_example).decode()}' "


def _fits(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        fits = " | ".join(one or "(all)" for one in schema["enum"])
    elif "minimum" in schema:
        fits = f"{schema['minimum']} to {schema['maximum']}"
    else:
        fits = ""
    default = f"default {schema['default']}" if schema.get("default") not in (None, "") else ""
    return html.escape("; ".join(one for one in (fits, default) if one))


def _pretty(example: Any) -> str:
    return html.escape(msgspec.json.format(msgspec.json.encode(example)).decode())


_NAMES: Final = str.maketrans({"{": None, "}": None, "-": "_"})
_STYLE: Final = """\
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0; }
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem; }
section { border-top: 1px solid #8884; padding: 0.5rem 0 1rem; }
h2 { font: 600 1.05rem ui-monospace, monospace; overflow-wrap: anywhere; }
h2 b { color: #07c; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid #8882; padding: 0.25rem 0.75rem 0.25rem 0; vertical-align: top; overflow-wrap: anywhere; }
pre { background: #8881; padding: 0.75rem; overflow-x: auto; }
em { color: #b60; }
"""
