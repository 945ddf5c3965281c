"""What Serve says of the replicas, in a process that is attached to an instance."""

import queue
import threading
from typing import Any, Final

ANSWER_S: Final = 3.0


def replicas() -> dict[str, dict[str, Any]] | None:
    """By application its `status`, how many replicas `run`, and what it says (`message`); None when nobody answers in
    time: Serve itself would wait for its controller for ever."""
    said: queue.Queue[dict[str, dict[str, Any]] | None] = queue.Queue()
    threading.Thread(target=lambda: said.put(_asked()), daemon=True).start()
    try:
        return said.get(timeout=ANSWER_S)
    except queue.Empty:
        return None


def _asked() -> dict[str, dict[str, Any]] | None:
    from ray import serve

    try:
        applications = serve.status().applications
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
