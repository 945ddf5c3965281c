"""What Serve says of the replicas, in a process that is attached to an instance."""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

ANSWER_S: Final = 3.0
#: Ends the names of applications that other hosts have.
OF_OTHERS: Final = "-elsewhere"


def works(name: str, application: Mapping[str, Any]) -> bool:
    """Whether an application that `replicas` tells of is as it should be. Of other hosts there may be none."""
    return application["status"] == "RUNNING" and (application["run"] > 0 or name.endswith(OF_OTHERS))


def replicas() -> dict[str, dict[str, Any]] | None:
    """By application its `status`, how many replicas `run`, and what it says (`message`); None when nobody answers in
    time: Serve itself would wait for its controller for ever."""
    # Takes seconds where processors are busy, and says nothing about the controller.
    from ray import serve

    said: queue.Queue[dict[str, dict[str, Any]] | None] = queue.Queue()
    threading.Thread(target=lambda: said.put(_asked(serve.status)), daemon=True).start()
    try:
        return said.get(timeout=ANSWER_S)
    except queue.Empty:
        return None


def _asked(status: Callable[[], Any]) -> dict[str, dict[str, Any]] | None:
    try:
        applications = status().applications
    except Exception:  # noqa: BLE001 - whatever Ray says of a controller that is not there
        return None
    return {
        name: {
            "status": str(one.status.value),
            "run": sum(deployment.replica_states.get("RUNNING", 0) for deployment in one.deployments.values()),
            "message": one.message,
        }
        for name, one in applications.items()
    }
