"""Ray Serve as it comes, without its HAProxy, answering a small JSON: `python -m benchmarks.stock_serve_peer PORT`.

Says `ready` when it answers and ends with its standard input.
"""

import sys

import ray
from ray import serve


# With its default of five requests at a time it answers seven times fewer: its router tries and waits.
@serve.deployment(
    ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000, logging_config={"enable_access_log": False}
)
class Health:
    async def __call__(self) -> dict[str, str]:
        return {"status": "ok"}


def main(port: int) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[2])
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Health.bind(), route_prefix="/")  # type: ignore[attr-defined]
    print("ready", flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
