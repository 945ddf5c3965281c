"""What ends when Ray has ended: rayfeed with its cluster, and all of a host with its raylet."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import ray_environment, up
from cluster.instance import Details
from tests.polling import gone, wait_until


def _details(port: int) -> Details:
    return Details(host="127.0.0.1", port=8080, tls_port=8443, ray_address=f"127.0.0.1:{port}")


async def test_an_instance_notices_that_nobody_listens_for_its_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "RAY_LOOK_S", 0.05)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    looking = asyncio.create_task(up._ray_ends(_details(port), asyncio.Event()))
    await asyncio.sleep(0.5)
    assert not looking.done()
    server.close()
    assert await asyncio.wait_for(looking, 10)


async def test_an_instance_that_is_to_stop_does_not_wait_for_its_ray() -> None:
    stop = asyncio.Event()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        looking = asyncio.create_task(up._ray_ends(_details(listener.getsockname()[1]), stop))
        await asyncio.sleep(0)
        stop.set()
        assert not await asyncio.wait_for(looking, 10)


def test_what_a_raylet_had_beside_it_and_below_it_ends_with_it(tmp_path: Path) -> None:
    """A shell in the place of the raylet: what counts is its name."""
    shell = tmp_path / "raylet"
    shutil.copy("/bin/sh", shell)
    raylet = subprocess.Popen([shell, "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    beside = subprocess.Popen(["sleep", "1000"])
    watch = [sys.executable, "-m", "cluster.ray_worker", "--watch", str(raylet.pid), str(beside.pid)]
    with subprocess.Popen(watch, cwd=Path(__file__).parents[2]) as watching:
        assert raylet.stdout is not None
        below = int(raylet.stdout.readline())
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                watching.wait(3)
            assert not gone(beside.pid) and not gone(below)
            raylet.send_signal(signal.SIGKILL)
            raylet.wait()
            assert watching.wait(20) == 0
            wait_until(lambda: gone(beside.pid) and gone(below))
        finally:
            for process in (raylet, beside, watching):
                process.kill()
            beside.wait()
            raylet.stdout.close()
            if not gone(below):
                os.kill(below, signal.SIGKILL)


def test_a_command_runs_in_the_environment_of_a_cluster() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "cluster.ray_environment", "env"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in ray_environment.CLUSTER.items()} <= set(said)
    assert "RAY_AUTH_TOKEN" not in {line.partition("=")[0] for line in said}
