"""Charts, exports, symbols, health and the audit log over HTTP, with real storage underneath."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from serve_apps.audit import AUDIT
from serve_apps.export_links import EXPORTS, VALID_S, ExportLinksApp
from serve_apps.exports import lines
from serve_apps.market import MarketApp, Resource
from tests.serve_apps.asgi_client import ask
from tests.serve_apps.whole_api import FIRST, HELD, MINUTE, MINUTES, TOKEN, WholeApi

CHART = "/api/v1/charts/BTCUSDT?exchange=binance"
EXPORT = "/api/v1/export/BTCUSDT"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
MS = 1_000_000
#: Of all bars, in ms.
TIMES = [(FIRST + minute * MINUTE) // MS for minute in range(MINUTES)]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeApi]:
    running = WholeApi(tmp_path_factory.mktemp("api") / "data")
    yield running
    running.close()


@pytest.fixture
def without_database(api: WholeApi) -> Iterator[WholeApi]:
    api.away = True
    yield api
    api.away = False


def test_pages_of_a_chart_are_all_bars_without_a_seam(api: WholeApi) -> None:
    found: list[Any] = []
    before, pages = "", 0
    while True:
        chart = api.json(f"{CHART}&limit=70&indicators=sma_20,obv{before}")
        assert chart["complete"]
        assert all(len(said) == len(chart["bars"]) for said in chart["indicators"].values())
        found = [*zip(chart["bars"], *chart["indicators"].values(), strict=True), *found]
        pages += 1
        if chart["next_before"] is None:
            break
        before = f"&before={chart['next_before']}"
    assert [bar["time"] for bar, _, _ in found] == TIMES
    assert pages == 7
    assert all(
        bar["open"] == 100.0 + number % 7 and bar["trade_count"] == 2 for number, (bar, _, _) in enumerate(found)
    )
    closes = [bar["close"] for bar, _, _ in found]
    means = [None] * 19 + [sum(closes[end - 20 : end]) / 20 for end in range(20, MINUTES + 1)]
    said = [mean for _, mean, _ in found]
    closed = sum(bar["closed"] for bar, _, _ in found)
    assert said[:closed] == pytest.approx(means[:closed])
    assert all(obv is not None for _, _, obv in found[:closed])


def test_a_binary_chart_has_the_columns_of_the_json_one(api: WholeApi) -> None:
    query = f"{CHART}&limit=300&indicators=sma_200,rsi_14,vwap"
    said, answer = api.json(query), api.ask(f"{query}&format=binary")
    assert answer.headers["content-type"] == "application/octet-stream"
    head = json.loads(answer.body.partition(b"\n")[0])
    sizes = [entry["data_length"] for entry in answer.columns]
    assert sizes == [8 * 300] * len(sizes)
    ends = np.cumsum([0, *sizes])
    columns = {
        entry["name"]: np.frombuffer(answer.binary[begin:end], "<f8")
        for entry, begin, end in zip(answer.columns, ends, ends[1:], strict=False)
    }
    for name, column in columns.items():
        indicator = {"sma_200", "rsi_14", "vwap_200"} & {name}
        own = said["indicators"][name.removesuffix("_200") if name == "vwap_200" else name] if indicator else None
        own = own or [bar[name] for bar in said["bars"]]
        assert np.array_equal(column, np.array(own, float), equal_nan=True), name
    assert {"time", "close", "vwap", "sma_200", "rsi_14", "vwap_200"} < set(columns)
    assert (head["next_before"], head["complete"], head["symbol"]) == (said["next_before"], True, "BTCUSDT")
    assert "one exchange" in api.ask("/api/v1/charts/BTC-USDT?exchange=all&format=binary").json["detail"]


def test_while_the_database_is_away_a_chart_says_that_it_is_not_complete(without_database: WholeApi) -> None:
    chart = without_database.json(f"{CHART}&limit=5000&indicators=sma_20")
    assert (len(chart["bars"]), chart["complete"]) == (HELD, False)
    # Those that are older are where they were, and can be asked for once it answers.
    assert chart["next_before"] == chart["bars"][0]["time"]
    assert chart["bars"][-1]["time"] == TIMES[-1]
    assert without_database.json(f"{CHART}&limit=10")["complete"]
    answer = without_database.ask(f"{CHART}&before={TIMES[10]}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def test_a_chart_of_an_instrument_is_one_of_each_exchange(api: WholeApi) -> None:
    said = api.json("/api/v1/charts/BTC-USDT?exchange=all&limit=2")
    assert [(one["exchange"], one["symbol"], len(one["bars"])) for one in said["charts"]] == [
        ("binance", "BTCUSDT", 2),
        ("kraken", "BTC/USDT", 2),
    ]
    said = api.json("/api/v1/charts/BTC-USDT?exchange=kraken,binance&limit=1")
    assert [one["exchange"] for one in said["charts"]] == ["kraken", "binance"]
    assert api.ask("/api/v1/charts/BTC-USDT?exchange=kraken,nasdaq").status == 404


def test_a_file_of_each_kind_has_the_same_rows(api: WholeApi) -> None:
    query = f"?timeframe=1m&start={TIMES[100]}&end={TIMES[400]}&indicators=sma_20,vwap"
    answers = {kind: api.ask(f"{EXPORT}{query}&format={kind}") for kind in ("csv", "json", "parquet")}
    assert {answer.status for answer in answers.values()} == {200}
    rows = list(csv.DictReader(io.StringIO(answers["csv"].body.decode())))
    assert [int(row["time"]) for row in rows] == TIMES[100:400]
    data = json.loads(answers["json"].body)
    assert (data["count"], data["exchange"], data["timeframe"]) == (300, "binance", "1m")
    assert [row["time"] for row in data["data"]] == TIMES[100:400]
    table = pyarrow.parquet.read_table(io.BytesIO(answers["parquet"].body))
    assert [moment.timestamp() * 1000 for moment in table["time"].to_pylist()] == TIMES[100:400]
    for name in ("open", "close", "sma_20", "vwap_200"):
        assert [row[name] for row in data["data"]] == table[name].to_pylist() == [float(row[name]) for row in rows]
    for kind, answer in answers.items():
        assert answer.headers["content-disposition"].startswith('attachment; filename="BTCUSDT_2')
        assert answer.headers["content-disposition"].endswith(f'.{kind}"')


def test_a_file_has_the_newest_bars_of_its_range(api: WholeApi) -> None:
    data = json.loads(api.ask(f"{EXPORT}?timeframe=1m&format=json&limit=5&end={TIMES[50]}&indicators=").body)
    assert [row["time"] for row in data["data"]] == TIMES[45:50]
    assert "sma_20" not in data["data"][0]


@pytest.mark.parametrize("chunk", [100, 170, 1000])
def test_a_stream_has_every_bar_once_and_the_names_once(api: WholeApi, chunk: int) -> None:
    lines = api.ask(f"{EXPORT}/stream?timeframe=1m&chunk_size={chunk}&indicators=sma_20").body.decode().splitlines()
    assert lines[0].startswith("time,open,")
    assert [int(line.split(",")[0]) for line in lines[1:]] == TIMES
    answer = api.ask(f"{EXPORT}/stream?timeframe=1m&chunk_size={chunk}&format=json")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["time"] for line in answer.body.splitlines()] == TIMES


def test_nothing_of_other_answers_is_in_csv_when_a_part_has_no_rows() -> None:
    names = ["time", "open"]
    other = pa.table({"time": [10**15 + n for n in range(5000)], "open": [0.5] * 5000})
    lines("csv", other, True)
    few = pa.concat_tables([other.slice(0, 0), pa.table({"time": [7_000_000], "open": [1.5]})])
    assert lines("csv", few, True) == b"time,open\n7,1.5\n"
    assert few.column_names == names


def test_a_link_to_an_export_works_without_the_token_until_it_expires(api: WholeApi) -> None:
    asked = {"symbol": "BTC/USDT", "exchange": "kraken", "timeframe": "1m", "indicators": ""}
    body = json.dumps(asked).encode()
    assert api.ask(EXPORTS, "POST", body).status == 401
    said = api.ask(EXPORTS, "POST", body, AUTHORIZED)
    assert said.status == 201
    link = said.json["link"]
    file = api.ask(link)
    assert (file.status, file.body.count(b"\n")) == (200, 4)
    assert 'filename="BTC_USDT_' in file.headers["content-disposition"]
    for wrong in (link[:-1], link[:40] + "A" + link[41:], f"{EXPORTS}/AAAA", f"{EXPORTS}/%00"):
        assert api.ask(wrong).status == 404
    bad = json.dumps({**asked, "format": "xml"}).encode()
    assert "format must be one of" in api.ask(EXPORTS, "POST", bad, AUTHORIZED).json["detail"]


async def test_an_expired_link_says_so() -> None:
    class Files:
        def check(self, symbol: str, scope: Any) -> None: ...

    now = [1000.0]
    app = MarketApp([Resource(EXPORTS, ("GET", "POST"), ExportLinksApp(cast("Any", Files()), TOKEN, lambda: now[0]))])
    link = (await ask(app, EXPORTS, "POST", b'{"symbol":"A"}', AUTHORIZED)).json["link"]
    now[0] += VALID_S + 1
    answer = await ask(app, link)
    assert (answer.status, "24 hours" in answer.json["detail"]) == (404, True)


def test_an_export_that_cannot_be_whole_is_not_given(without_database: WholeApi) -> None:
    for path in (f"{EXPORT}?timeframe=1m&limit=5000", f"{EXPORT}/stream?timeframe=1m"):
        answer = without_database.ask(path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        (f"{EXPORT}?format=xml", 400, "format must be one of"),
        (f"{EXPORT}?limit=100001", 400, "limit must be"),
        (f"{EXPORT}?indicators=nope", 400, "no indicator 'nope'"),
        (f"{EXPORT}/stream?chunk_size=99", 400, "from 100 to 10000"),
        (f"{EXPORT}/stream?limit=9", 400, "no limit here"),
        (f"{EXPORT}?start=2030-01-01", 404, "No bars of 1h"),
        ("/api/v1/export/NOPE", 404, "No exchange has such a symbol"),
        ("/api/v1/charts/BTCUSDT?timeframe=tick:5&before=2026-01-01", 400, "older bars of 1s"),
        ("/api/v1/symbols?kinds=spot", 400, "no kinds here"),
        ("/api/v1/symbols/NOPE", 404, "No exchange has such a symbol"),
        ("/api/v1/health?x=1", 400, "no x here"),
        ("/api/v1/nothing", 404, "/api/v1/charts/{symbol}"),
    ],
)
def test_a_question_that_cannot_be_answered_says_what_is_wrong(
    api: WholeApi, target: str, status: int, says: str
) -> None:
    answer = api.ask(target)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json["detail"]


def test_symbols_say_what_they_are_and_whether_they_are_collected(api: WholeApi) -> None:
    said = api.json("/api/v1/symbols")["exchanges"]
    assert [row["symbol"] for row in said["binance"]] == ["BTCUSDT"]
    assert said["kraken"] == [
        {"symbol": "BTC/USDT", "instrument": "BTC-USDT", "kind": "spot", "base": "BTC", "quote": "USDT", "active": True}
        | {"collected": True, "state": "subscribed", "reason": "", "stored": True}
    ]
    listed = api.json("/api/v1/symbols?exchange=binance&listed=1&kind=spot")
    assert listed["count"] == 2
    assert [(row["symbol"], row["collected"]) for row in listed["exchanges"]["binance"]] == [
        ("BTCUSDT", True),
        ("ETHUSDT", False),
    ]
    one = api.json("/api/v1/symbols/BTC_USDT")
    assert (one["exchange"], one["symbol"], one["price_increment"], one["book"]) == (
        "kraken",
        "BTC/USDT",
        0.01,
        "synced",
    )


def test_health_names_its_parts_and_says_how_old_data_is(api: WholeApi) -> None:
    said = api.json("/api/v1/health")
    assert (said["status"], said["reasons"]) == ("healthy", [])
    assert said["components"]["database"]["available"] is True
    assert said["feeds"]["binance"]["state"] == "streaming"


def test_the_audit_log_is_read_page_by_page_with_the_token(api: WholeApi) -> None:
    assert api.ask(AUDIT).status == 401
    names, cursor = [], ""
    while True:
        said = api.ask(f"{AUDIT}?event=symbols_added&exchange=binance&limit=2{cursor}", headers=AUTHORIZED).json
        names += [(row["symbol"], row["details"]["number"]) for row in said["rows"]]
        if said["next_cursor"] is None:
            break
        cursor = f"&cursor={said['next_cursor']}"
    assert names == [(f"S{number}", number) for number in (4, 3, 2, 1, 0)]
    assert api.ask(f"{AUDIT}?symbol=S3", headers=AUTHORIZED).json["rows"][0]["details"] == {"number": 3}
    assert api.ask(f"{AUDIT}?cursor=AAAA", headers=AUTHORIZED).status == 400
    assert api.ask(f"{AUDIT}?severity=error", headers=AUTHORIZED).json == {"rows": [], "next_cursor": None}


def test_the_token_is_needed_to_change_something(api: WholeApi) -> None:
    body = json.dumps({"exchange": "binance", "symbols": ["ETHUSDT"]}).encode()
    assert api.ask("/api/v1/subscriptions", "POST", body).status == 401
    assert api.ask("/api/v1/subscriptions", "POST", body, AUTHORIZED).json == {"added": ["ETHUSDT"], "refused": {}}
    assert api.added == [("binance", ["ETHUSDT"])]
