"""What the front door's own exporter says, in our names."""

from cluster.edge_configuration import backend_names
from cluster.metering import of_children, of_edge
from tests.cluster_parts.doors import Backend, Open
from tests.polling import until


async def test_the_front_doors_own_numbers_become_ours(open_door: Open) -> None:
    door = await open_door(("/api", Backend("api")), ("/api/v1", Backend("market")))
    for path, count in (("/", 3), ("/api/data", 2), ("/api/v1/symbols", 1), ("/-/hidden", 1)):
        for _ in range(count):
            await door.status(path)

    async def asked() -> dict[tuple[str, tuple[str, ...]], float | list[float]]:
        url = f"http://127.0.0.1:{door.edge.metrics_port}/metrics?scope=frontend&scope=backend"
        async with door.client.get(url) as answer:
            return of_edge(await answer.text(), backend_names(door.edge.routes))

    async def all_up() -> bool:
        found = await asked()
        return all(found["rayfeed_edge_servers", (route,)] == 1 for route in ("/", "/api", "/api/v1"))

    await until(all_up)
    found = await asked()
    requests = found["rayfeed_edge_requests_total", ()]
    assert not isinstance(requests, list) and requests >= 7
    responses = [found["rayfeed_edge_responses_total", (code,)] for code in ("2xx", "4xx")]
    assert responses == [requests - 1, 1]
    assert found["rayfeed_edge_up", ()] == 1
    for name in ("bytes_total", "connections", "connections_limit", "cache_lookups_total", "cache_hits_total"):
        assert any(known == f"rayfeed_edge_{name}" for known, _ in found), name
    assert found["rayfeed_edge_server_errors_total", ("/",)] == 0


async def test_a_child_process_is_measured_with_what_it_started(open_door: Open) -> None:
    door = await open_door()
    found = of_children([("edge", door.child)])
    memory = found["rayfeed_process_resident_memory_bytes", ("edge",)]
    assert isinstance(memory, float | int) and memory > 5_000_000
    assert found["rayfeed_child_restarts_total", ("edge",)] == 0
    await door.child.stop()
    assert list(of_children([("edge", door.child)])) == [("rayfeed_child_restarts_total", ("edge",))]
