"""How Serve scales the replicas: each measures what it does, and one policy says how many that makes.

Serve itself counts only what goes through it. What a replica is asked on its own port (`serve_apps.fast_lane`), how
many WebSockets it holds, and how much of its one event loop is used, it says here.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import ray

from config.scaling_settings import DeploymentScaling, ScalingSettings
from serve_apps.asgi import Asgi, Message, Receive, Scope, Send

#: Hosts that may have replicas.
MOST_HOSTS: Final = 64
_HOSTS_FRESH_S: Final = 2.0

_STREAM_TYPE: Final = b"text/event-stream"


class Load:
    """What a replica does; `read` is asked now and then, by one."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.process_time
    ) -> None:
        self.ongoing = 0
        self.streams = 0
        self._clock = clock
        self._used = used
        self._last = (clock(), used())

    def read(self) -> dict[str, float]:
        """`ongoing` and `streams` now, `busy` (processor seconds a second) since it was last read."""
        last, self._last = self._last, (self._clock(), self._used())
        wall, used = self._last[0] - last[0], self._last[1] - last[1]
        return {"ongoing": self.ongoing, "streams": self.streams, "busy": used / wall if wall > 0 else 0.0}


class Measured:
    """`app` as it is, with its load."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self.load = Load()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            self.load.streams += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self.load.streams -= 1
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        load, streaming = self.load, False

        async def watched(message: Message) -> None:
            nonlocal streaming
            if message["type"] == "http.response.start" and not streaming and _is_stream(message):
                streaming = True
                load.ongoing -= 1
                load.streams += 1
            await send(message)

        load.ongoing += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            if streaming:
                load.streams -= 1
            else:
                load.ongoing -= 1


class Replica:
    """What Serve asks of a replica; `app`, which Serve's ingress adds, has a load."""

    app: Any

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve."""
        said: dict[str, float] = self.app.load.read()
        return said


class Policy:
    """How many replicas Serve is to have: enough to keep each below its targets. Made and asked by Serve, which sees
    to the bounds and delays."""

    def __init__(self, targets: Mapping[str, float]) -> None:
        self._targets = targets

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        said = context.aggregated_metrics or {}
        return wanted({name: said.get(name, {}).values() for name in self._targets}, self._targets), {}


class OnOtherHosts:
    """`each` replicas for every host but the one that is `here` (as Ray names its node). Asked by Serve, ten times a
    second."""

    def __init__(self, here: str, each: int) -> None:
        self._here = here
        self._each = each
        self._looked = -math.inf
        self._hosts = 0

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        if (now := time.monotonic()) - self._looked > _HOSTS_FRESH_S:
            self._hosts = sum(node["Alive"] and node["NodeID"] != self._here for node in ray.nodes())
            self._looked = now
        return self._hosts * self._each, {}


def wanted(said: Mapping[str, Iterable[float]], targets: Mapping[str, float]) -> int:
    """So many replicas as are needed for what each of them said, by the name of what is measured."""
    needed = [math.ceil(sum(said[name]) / target - 1e-9) for name, target in targets.items()]
    return max([1, *needed])


def replica_options(scaling: ScalingSettings, own: DeploymentScaling) -> dict[str, Any]:
    """The options of a deployment that say how many replicas it has, and how they begin and end."""
    # An update starts the successors first: with one replica nobody would answer for seconds.
    options: dict[str, Any] = {"graceful_shutdown_timeout_s": scaling.drain_s, "max_surge_percent": 100}
    targets = _targets(own)
    if own.max_replicas == own.min_replicas or not targets:
        return options | {"num_replicas": own.min_replicas}
    policy = {"policy_function": Policy, "policy_kwargs": {"targets": targets}}
    return options | _autoscaled(scaling, own.min_replicas, own.max_replicas, policy)


def replica_options_elsewhere(scaling: ScalingSettings, own: DeploymentScaling, here: str) -> dict[str, Any]:
    """The same for those on other hosts than `here`, however many there are: `min_replicas` on each. Serve cannot see
    to it that no host has two while another has none, unless that is all a host may have; so there is no place for a
    successor before a replica has ended, and others answer meanwhile."""
    each = own.min_replicas
    policy = {"policy_function": OnOtherHosts, "policy_kwargs": {"here": here, "each": each}}
    return {
        "graceful_shutdown_timeout_s": scaling.drain_s,
        "max_replicas_per_node": each,
        **_autoscaled(scaling, 0, each * MOST_HOSTS, policy),
    }


def _targets(own: DeploymentScaling) -> dict[str, float]:
    targets = (("ongoing", own.ongoing), ("busy", own.busy), ("streams", own.streams))
    return {name: target for name, target in targets if target is not None}


def _autoscaled(scaling: ScalingSettings, least: int, most: int, policy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "autoscaling_config": {
            "min_replicas": least,
            "max_replicas": most,
            "upscale_delay_s": scaling.up_after_s,
            "downscale_delay_s": scaling.down_after_s,
            "look_back_period_s": scaling.mean_over_s,
            "metrics_interval_s": scaling.mean_over_s / 5,
            "policy": policy,
        }
    }


def _is_stream(start: Message) -> bool:
    return any(name == b"content-type" and value.startswith(_STREAM_TYPE) for name, value in start["headers"])
