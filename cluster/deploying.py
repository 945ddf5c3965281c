"""Which applications of an instance Serve runs, told to Serve: for the first time, or anew with other code."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from ray import serve
from ray.serve.api import RunTarget
from ray.serve.schema import ApplicationStatus

from cluster.front_door import ELSEWHERE
from cluster.instance import InstanceError
from cluster.serving import OF_OTHERS
from config import Settings
from serve_apps import applications
from serve_apps.token import api_token

READY_TIMEOUT_S: Final = 60.0
#: Serve application -> the part of the site it answers.
APPLICATIONS: Final = {"data": "/api", "market": "/api/v1", "live": "/api/v1/stream", "pages": "/"}
#: Serve application of other hosts -> the one here.
_ELSEWHERE_OF: Final = {f"{name}{OF_OTHERS}": name for name in ELSEWHERE}
NAMES: Final = (*APPLICATIONS, *_ELSEWHERE_OF)


def deploy(settings: Settings, ports: Mapping[str, int], redis_url: str) -> None:
    """Tell Serve, on loopback, which applications to run. Those that run already are replaced, on this
    host successors first."""
    serve.start(http_options={"host": "127.0.0.1", "port": ports["serve"]})
    built = {
        "data": applications.data_application(settings, ports["data"]),
        "market": applications.market_application(settings, redis_url, ports["market"]),
        "live": applications.live_application(settings, ports["live"]),
        "pages": applications.pages_application(settings, redis_url, ports["pages"]),
    }
    targets = [RunTarget(target=built[name], name=name, route_prefix=prefix) for name, prefix in APPLICATIONS.items()]
    if settings.scaling.on_all_hosts:
        token = api_token(settings)
        made = {"data": applications.data_application, "live": applications.live_application}
        # Serve's own proxy leads to none of these: the front door knows their hosts.
        targets += [
            RunTarget(target=made[one](settings, ports[one], token), name=name, route_prefix=None)
            for name, one in _ELSEWHERE_OF.items()
        ]
    serve.run_many(
        targets,
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


async def replicas_run() -> None:
    """Wait until every application runs. InstanceError."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        known = (await asyncio.to_thread(serve.status)).applications
        mine = {name: known[name] for name in APPLICATIONS if name in known}
        if [application.status for application in mine.values()] == [ApplicationStatus.RUNNING] * len(APPLICATIONS):
            return
        for name, application in mine.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED or time.monotonic() > deadline:
                raise InstanceError(f"Serve application {name} is {application.status}: {application.message}")
        await asyncio.sleep(0.1)
