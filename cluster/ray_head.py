"""Ray for one instance: started here with everything it writes kept apart from other instances, or joined where
`RAY_ADDRESS` points. What Ray and Serve read from the environment has to be there before Ray starts, because its
workers inherit it.
"""

import logging
import os
import secrets
import tempfile
import zlib
from pathlib import Path
from typing import Any

import ray
from ray._private.authentication.authentication_token_setup import (
    AuthenticationTokenLoader,
    maybe_enable_token_auth_if_token_available,
)

from actors.directory import NAMESPACE
from cluster.instance import Details, InstanceError, free_ports
from cluster.ray_environment import RAY, SERVE
from config import Settings

#: Serve's HAProxy takes socket paths of 97 characters and adds 73 to this folder (a node id, `/metrics.sock`).
LONGEST_FOLDER = 24
#: Logical: actors of rayfeed ask for none of it, so this only bounds what users' own tasks may take.
LEAST_CPUS = 2
QUIET: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
# Ray's remarks (so many workers were started, ...) are in its logs; printed too, they would stand on stdout between the
# lines and the JSON others read there.
ray._private.worker._worker_logs_enabled = False


def runtime_folder(data: Path) -> Path:
    """The instance's folder under the system's temporary one, for sockets and Ray's session; made private."""
    name = f"rf-{zlib.crc32(f'{os.getuid()}:{data.resolve()}'.encode()):08x}"
    folder = Path(tempfile.gettempdir()) / name
    if len(str(folder)) > LONGEST_FOLDER:
        folder = Path("/tmp") / name  # noqa: S108 - private by mode, and owned by us or refused below
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if folder.is_symlink() or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise InstanceError(f"{folder} is not a private folder of this user; remove it and start again")
    return folder


def is_joined(settings: Settings) -> bool:
    """Whether Ray runs without us and outlives us."""
    return settings.ray_address is not None


def session_folder(runtime: Path) -> Path:
    """What Ray keeps while it runs."""
    return runtime / "ray"


def token_file(settings: Settings) -> Path:
    """Ray asks every client for the token in this file; whoever can read it can operate the instance. Ours is in the
    data folder, that of a cluster where Ray looks for it by itself."""
    if is_joined(settings):
        return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return settings.data / "secrets" / "ray_token"


def prepare_environment(settings: Settings, runtime: Path) -> None:
    """Set what Ray and Serve read from the environment, for this process and all workers."""
    os.environ.update(RAY)
    # Or logs of workers grow without an end.
    os.environ["RAY_ROTATION_MAX_BYTES"] = str(settings.logs.file_bytes)
    os.environ["RAY_ROTATION_BACKUP_COUNT"] = str(settings.logs.old_files)
    if is_joined(settings):
        return
    token = token_file(settings)
    if not token.exists():
        token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
    haproxy = runtime / "s"
    haproxy.mkdir(exist_ok=True)
    metrics_port, stats_port, fallback_port = free_ports(3)
    os.environ.update(
        {
            "RAY_AUTH_TOKEN_PATH": str(token),
            **SERVE,
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics_port),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(stats_port),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback_port),
        }
    )


def start(settings: Settings, runtime: Path) -> dict[str, Any]:
    """Start Ray, or join it; gives its address and, where it is ours, the dashboard's. Takes seconds."""
    if is_joined(settings):
        try:
            context = ray.init(address=settings.ray_address, **QUIET)
        except ConnectionError as error:
            raise InstanceError(f"cannot join Ray at {settings.ray_address} (RAY_ADDRESS): {error}") from None
    else:
        (dashboard_port,) = free_ports(1)
        context = ray.init(
            address="local",
            num_cpus=max(LEAST_CPUS, os.cpu_count() or LEAST_CPUS),
            object_store_memory=settings.ray.object_store_mb * 1024 * 1024,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=dashboard_port,
            _temp_dir=str(session_folder(runtime)),
            **QUIET,
        )
    dashboard = context.dashboard_url
    return {"ray_address": context.address_info["gcs_address"], "dashboard": dashboard and f"http://{dashboard}"}


def connect(details: Details) -> None:
    """Attach this process to the Ray of a running instance."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    logging.getLogger("ray").setLevel(logging.ERROR)
    if details.ray_token_file is not None:
        os.environ["RAY_AUTH_TOKEN_PATH"] = details.ray_token_file
        # A process may have been attached to another instance before.
        AuthenticationTokenLoader.instance().reset_cache()
        # Ray reads its own mode once, when it is imported, and looks for a token by itself only where it also
        # looks for the cluster; with several on a machine it may find another one.
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    ray.init(address=details.ray_address, **QUIET)


def nodes() -> list[dict[str, Any]]:
    """The hosts of the Ray this process is attached to, those that have gone too: `address`, `alive`, and whether it is
    the `head`; the head first."""
    found = {
        node["NodeManagerAddress"]: {
            "address": node["NodeManagerAddress"],
            "alive": node["Alive"],
            "head": "node:__internal_head__" in node["Resources"],
        }
        # A host that came back is another node to Ray: what is alive counts.
        for node in sorted(ray.nodes(), key=lambda node: bool(node["Alive"]))
    }
    return sorted(found.values(), key=lambda node: (not node["head"], node["address"]))
