import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.instance import (
    Details,
    Instance,
    InstanceError,
    RunningInstance,
    check_port_free,
    free_ports,
    stop_running,
)

DETAILS = Details(host="127.0.0.1", port=18080, tls_port=18443, redis_url="redis://127.0.0.1:1")

HOLDER = """
import signal, sys
from pathlib import Path
from cluster.instance import Details, Instance
instance = Instance.claim(Path(sys.argv[1]))
if "starting" not in sys.argv:
    instance.write(Details(host="127.0.0.1", port=18080, tls_port=18443))
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: (instance.release(), sys.exit(0)))
print("claimed", flush=True)
while True:
    signal.pause()
"""

Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that claims a data folder."""
    started: list[subprocess.Popen[str]] = []

    def start(data: Path, *how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(data), *how], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_claim_creates_the_folder_and_others_read_it(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    instance = Instance.claim(data)
    try:
        starting = Instance.read(data)
        assert starting is not None
        assert (starting.pid, starting.details) == (os.getpid(), None)
        instance.write(DETAILS)
        assert Instance.read(data) == RunningInstance(starting.pid, starting.process_started, starting.version, DETAILS)
        assert (data / "instance.json").stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in data.iterdir()) == ["instance.json", "instance.lock"]
    finally:
        instance.release()
    instance.release()
    assert Instance.read(data) is None
    assert not (data / "instance.json").exists()
    Instance.claim(data).release()


def test_a_second_claim_is_refused_and_says_who_and_how_to_stop_it(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    with pytest.raises(InstanceError) as caught:
        Instance.claim(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is already in use by rayfeed pid {process.pid} at http://127.0.0.1:18080; "
        f"stop it with: rayfeed down --data {tmp_path}"
    )
    assert process.poll() is None


def test_a_second_claim_is_refused_while_the_first_still_starts(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path, "starting")
    with pytest.raises(InstanceError, match=rf"rayfeed pid {process.pid} \(still starting\)"):
        Instance.claim(tmp_path)


def test_what_a_killed_process_left_is_no_running_instance(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    process.kill()
    process.wait()
    assert (tmp_path / "instance.json").exists()
    assert Instance.read(tmp_path) is None
    assert stop_running(tmp_path, 1) is None
    instance = Instance.claim(tmp_path)
    now = Instance.read(tmp_path)
    assert now is not None
    assert (now.pid, now.details) == (os.getpid(), None)
    instance.release()


def test_nothing_runs_on_a_folder_that_is_absent_or_empty(tmp_path: Path) -> None:
    assert Instance.read(tmp_path) is None
    assert Instance.read(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []


def test_stopping_ends_the_process_and_waits_until_the_folder_is_free(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    stopped = stop_running(tmp_path, 5)
    assert stopped is not None
    assert stopped.pid == process.pid
    assert process.wait(5) == 0
    assert Instance.read(tmp_path) is None


def test_a_process_that_does_not_stop_is_named(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path, "stubborn")
    with pytest.raises(InstanceError, match=rf"rayfeed pid {process.pid} .* did not stop within 0.2 s"):
        stop_running(tmp_path, 0.2)


def test_a_process_that_only_has_the_recorded_pid_is_never_signalled(tmp_path: Path, hold: Hold) -> None:
    hold(tmp_path)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        file = tmp_path / "instance.json"
        running = Instance.read(tmp_path)
        assert running is not None
        file.write_text(file.read_text().replace(str(running.pid), str(stranger.pid)))
        with pytest.raises(InstanceError, match="does not say which it is"):
            stop_running(tmp_path, 0.2)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_reader_does_not_disturb_a_claim(tmp_path: Path) -> None:
    Instance.claim(tmp_path).release()
    reader = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; from cluster.instance import Instance\n"
            "print('reads', flush=True)\nwhile True: Instance.read(Path(sys.argv[1]))",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert reader.stdout is not None
        reader.stdout.readline()
        for _ in range(50):
            Instance.claim(tmp_path).release()
    finally:
        reader.kill()
        reader.communicate()


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for data in (file, file / "below"):
        with pytest.raises(InstanceError, match="is a file, or lies below one"):
            Instance.claim(data)
    # Not even root may create anything there.
    for data in (Path("/proc/1"), Path("/proc/rayfeed")):
        with pytest.raises(InstanceError, match=r"is not writable|cannot be created"):
            Instance.claim(data)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_without_write_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InstanceError, match="is not writable: Permission denied"):
        Instance.claim(tmp_path)


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        check_port_free("127.0.0.1", port, "tests", "--port")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "*"])
def test_a_taken_port_says_what_for_by_whom_and_what_to_change(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InstanceError) as caught:
            check_port_free(host, port, "HTTPS", "--tls-port")
    said = str(caught.value)
    assert said.startswith(f"port {port} for HTTPS is taken by ")
    assert said.endswith(f" (pid {os.getpid()}); choose another with --tls-port")
    check_port_free(host, port, "HTTPS", "--tls-port")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host.invalid"])
def test_a_host_that_is_not_ours_is_one_line(host: str) -> None:
    with pytest.raises(InstanceError, match="is no address of this machine; change the setting host"):
        check_port_free(host, free_ports(1)[0], "HTTP", "--port")


def test_a_port_its_server_just_left_counts_as_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        connection, _ = server.accept()
        connection.close()
    client.close()
    check_port_free("127.0.0.1", port, "HTTP", "--port")


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:1"), ("::1", "http://[::1]:1"), ("10.0.0.1", "http://10.0.0.1:1")],
)
def test_the_url_is_one_that_works_from_here(host: str, url: str) -> None:
    assert Details(host=host, port=1, tls_port=2).url == url


def test_a_stop_returns_soon_after_the_process_is_gone(tmp_path: Path, hold: Hold) -> None:
    process = hold(tmp_path)
    started = time.monotonic()
    stop_running(tmp_path, 30)
    assert time.monotonic() - started < 5
    assert process.wait(5) == 0
