import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from ray._raylet import async_task_id  # type: ignore[attr-defined]
from ray.serve.config import AutoscalingConfig

from config.scaling_settings import DeploymentScaling, ScalingSettings
from serve_apps.asgi import Receive, Scope, Send, send_whole
from serve_apps.fast_lane import ThroughServe
from serve_apps.scaling import Load, Measured, OnOtherHosts, Policy, replica_options, replica_options_elsewhere, wanted


@pytest.mark.parametrize(
    ("said", "targets", "expected"),
    [
        ({"busy": []}, {"busy": 0.7}, 1),
        ({"busy": [0.1]}, {"busy": 0.7}, 1),
        ({"busy": [0.7]}, {"busy": 0.7}, 1),
        ({"busy": [0.9]}, {"busy": 0.7}, 2),
        ({"busy": [0.9, 0.9, 0.1]}, {"busy": 0.7}, 3),
        ({"busy": [0.1], "streams": [4500.0]}, {"busy": 0.7, "streams": 2000}, 3),
        ({"busy": [0.9], "streams": [10.0]}, {"busy": 0.7, "streams": 2000}, 2),
    ],
)
def test_each_replica_is_kept_below_every_target(
    said: Mapping[str, list[float]], targets: Mapping[str, float], expected: int
) -> None:
    assert wanted(said, targets) == expected


@given(st.lists(st.floats(0, 1), min_size=1), st.floats(0.01, 1))
def test_so_many_suffice_and_one_less_would_not(busy: list[float], target: float) -> None:
    count = wanted({"busy": busy}, {"busy": target})
    assert sum(busy) / count <= target * (1 + 1e-6)
    assert count == 1 or sum(busy) / (count - 1) > target * (1 - 1e-6)


def test_the_policy_reads_what_serve_gathers() -> None:
    context = SimpleNamespace(aggregated_metrics={"busy": {"one": 0.9, "two": 0.9}, "running_requests": {"one": 5.0}})
    assert Policy({"busy": 0.7, "streams": 10})(context) == (3, {})
    assert Policy({"busy": 0.7})(SimpleNamespace(aggregated_metrics={})) == (1, {})


@pytest.mark.parametrize("others", [0, 1, 3])
def test_every_other_host_has_as_many_as_are_said(monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    gone = {"Alive": False, "NodeID": "gone"}
    nodes = [{"Alive": True, "NodeID": name} for name in ("here", "a", "b", "c")[: others + 1]]
    monkeypatch.setattr("serve_apps.scaling.ray.nodes", lambda: [gone, *nodes])
    assert OnOtherHosts("here", each=2)(SimpleNamespace()) == (2 * others, {})


def test_no_host_has_more_so_that_none_has_less() -> None:
    settings = ScalingSettings()
    options = replica_options_elsewhere(settings, DeploymentScaling(min_replicas=2, max_replicas=4), "here")
    assert options["max_replicas_per_node"] == 2
    assert "max_surge_percent" not in options, "a successor would wait for ever for the place of who waits for it"


async def test_requests_streams_and_websockets_are_counted_while_they_last() -> None:
    go, seen = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/stream":
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen.set()
        await go.wait()
        if scope.get("path") == "/breaks":
            raise ConnectionError
        if scope["type"] == "http" and scope["path"] == "/":
            await send_whole(send, 200, (), b"")

    measured = Measured(app)

    async def nothing(*_: Any) -> Any:
        return {}

    expected = {
        "/": (1, 0),
        "/breaks": (1, 0),
        "/stream": (0, 1),
    }
    for path, counts in expected.items():
        go.clear()
        seen.clear()
        task = asyncio.create_task(measured({"type": "http", "path": path}, nothing, nothing))
        await seen.wait()
        assert (measured.load.ongoing, measured.load.streams) == counts
        go.set()
        await asyncio.wait([task])
        assert (task.exception() is None) == (path != "/breaks")
        assert (measured.load.ongoing, measured.load.streams) == (0, 0)
    go.clear()
    task = asyncio.create_task(measured({"type": "websocket"}, nothing, nothing))
    await asyncio.sleep(0)
    assert measured.load.streams == 1
    task.cancel()
    await asyncio.wait([task])
    assert measured.load.streams == 0


async def test_what_a_request_asks_of_actors_does_not_end_with_it() -> None:
    """What Ray finds there is the task that a call belongs to, and is cancelled with."""
    asked, ended = asyncio.Event(), asyncio.Event()
    belongs_to: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        belongs_to.append(async_task_id.get())
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def nothing(*_: Any) -> Any:
        return {}

    replica = ThroughServe(Measured(app))
    async_task_id.set("the task in which Serve passes the request on")
    request = asyncio.create_task(replica({"type": "http", "path": "/"}, nothing, nothing))
    await asked.wait()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled() and ended.is_set() and not replica.load.ongoing
    assert belongs_to == [None]


def test_busy_is_the_part_of_the_time_since_it_was_asked_last() -> None:
    times = iter([0.0, 10.0, 20.0, 20.0])
    used = iter([1.0, 6.0, 7.0, 7.0])
    load = Load(lambda: next(times), lambda: next(used))
    assert [load.read()["busy"] for _ in range(3)] == [0.5, 0.1, 0.0]


def test_serve_takes_the_options() -> None:
    settings = ScalingSettings()
    options = replica_options(settings, settings.data)
    config = AutoscalingConfig(**options["autoscaling_config"])
    assert (config.min_replicas, config.max_replicas) == (1, 2)
    assert replica_options(settings, DeploymentScaling(min_replicas=3, max_replicas=3))["num_replicas"] == 3


def test_less_at_most_than_at_least_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_replicas is less"):
        DeploymentScaling(min_replicas=3)
