"""What is said of each part of an instance to who watches from outside, from what the supervisor knows of it."""

from collections.abc import Mapping
from typing import Any


def components(said: Mapping[str, Mapping[str, Any]], now_ns: int) -> dict[str, dict[str, Any]]:
    """By actor name, of `Supervisor.status`: status (ok, failing or not answering), time (ns, when it answered last),
    and failure, state and lag_ms where it has them."""
    told = {}
    for name, one in said.items():
        failure = one.get("failure") or ""
        status = "not answering" if not one["answers"] else "failing" if failure else "ok"
        more = {key: one[key] for key in ("state", "lag_ms") if key in one}
        told[name] = {"status": status, "time": now_ns - int(one["age_s"] * 1e9), "failure": failure, **more}
    return told
