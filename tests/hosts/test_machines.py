"""What tests with several hosts rest on: a host is a machine of its own, and can be lost."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.hosts.machines import HOME, Host, Network
from tests.polling import wait_until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Network, Host, Host]]:
    with Network(tmp_path / "network") as network:
        one, two = network.add("one"), network.add("two")
        for host in (one, two):
            host.power_on()
        yield network, one, two


def _ssh(network: Network, host: Host, command: str, timeout_s: int = 10) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", *_options(network, timeout_s), f"root@{host.address}", command],
        capture_output=True,
        text=True,
        timeout=60,
    )


def _options(network: Network, timeout_s: int = 10) -> list[str]:
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", f"ConnectTimeout={timeout_s}")
    given = (part for option in options for part in ("-o", option))
    return ["-q", *given, "-i", str(network.secrets / "operator")]


def test_a_host_has_its_own_home_processes_name_and_temporary_folder(pair: tuple[Network, Host, Host]) -> None:
    network, one, two = pair
    assert _ssh(network, one, "hostname; echo mine >~/note; echo mine >/tmp/note").stdout == "one\n"
    assert _ssh(network, two, "hostname; ls ~ /tmp").stdout.split() == ["two", "/home/rayfeed:", "/tmp:"]
    assert (one.home / "note").read_text() == "mine\n"
    assert one.run("touch", "/usr/left-behind", check=False).returncode != 0
    assert "sleep" not in one.run("ps", "-e").stdout
    with two.start("sleep", "1000") as sleeping:
        wait_until(lambda: "sleep 1000" in two.commands().values())
        assert "sleep" in two.run("ps", "-e").stdout
        assert "sleep" not in one.run("ps", "-e").stdout
        sleeping.kill()


def test_a_password_does_not_let_in(pair: tuple[Network, Host, Host]) -> None:
    _, one, _ = pair
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes")
    said = subprocess.run(["ssh", *options, f"root@{one.address}", "true"], capture_output=True, text=True, timeout=30)
    assert said.returncode == 255 and "Permission denied (publickey)" in said.stderr


def test_a_host_that_is_cut_off_lives_on_and_is_reached_again(pair: tuple[Network, Host, Host]) -> None:
    network, _, two = pair
    with two.start("sleep", "1000") as sleeping:
        two.cut_off()
        assert _ssh(network, two, "true", timeout_s=1).returncode == 255
        assert "sleep 1000" in two.commands().values()
        two.connect_again()
        wait_until(lambda: _ssh(network, two, "true", timeout_s=1).returncode == 0)
        sleeping.kill()


def test_power_is_lost_at_once_and_the_disk_stays(pair: tuple[Network, Host, Host]) -> None:
    network, _, two = pair
    _ssh(network, two, "echo kept >~/note; echo lost >/tmp/note; nohup sleep 1000 >/dev/null 2>&1 &")
    wait_until(lambda: "sleep 1000" in two.commands().values())
    before = two.processes()
    two.power_off()
    assert not any(process.is_running() for process in before)
    assert _ssh(network, two, "true", timeout_s=1).returncode == 255
    two.power_on()
    assert _ssh(network, two, "cat ~/note; ls /tmp").stdout == "kept\n"


def test_nothing_is_left_when_a_test_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Network(tmp_path / "network") as network:
        host = network.add("one")
        host.power_on()
        before = host.processes()
        assert len(before) >= 2
        cable = Path("/sys/class/net") / network.cable(host)
        assert cable.exists()
        raise ZeroDivisionError
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in before)
    assert not cable.exists()


def test_a_volume_can_be_full_and_outlives_a_loss_of_power(tmp_path: Path) -> None:
    with Network(tmp_path / "network") as network:
        host = network.add("one", volume=f"{HOME}/data", volume_bytes=8 << 20)
        host.power_on()
        said = _ssh(network, host, "head -c 16M /dev/zero >~/data/ballast; echo kept >~/elsewhere && rm ~/data/ballast")
        assert "No space left on device" in said.stderr
        _ssh(network, host, "echo kept >~/data/note; sync")
        assert host.seen(f"{HOME}/data/note").read_text() == "kept\n"
        host.power_off()
        host.power_on()
        assert _ssh(network, host, "cat ~/data/note ~/elsewhere").stdout == "kept\nkept\n"


def test_the_clock_of_a_host_is_set_while_its_programs_run(tmp_path: Path) -> None:
    asking = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    with Network(tmp_path / "network") as network:
        host = network.add("one", own_clock=True)
        host.power_on()
        login = ["ssh", *_options(network), f"root@{host.address}", f"python3 -u -c '{asking}'"]
        with subprocess.Popen(login, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clock:
            assert clock.stdin is not None and clock.stdout is not None
            for ahead in (0.0, 3600.0, -3600.0, 0.0):
                host.set_clock(ahead)
                clock.stdin.write("\n")
                clock.stdin.flush()
                of_day, since_boot = map(float, clock.stdout.readline().split())
                assert abs(of_day - time.time() - ahead) < 5
                assert abs(since_boot - time.monotonic()) < 5
