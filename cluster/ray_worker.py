"""Starts Ray on a host that is not the head, and ends all of it when it has lost the head or was shut down. Ray leaves
processes behind then that nobody needs and nobody ends, as `ray down` stops nothing but the head itself.

    python -m cluster.ray_worker --address=HEAD:6380 ...

takes what `ray start` takes, and returns as that does.
"""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil

from cluster.ray_environment import CLUSTER

_RAYLET = "raylet"
_LOG_MONITOR = "ray/_private/log_monitor.py"
#: What is left gets so long to write down its last words.
_POLITE_S = 5.0


def main(arguments: list[str]) -> int:
    """The exit status of `ray start`; somebody watches over what it started."""
    before = {process.pid for process in psutil.process_iter()}
    start = [str(Path(sys.executable).with_name("ray")), "start", *arguments]
    failed = subprocess.run(start, env={**os.environ, **CLUSTER}, check=False).returncode  # noqa: S603
    if not failed:
        started = [str(one.pid) for one in psutil.process_iter() if one.pid not in before and _is_ray(one)]
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "cluster.ray_worker", "--watch", *started],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return failed


def watch(pids: list[int]) -> None:
    """When the raylet among them has ended, end the others, and what it had started."""
    family: dict[int, psutil.Process] = {}
    raylet: psutil.Process | None = None
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            family[pid] = psutil.Process(pid)
            if family[pid].name() == _RAYLET:
                raylet = family[pid]
    while raylet is not None and raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE:
        with contextlib.suppress(psutil.NoSuchProcess):
            family |= {child.pid: child for child in raylet.children(recursive=True)}
        with contextlib.suppress(psutil.TimeoutExpired):
            raylet.wait(1)
    for process in family.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(list(family.values()), _POLITE_S)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _is_ray(process: psutil.Process) -> bool:
    """What `ray start` leaves running; all else is below the raylet."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.name() == _RAYLET or any(part.endswith(_LOG_MONITOR) for part in process.cmdline())
    return False


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch([int(pid) for pid in sys.argv[2:]])
    else:
        sys.exit(main(sys.argv[1:]))
