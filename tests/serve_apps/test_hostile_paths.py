"""No path and no parameter leads out of what an application serves, with a guard before it and without."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from config import load
from serve_apps.auth import METHODS, AuthApp
from serve_apps.bar_series import BarSeries
from serve_apps.cache import Cache
from serve_apps.charts import CHARTS, ChartsApp
from serve_apps.data import build
from serve_apps.features import FEATURES, FeaturesApp
from serve_apps.guard import AUTH, Guard, api_rules, data_rules, page_rules
from serve_apps.market import MarketApp, Resource
from serve_apps.pages import PagesApp
from serve_apps.scaling import Measured
from storage.column_reader import ColumnReader
from tests.serve_apps.asgi_client import Answer, ask
from tests.serve_apps.conftest import DAY, Stored
from tests.serve_apps.guarded import Guarded

SECRET = "what-nobody-may-read"
#: A file beside everything that is served, said in all the ways that were ever taken for a path.
CLIMBS = ("..", "../..", "../../..", "....//....//..", "..\\..", "..;/..", ".\u2024/..", "%2e%2e", "\uff0e\uff0e")
NAMES = ("secret.txt", "decoy/BTC-USD", "decoy", "BTC-USD/../../../secret.txt", "secret.txt\x00.json")

Asked = Callable[[str], Any]


def hostile() -> list[str]:
    plain = [f"{climb}/{name}" for climb in CLIMBS for name in NAMES]
    absolute = ["/etc/passwd", "//etc/passwd", "file:///etc/passwd", "C:\\secret.txt", "~/secret.txt", "\\\\host\\x"]
    odd = ["", ".", "..", "a" * 4000, "a/" * 500, "\x00", "\r\nX-Evil: 1", "${jndi:x}", "%", "%%", "*"]
    texts = [*plain, *absolute, *odd]
    # As it is, encoded, and encoded twice.
    once = [quote(text, safe="") for text in texts]
    return [*(quote(text, safe="/.\\:;~*$%{}") for text in texts), *once, *(quote(text, safe="") for text in once)]


def leaks(answer: Answer) -> bool:
    text = answer.body.decode("latin-1")
    return SECRET in text or "root:" in text or str(Path(__file__).parents[2]) in text or "Traceback" in text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    dist = root / "dist"
    (dist / "assets").mkdir(parents=True)
    for name in ("index.html", "404.html", "favicon.svg", "assets/app.js"):
        (dist / name).write_text(f"<p>{name}</p>")
    (root / "secret.txt").write_text(SECRET)
    return dist


@pytest.mark.parametrize("guarded", [False, True])
async def test_pages_serve_what_was_built_and_nothing_else(site: Path, tmp_path: Path, guarded: bool) -> None:
    async def readiness() -> tuple[bool, dict[str, Any]]:
        return True, {}

    system = Guarded(tmp_path)
    pages = PagesApp(site, readiness)
    app: Any = system.guarded(pages, page_rules(system.settings)) if guarded else pages
    for path in hostile():
        for prefix in ("/", "/assets/"):
            answer = await ask(app, prefix + path)
            assert not leaks(answer), path
            # Nothing but the start page, which an empty path is.
            assert answer.status in (400, 404) or (prefix == "/" and path in ("", "?")), (path, answer.status)
    await system.end()


@pytest.mark.parametrize("guarded", [False, True])
async def test_data_comes_from_the_columns_alone(stored: Stored, tmp_path: Path, guarded: bool) -> None:
    (stored.root.parent / "secret.txt").write_text(SECRET)
    system = Guarded(tmp_path)
    data = build(load(stored.root.parent))
    app: Any = system.guarded(data, data_rules(system.settings)) if guarded else data
    span = f"start={DAY}&end={DAY + 86_400}"
    for text in hostile():
        for query in (
            f"symbol={text}&type=TRADES&{span}&columns=time",
            f"symbol=BTC-USD&exchange={text}&type=TRADES&{span}&columns=time",
            f"symbol=BTC-USD&type={text}&{span}&columns=time",
            f"symbol=BTC-USD&type=TRADES&{span}&columns={text}",
        ):
            answer = await ask(app, f"/api/data?{query}")
            assert not leaks(answer), query
            header, _, rows = answer.body.partition(b"\n")
            if answer.status == 200:
                # What is not there has no rows.
                assert all(column["num_records"] == 0 for column in json.loads(header)["columns"]), query
                assert rows == b""
            else:
                assert 400 <= answer.status <= 500, query
        assert (await ask(app, f"/api/{text}")).status in (400, 404)
    await system.end()


async def test_symbols_of_the_market_api_are_looked_up_and_never_opened(stored: Stored, tmp_path: Path) -> None:
    asked: list[Any] = []

    async def nothing(*about: Any) -> Any:
        asked.append(about)
        raise AssertionError("asked for what is not there")

    async def no_instruments() -> dict[str, list[str]]:
        return {}

    symbols = ColumnReader(stored.root).symbols
    series = BarSeries(nothing, nothing, nothing, Cache(load(tmp_path).cache, None))
    system = Guarded(tmp_path)
    app = MarketApp(
        [
            Resource(CHARTS, ("GET",), ChartsApp(series, symbols, no_instruments)),
            Resource(FEATURES, ("GET",), FeaturesApp(nothing, nothing, symbols)),
            Resource(AUTH, METHODS, AuthApp(nothing)),
        ]
    )
    for front in (app, system.guarded(app, api_rules(system.settings))):
        for text in hostile():
            for prefix in (CHARTS, FEATURES, AUTH, AUTH + "keys/", "/api/v1/"):
                for target in (prefix + text, f"{CHARTS}{text}?exchange={text}&timeframe={text}"):
                    answer = await ask(front, target)
                    assert not leaks(answer), target
                    assert 400 <= answer.status < 500, (target, answer.status)
    assert not asked
    await system.end()


def test_a_guard_is_before_every_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_apps import applications

    built: dict[str, Any] = {}

    def build_here(name: str, build: Callable[[], Any], *_more: Any, **_options: Any) -> None:
        built[name] = build()

    monkeypatch.setattr(applications, "_application", build_here)
    settings = load(tmp_path)
    applications.data_application(settings)
    applications.market_application(settings)
    applications.pages_application(settings)
    assert set(built) == {"DataApi", "MarketApi", "Pages"}
    # What only counts is before it.
    built = {name: app._app._app for name, app in built.items() if isinstance(app, Measured)}  # type: ignore[attr-defined]
    assert all(isinstance(app, Guard) for app in built.values())
    for name in ("MarketApi", "DataApi"):
        answer = asyncio.run(ask(built[name], "/api/v1/..%2fx" if name == "MarketApi" else "/api/..%2fx"))
        assert answer.status in (400, 404)
