"""Features over HTTP: realtime and batch, as JSON and as Arrow, and clear answers to bad questions."""

import numpy as np
import pyarrow as pa
import pytest

from actors.aggregation.features import features
from serve_apps.features import FEATURES, FeaturesApp
from serve_apps.market import MarketApp, Resource
from storage.feature_names import VERSIONS
from storage.schema import BARS
from tests.actors.aggregation.test_features import MONDAY, bars, quotes_of
from tests.serve_apps.asgi_client import ask, check_problem

PATH = f"{FEATURES}BTC%2FUSD"
BATCH = "mode=batch&start_time=2024-01-01T00:00&end_time=2024-01-01T00:10Z"
ROWS = features(
    pa.RecordBatch.from_pylist(bars(np.linspace(100, 110, 40), 2.0).to_dict("records"), schema=BARS),
    "1m",
    quotes_of([]),
)


@pytest.fixture
def app() -> MarketApp:
    async def newest(exchange: str, symbol: str, timeframe: str, limit: int) -> pa.RecordBatch:
        assert (exchange, symbol, timeframe) == ("kraken", "BTC/USD", "1m")
        return ROWS.slice(ROWS.num_rows - limit)

    async def between(exchange: str, symbol: str, timeframe: str, from_ns: int, before_ns: int) -> pa.RecordBatch:
        if timeframe == "1d":
            raise ValueError("that needs more than 7 trades to be read")
        times = np.asarray(ROWS.column("time"))
        return ROWS.filter(pa.array((times >= from_ns) & (times < before_ns)))

    symbols = {"kraken": ["BTC/USD", "BOTH"], "okx": ["BOTH"]}
    return MarketApp([Resource(FEATURES, ("GET", "HEAD"), FeaturesApp(newest, between, lambda: symbols))])


async def test_the_features_of_the_newest_bars(app: MarketApp) -> None:
    answer = await ask(app, PATH)
    assert answer.status == 200
    assert answer.json["version"] == "v2.0"
    (row,) = answer.json["features"]
    assert list(row) == ["time", *VERSIONS["v2.0"]]
    assert row["time"] == (MONDAY + 39 * 60 * 10**9) // 10**6
    assert row["sma_200"] is None
    assert row["rsi"] == pytest.approx(100.0)
    first = (await ask(app, f"{PATH}?limit=3&version=v1.0")).json["features"][0]
    assert list(first) == ["time", *VERSIONS["v1.0"]]


async def test_the_features_of_a_range_as_json_and_as_arrow(app: MarketApp) -> None:
    answer = await ask(app, f"{PATH}?exchange=kraken&{BATCH}")
    assert (answer.json["count"], answer.json["start"]) == (10, MONDAY // 10**6)
    arrow = await ask(app, f"{PATH}?format=arrow&{BATCH}")
    assert pa.ipc.open_stream(arrow.body).read_all() == pa.Table.from_batches([ROWS.slice(0, 10)])


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (f"{PATH}?timeframe=2m", 400, "timeframe must be one of: 1s, 1m, 5m, 15m, 1h, 4h, 1d."),
        (f"{PATH}?version=v3", 400, "version must be one of: v1.0, v2.0."),
        (f"{PATH}?mode=now", 400, "mode must be one of: realtime, batch."),
        (f"{PATH}?format=csv", 400, "format must be one of"),
        (f"{PATH}?limit=0", 400, "limit"),
        (f"{PATH}?limit=-1", 400, "limit"),
        (f"{PATH}?limt=5", 400, "There is no limt here"),
        (f"{PATH}?mode=batch", 400, "mode=batch needs start_time"),
        (f"{PATH}?mode=batch&start_time=2024-01-01&end_time=yesterday", 400, "end_time"),
        (f"{PATH}?mode=batch&start_time=2024-01-01&end_time=2023-01-01", 400, "before"),
        (f"{PATH}?mode=batch&start_time=0001-01-01&end_time=2023-01-01", 400, "2000 to 2099"),
        (f"{PATH}?mode=batch&start_time=2020-01-01&end_time=2023-01-01", 400, "shorter range"),
        (f"{PATH}?mode=batch&start_time=2024-01-01&end_time=2024-01-04T11:20:01", 400, "shorter range"),
        (f"{PATH}?mode=batch&start_time=2025-01-01T00:00:30&end_time=2025-01-04T11:21", 404, "No bar of 1m"),
        (f"{PATH}?timeframe=1d&{BATCH}", 422, "That needs more than 7 trades"),
        (f"{PATH}?mode=batch&start_time=2025-01-01&end_time=2025-01-02", 404, "No bar of 1m of BTC/USD"),
        (f"{FEATURES}NOPE", 404, "/api/symbols"),
        (f"{FEATURES}BOTH", 400, "exchange= one of: kraken, okx"),
        (f"{FEATURES}BOTH?exchange=binance", 404, "That exchange"),
    ],
)
async def test_a_bad_question_says_what_is_wrong(app: MarketApp, path: str, status: int, says: str) -> None:
    await check_problem(app, path, status, says)
