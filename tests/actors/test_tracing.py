"""Spans of batches and requests, as a collector of OpenTelemetry gets them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from actors import tracing as ours
from actors.ledger.origin import Origin
from actors.tracing import Tracing
from config import SettingsError
from config.tracing_settings import TracingSettings
from serve_apps.asgi import Receive, Scope, Send, send_whole
from serve_apps.metering import Metered
from tests.serve_apps.asgi_client import ask
from tests.span_receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_collector_and_shard_tell_of_the_same_batches_in_one_trace_each(receiver: Receiver) -> None:
    collector, shard = (Tracing(name, receiver.settings(0.25)) for name in ("collector:okx", "shard:1"))
    for sequence in range(200):
        origin = Origin(7, sequence, "ids")
        collector.delivered("okx", 1, origin, 1000, 3000, 2)
        shard.stored("okx", 1, Origin(7, sequence, "ids"), 1500, 2500)
    collector.close()
    shard.close()
    delivered, stored = ([one for one in receiver.spans if one.name == name] for name in ("deliver", "store"))
    assert 20 < len(delivered) == len(stored) < 90
    parents = {one.trace_id: one for one in delivered}
    assert len(parents) == len(delivered)
    for one in stored:
        parent = parents[one.trace_id]
        assert (one.parent_span_id, parent.parent_span_id) == (parent.span_id, b"")
        assert one.span_id != parent.span_id
        assert (one.start_time_unix_nano, one.end_time_unix_nano) == (1500, 2500)
    assert {item.key: item.value.int_value for item in delivered[0].attributes if item.key == "batches"} == {
        "batches": 2
    }


async def test_requests_are_told_where_they_were_asked_for_or_drawn(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_whole(send, 404, [], b"")

    async def nobody(*_: object) -> None:
        pass

    spans = Tracing("market", receiver.settings(1e-9))
    monkeypatch.setattr(ours, "_ours", spans)
    metered = Metered(app, "traced", 1, nobody)
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    for header in (f"00-{trace}-{span}-01", f"00-{trace}-{span}-00", "nonsense", ""):
        await ask(metered, "/api/v1/trades/BTCUSDT", headers={"traceparent": header})
    spans.close()
    (told,) = receiver.spans
    assert (told.name, told.trace_id.hex(), told.parent_span_id.hex()) == ("GET /api/v1/trades/{symbol}", trace, span)
    assert {item.key: item.value.int_value for item in told.attributes}["http.response.status_code"] == 404


def test_who_wants_spans_without_the_extra_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces")
    ours.check(wanted)
    # As it is without that package.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter.otlp.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SettingsError, match="uv sync --extra tracing"):
        ours.check(wanted)
    ours.check(TracingSettings())


def test_without_an_endpoint_nothing_of_it_is_loaded() -> None:
    program = """
import sys
from actors import tracing
from config.tracing_settings import TracingSettings
import actors.delivery
tracing.begin("one", TracingSettings())
assert tracing.tracing() is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]", ran.stderr
