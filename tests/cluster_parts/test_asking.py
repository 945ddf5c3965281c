"""A command whose instance stops while it asks ends too."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import asking
from cluster.instance import Details, Instance, InstanceError

Start = Callable[..., subprocess.Popen[str]]

DETAILS = Details("127.0.0.1", 1, 2)
#: A busy machine takes seconds to start Python.
TIMEOUT_S = 30.0
#: Waits in a call that knows nothing of the instance; says when, and when it has left it.
_WAITS = """
import sys, time
from pathlib import Path
from cluster.asking import ends_with
from cluster.instance import Instance
data = Path(sys.argv[1])
with ends_with(data, Instance.read(data), 0.2):
    print("waits", flush=True)
    if sys.argv[2] == "for ever":
        time.sleep(60)
    sys.stdin.readline()
print("has left", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    instance = Instance.claim(tmp_path / "data")
    instance.write(DETAILS)
    yield instance
    instance.release()


@pytest.fixture
def start() -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command, pipe = [sys.executable, *map(str, arguments)], subprocess.PIPE
        processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def waits(instance: Instance, start: Start) -> Start:
    def waits(how: str) -> subprocess.Popen[str]:
        process = start("-c", _WAITS, instance.data, how)
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        return process

    return waits


def assert_has_stopped(process: subprocess.Popen[str], data: Path) -> None:
    said, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, said, errors) == (1, "", f"rayfeed: the instance on {data} has stopped\n")


@pytest.mark.parametrize("after", ["nothing", "another one"])
def test_what_waits_for_an_instance_ends_with_it(instance: Instance, waits: Start, after: str) -> None:
    process = waits("for ever")
    instance.release()
    other = None
    if after == "another one":
        other = Instance.claim(instance.data)
        other.write(Details("127.0.0.1", 3, 4))
    try:
        assert_has_stopped(process, instance.data)
    finally:
        if other is not None:
            other.release()


def test_what_no_longer_waits_for_an_instance_goes_on_without_it(instance: Instance, waits: Start) -> None:
    process = waits("for a line")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "has left\n"
    instance.release()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert process.communicate("\n", timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize("command", [["symbols", "list"], ["status"]])
def test_a_command_that_looks_for_the_ray_of_an_instance_ends_with_it(
    instance: Instance, start: Start, command: list[str]
) -> None:
    # Ray asks the machine's address where it is told the loopback's.
    with socket.create_server(("", 0)) as ray:
        instance.write(Details("127.0.0.1", 1, 2, ray_address=f"127.0.0.1:{ray.getsockname()[1]}"))
        ray.settimeout(TIMEOUT_S)
        process = start("-m", "cluster.cli", *command, "--data", instance.data)
        connection, _ = ray.accept()
        with connection:
            instance.release()
            began = time.monotonic()
            assert_has_stopped(process, instance.data)
    assert time.monotonic() - began < asking.GRACE_S + 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionError("nobody there\nand more"), "does not answer: nobody there"),
        (RuntimeError(), "does not answer: RuntimeError()"),
        (ValueError("Failed to look up actor with name 'supervisor'. You are ..."), "has stopped"),
    ],
)
def test_what_ray_says_of_an_instance_that_cannot_be_reached_is_one_line(
    instance: Instance, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def refuse(_details: Details) -> None:
        raise error

    monkeypatch.setattr("cluster.ray_head.connect", refuse)
    with pytest.raises(InstanceError) as raised, asking.supervisor(instance.data):
        pass
    assert str(raised.value) == f"the instance on {instance.data} {reason}"
