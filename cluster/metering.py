"""What `rayfeed up` knows and no actor does: how the front door fares, as its own exporter says, and the other
processes that it started here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import psutil
import ray
from prometheus_client.parser import text_string_to_metric_families

from actors.directory import METRICS, find_actor
from actors.metering.meters import Samples, snapshot
from cluster.child import Child
from cluster.edge_configuration import Edge, backend_names

TIMEOUT_S: Final = 5.0
_DOOR: Final = "door"
#: HAProxy's names of what users meet, and ours with further labels.
_FRONTEND: Final = {
    "haproxy_frontend_http_requests_total": ("edge_requests_total", ()),
    "haproxy_frontend_bytes_in_total": ("edge_bytes_total", ("in",)),
    "haproxy_frontend_bytes_out_total": ("edge_bytes_total", ("out",)),
    "haproxy_frontend_requests_denied_total": ("edge_denied_total", ()),
    "haproxy_frontend_current_sessions": ("edge_connections", ()),
    "haproxy_frontend_limit_sessions": ("edge_connections_limit", ()),
    "haproxy_frontend_http_cache_lookups_total": ("edge_cache_lookups_total", ()),
    "haproxy_frontend_http_cache_hits_total": ("edge_cache_hits_total", ()),
}
#: And of the servers behind it.
_BACKENDS: Final = {
    "haproxy_backend_active_servers": "edge_servers",
    "haproxy_backend_response_time_average_seconds": "edge_response_time_seconds",
    "haproxy_backend_connection_errors_total": "edge_server_errors_total",
    "haproxy_backend_response_errors_total": "edge_server_errors_total",
}
_RESPONSES: Final = "haproxy_frontend_http_responses_total"
_WANTED: Final = (_RESPONSES, *_FRONTEND, *_BACKENDS)


def of_edge(said: str, routes: Mapping[str, str]) -> Samples:
    """What HAProxy's exporter says, as our samples; `routes` are the parts of the site by the name of their servers."""
    found: Samples = {("rayfeed_edge_up", ()): 1.0}
    # It says hundreds of things more, and to read a line takes its time.
    wanted = "\n".join(line for line in said.splitlines() if line.startswith(_WANTED))
    for family in text_string_to_metric_families(wanted + "\n"):
        for name, labels, value, *_ in family.samples:
            proxy = labels.get("proxy", "")
            if name == _RESPONSES and proxy == _DOOR:
                found["rayfeed_edge_responses_total", (labels["code"],)] = value
            elif name in _FRONTEND and proxy == _DOOR:
                ours, more = _FRONTEND[name]
                found[f"rayfeed_{ours}", more] = value
            elif name in _BACKENDS and proxy in routes:
                key = f"rayfeed_{_BACKENDS[name]}", (routes[proxy],)
                before = found.get(key, 0.0)
                assert not isinstance(before, list)
                found[key] = before + value
    return found


def of_children(children: Iterable[tuple[str, Child]]) -> Samples:
    """Of child processes by name, with what they started themselves."""
    found: Samples = {}
    for name, child in children:
        own = (name,)
        found["rayfeed_child_restarts_total", own] = child.restarts
        with contextlib.suppress(psutil.Error):
            if child.pid is not None:
                main = psutil.Process(child.pid)
                every = [main, *main.children(recursive=True)]
                times = [one.cpu_times() for one in every]
                found["rayfeed_process_resident_memory_bytes", own] = sum(one.memory_info().rss for one in every)
                found["rayfeed_process_cpu_seconds_total", own] = sum(one.user + one.system for one in times)
                found["rayfeed_process_open_files", own] = sum(one.num_fds() for one in every)
                found["rayfeed_process_start_time_seconds", own] = main.create_time()
    return found


@contextlib.asynccontextmanager
async def telling(edge: Edge, children: Sequence[tuple[str, Child]], interval_s: float) -> AsyncIterator[None]:
    """Tell the actor that gathers metrics again and again, inside."""
    task = asyncio.create_task(_tell_for_ever(edge, children, interval_s), name="metrics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _tell_for_ever(edge: Edge, children: Sequence[tuple[str, Child]], interval_s: float) -> None:
    url = f"http://127.0.0.1:{edge.metrics_port}/metrics?scope=frontend&scope=backend"
    routes = backend_names(edge.routes)
    gatherer: Any = None
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        while True:
            samples = snapshot("rayfeed up") | of_children(children)
            samples["rayfeed_edge_up", ()] = 0.0
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async with session.get(url) as answer:
                    answer.raise_for_status()
                    samples |= of_edge(await answer.text(), routes)
            # Whoever gathers them may be away for a moment.
            with contextlib.suppress(TimeoutError, ValueError, ray.exceptions.RayError):
                # To find it waits for Ray, which may be away too.
                gatherer = gatherer or await asyncio.to_thread(find_actor, METRICS)
                await asyncio.wait_for(gatherer.report.remote("rayfeed up", samples), TIMEOUT_S)
            await asyncio.sleep(interval_s)
