"""What Ray and Serve have to find in the environment of every host of a cluster, as their workers inherit it, and a
command that runs another one in it:

    python -m cluster.ray_environment ray start --head ...
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Of every Ray that rayfeed runs on.
RAY: Final[Mapping[str, str]] = {
    # Workers are started with this interpreter, not with a rebuilt environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Those that may wait give way by themselves; by default all workers do, to Ray's own processes.
    "RAY_worker_niceness": "0",
}
#: Of a Serve that is ours, wherever it runs.
SERVE: Final[Mapping[str, str]] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_NBTHREAD": "2",
    # How often the controller looks at what there is: ten times a second take a twentieth of a processor.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    # Everything starts at once: on a busy machine its proxy takes longer than the five seconds after which Serve would
    # kill it.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    # Serve's proxy has so long to stop sending to a replica before it stops.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # By default a need for replicas is told every ten seconds.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "2",
}
#: Of a cluster of hosts. Whoever knows its token (`~/.ray/auth_token`, the same on all of them) may do anything there,
#: and nobody else anything.
CLUSTER: Final[Mapping[str, str]] = {
    **RAY,
    **SERVE,
    "RAY_AUTH_MODE": "token",
    # A host that says nothing is given up after 20 seconds; by default after more than a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "5",
    # What such a host ran is started there again when it answers.
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S": "5",
    # And one that does not reach the head for so long gives itself up: after `ray down`, or cut off.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}


def main(command: list[str]) -> None:
    """Become that command; Ray's own are found without a PATH."""
    if not command:
        sys.exit("usage: python -m cluster.ray_environment COMMAND ...")
    beside = Path(sys.executable).with_name(command[0])
    os.execvpe(beside if beside.exists() else command[0], command, {**os.environ, **CLUSTER})  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
