"""Who reads the metrics over HTTP, and what replicas count of requests."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.metering.meters import Samples
from serve_apps.asgi import Asgi, Receive, Scope, Send, send_whole
from serve_apps.guard import page_rules
from serve_apps.metering import OTHER, Metered, matcher, templates
from serve_apps.metrics import MetricsRoute
from serve_apps.shared_answer import NoAnswer
from tests.polling import until
from tests.serve_apps.asgi_client import ask
from tests.serve_apps.guarded import TOKEN, Guarded

TEXT = b"# HELP rayfeed_build_info 1.\n"
FAR = {"x-forwarded-for": "203.0.113.9"}
NEAR = {"x-forwarded-for": "127.0.0.1"}


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    await send_whole(send, int(scope["query_string"] or 200), [], b"four")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    one = await Guarded(tmp_path).begin()
    yield one
    await one.end()


def behind_guard(guarded: Guarded, app: Asgi = other) -> Asgi:
    async def metrics() -> bytes:
        return TEXT

    route = MetricsRoute(app, metrics, guarded.settings.metrics.networks)
    return guarded.guarded(route, page_rules(guarded.settings))


async def test_who_asks_from_this_machine_reads_metrics_as_prometheus_does(guarded: Guarded) -> None:
    answer = await ask(behind_guard(guarded), "/metrics", headers=NEAR)
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["cache-control"] == "no-store"


async def test_who_asks_from_elsewhere_needs_a_token_of_any_role(guarded: Guarded) -> None:
    app = behind_guard(guarded)
    refused = await ask(app, "/metrics", headers=FAR)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert b"metrics.networks" in refused.body and TEXT not in refused.body
    for token, status in ((TOKEN, 200), (TOKEN + "x", 401)):
        assert (await ask(app, "/metrics", headers={**FAR, "Authorization": f"Bearer {token}"})).status == status
    tokens = await guarded.sign_in("rita")
    answer = await ask(app, "/metrics", headers={**FAR, "Authorization": f"Bearer {tokens['access_token']}"})
    assert answer.status == 200


async def test_nobody_forges_where_a_request_comes_from(guarded: Guarded) -> None:
    # What the edge itself has seen is last.
    headers = {"x-forwarded-for": "127.0.0.1, 203.0.113.9"}
    assert (await ask(behind_guard(guarded), "/metrics", headers=headers)).status == 401


@pytest.mark.parametrize(
    ("networks", "client", "status"),
    [
        (["203.0.113.0/24"], "203.0.113.9", 200),
        (["203.0.113.0/24"], "127.0.0.1", 401),
        ([], "127.0.0.1", 401),
        (["2001:db8::/32"], "2001:db8:1:2::3", 200),
        (["0.0.0.0/0"], "2001:db8:1:2::3", 401),
        (["0.0.0.0/0"], "nobody", 401),
    ],
)
async def test_networks_of_the_settings_read_without_a_token(networks: list[str], client: str, status: int) -> None:
    async def metrics() -> bytes:
        return TEXT

    app = MetricsRoute(other, metrics, [ip_network(one) for one in networks])
    assert (await ask(app, "/metrics", headers={"x-forwarded-for": client})).status == status


async def test_metrics_are_only_read_and_come_again_when_nobody_knows_them() -> None:
    async def away() -> bytes:
        raise NoAnswer("later")

    app = MetricsRoute(other, away, [ip_network("127.0.0.0/8")])
    assert (await ask(app, "/metrics", "POST", headers=NEAR)).status == 405
    answer = await ask(app, "/metrics", headers=NEAR)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await ask(app, "/elsewhere", headers=NEAR)).body == b"four"


async def nobody(source: str, samples: Samples) -> None:
    pass


def counted(metered: Metered, name: str, *labels: str) -> Any:
    from actors.metering.meters import snapshot

    return snapshot("test").get((name, labels), 0)


async def test_requests_are_counted_under_the_template_of_their_path() -> None:
    metered = Metered(other, "one", 1, nobody)
    for target in (
        "/api/v1/trades/BTCUSDT",
        "/api/v1/trades/ETH%2FUSD?404",
        "/api/v1/trades/X?503",
        "/no/such/../path",
    ):
        await ask(metered, target)
    await ask(metered, "/api/data", "BREW")
    count = "rayfeed_http_requests_total"
    assert [counted(metered, count, "one", "GET", "/api/v1/trades/{symbol}", f"{n}xx") for n in (2, 4, 5)] == [1, 0, 1]
    # Its path, as it is after decoding, has one segment more.
    assert counted(metered, count, "one", "GET", OTHER, "4xx") == 1
    assert counted(metered, count, "one", "GET", OTHER, "2xx") == 1
    assert counted(metered, count, "one", OTHER, "/api/data", "2xx") == 1
    assert counted(metered, "rayfeed_http_response_bytes_total", "one") == 20
    durations = counted(metered, "rayfeed_http_request_duration_seconds", "one", "/api/v1/trades/{symbol}")
    assert sum(durations[:-1]) == 2


async def test_what_fails_is_counted_as_an_error_and_what_goes_on_as_ongoing() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        assert counted(metered, "rayfeed_http_requests_ongoing", "failing") == 1
        raise RuntimeError("no")

    metered = Metered(fails, "failing", 1, nobody)
    with pytest.raises(RuntimeError):
        await ask(metered, "/")
    assert counted(metered, "rayfeed_http_requests_total", "failing", "GET", "/", "5xx") == 1
    assert counted(metered, "rayfeed_http_requests_ongoing", "failing") == 0


async def test_answers_made_at_once_are_counted_too() -> None:
    metered = Metered(other, "quick", 1, nobody)
    at_once = metered.at_once(lambda query: (b"", b"12345") if query == b"good" else None)
    assert at_once(b"good") == (b"", b"12345") and at_once(b"bad") is None
    assert counted(metered, "rayfeed_http_requests_total", "quick", "GET", "/api/data", "2xx") == 1
    assert counted(metered, "rayfeed_http_response_bytes_total", "quick") == 5


async def test_a_replica_tells_while_it_lives() -> None:
    told: list[tuple[str, Samples]] = []

    async def tell(source: str, samples: Samples) -> None:
        told.append((source, samples))
        if len(told) == 1:
            raise TimeoutError  # whoever gathers them was away

    steps = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Any:
        if len(steps) == 1:
            await until(lambda: len(told) >= 2)
        return {"type": steps.pop(0)}

    async def send(message: Any) -> None:
        pass

    from serve_apps.asgi import serve_lifespan

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_lifespan(receive, send)

    await Metered(app, "living", 0.01, tell)({"type": "lifespan"}, receive, send)
    assert len({source for source, _ in told}) == 1
    assert told[-1][1]["rayfeed_replicas", ("living",)] == 1
    assert "rayfeed_process_cpu_seconds_total" in {name for name, _ in told[-1][1]}


template = matcher(templates())


@given(st.text(max_size=100))
def test_there_are_no_more_routes_than_there_are_templates(path: str) -> None:
    assert template("/" + path) in {*templates(), OTHER}


def test_fixed_paths_go_before_those_with_segments() -> None:
    assert template("/api/v1/alerts/deliveries") == "/api/v1/alerts/deliveries"
    assert template("/api/v1/alerts/1") == "/api/v1/alerts/{alert_id}"
    assert template("/crypto_report/7/frame") == "/crypto_report/{id}/frame"
