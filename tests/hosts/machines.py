"""Hosts made of Linux namespaces on one machine: each has its own network, processes, home, temporary folder, shared
memory and name, and an sshd with a key of its own. The rest of the machine they see read-only. Needs root.

A host is one process tree below `unshare`, which the kernel ends with us: whatever happens to the tests, no host, no
process on it and no cable outlives them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from tests.polling import wait_until

#: Debian package -> a program of it.
PACKAGES: Final = {
    "iproute2": "ip",
    "openssh-server": "/usr/sbin/sshd",
    "openssh-client": "ssh",
    "rsync": "rsync",
    "util-linux": "unshare",
    "e2fsprogs": "mke2fs",
    "gcc": "gcc",
    "procps": "uptime",
}
#: Of the range for tests of networks (RFC 2544), a part for each process that has hosts.
_NETWORK: Final = "198.18.{part}.{number}"
_PARTS: Final = 250
_READY_S: Final = 20.0
#: Where a host has the home folder of its user.
HOME: Final = "/home/rayfeed"
_SSHD: Final = """\
Port 22
HostKey {keys}/host_key
AuthorizedKeysFile {keys}/operator.pub
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PrintMotd no
MaxStartups 100
MaxSessions 100
UseDNS no
SetEnv {environment}
"""
#: Runs as the first process of a host: a shell, because it has to take in orphans as `init` does. Mounts what is its
#: own, home and the temporary folder last, as what hosts see may be in them.
_INIT: Final = """\
set -e
mount --bind {disk}/passwd /etc/passwd
mount --bind {disk}/hosts /etc/hosts
{binds}
{volume}
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd {keys}
cp {secrets}/* {keys}
chmod 600 {keys}/*
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
hostname {name}
mount --rbind {disk}/home /home
mount --rbind {disk}/tmp /tmp
mount -o remount,bind,ro /
cd /
/usr/sbin/sshd -D -e -f {keys}/sshd_config &
wait
"""
#: A file system in a file, which is written to where it is not the root that becomes read-only. The kernel may still be
#: letting go of what the host had mounted before it was switched off.
_VOLUME: Final = """\
mount --rbind {disk} {disk}
mkdir -p {place}
until mount -o loop {disk}/volume {place}; do sleep 0.1; done
"""
#: Where a host has its keys.
_KEYS: Final = "/run/keys"
_CLOCK: Final = "clock.so"


def missing() -> str:
    """What these tests lack here, "" when nothing: root, or packages that `make debian` installs."""
    if os.getuid() != 0:
        return "hosts of namespaces need root"
    packages = [package for package, program in PACKAGES.items() if shutil.which(program) is None]
    return f"Debian packages are missing: {' '.join(packages)}" if packages else ""


def refused() -> str:
    """What the kernel says where it makes no hosts, "" where it does: root in a container may not be allowed to."""
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return tried.stderr.strip()


@dataclass(kw_only=True)
class Host:
    """A host of `Network`. `disk` is a folder that outlives a loss of power: `home`, `tmp`. `binds` are folders of the
    machine by where the host sees them, read-only. With `volume` there is a file system of its own in that folder of
    its home, of `volume_bytes`; with `own_clock`, `set_clock`."""

    name: str
    address: str
    disk: Path
    network: "Network"
    binds: Mapping[str, Path]
    environment: Mapping[str, str]
    volume: str = ""
    volume_bytes: int = 0
    own_clock: bool = False
    _power: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _first: psutil.Process | None = field(default=None, init=False)

    @property
    def is_on(self) -> bool:
        return self._first is not None and self._first.is_running()

    @property
    def home(self) -> Path:
        """Its home folder as we see it."""
        return self.disk / "home" / Path(HOME).name

    def seen(self, path: str) -> Path:
        """What it has there, as we see it while it is on."""
        return Path(f"/proc/{self.pid}/root{path}")

    def power_on(self) -> None:
        """Returns when one can log in. What was in its temporary folder is gone."""
        assert self._power is None, f"{self.name} is on"
        shutil.rmtree(self.disk / "tmp", ignore_errors=True)
        for folder in (self.home, self.disk / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.disk / "tmp").chmod(0o1777)
        (self.disk / "passwd").write_text(
            f"root:x:0:0:root:{HOME}:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        )
        (self.disk / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        logged_in = dict(self.environment)
        if self.own_clock:
            self.set_clock(0.0)
            self.network.build_clock()
            logged_in |= {"LD_PRELOAD": f"{_KEYS}/{_CLOCK}", "CLOCK": f"{HOME}/.clock"}
        environment = " ".join(f'"{name}={value}"' for name, value in logged_in.items())
        (self.network.secrets / "sshd_config").write_text(_SSHD.format(keys=_KEYS, environment=environment))
        binds = [self._bind(target, source) for target, source in self.binds.items()]
        init = _INIT.format(
            disk=self.disk,
            secrets=self.network.secrets,
            keys=_KEYS,
            binds="\n".join(binds),
            volume=self._volume(),
            name=self.name,
        )
        namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child=SIGKILL"]
        with (self.disk / "console.log").open("wb") as console:
            self._power = subprocess.Popen(
                # The kernel ends `unshare` with us, and the first process of the host with `unshare`.
                ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "bash", "-c", init],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                process_group=0,
            )
        wait_until(self._has_begun, _READY_S)
        self.network.connect(self)
        wait_until(self._lets_in, _READY_S)

    def power_off(self) -> None:
        """Every process ends at once, whatever it did."""
        if self._power is None:
            return
        left = self.processes()
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if self._first is not None:
                self._first.kill()
            else:
                self._power.kill()
        self._power.wait()
        self._power = self._first = None
        psutil.wait_procs(left, timeout=10)

    def cut_off(self) -> None:
        """Nothing comes or goes any more; nobody is told."""
        _run("ip", "link", "set", self.network.cable(self), "down")

    def connect_again(self) -> None:
        _run("ip", "link", "set", self.network.cable(self), "up")

    def slow_down(self, rate: str) -> None:
        """No more than that (`10mbit`) comes from the network."""
        _run("tc", "qdisc", "replace", "dev", self.network.cable(self), "root", "tbf", "rate", rate, *_BUCKET)

    def speed_up(self) -> None:
        """As before `slow_down`."""
        _run("tc", "qdisc", "del", "dev", self.network.cable(self), "root")

    def set_clock(self, seconds: float) -> None:
        """What was started by somebody who logged in has the machine's time of day and so many seconds from now on."""
        clock = self.home / ".clock"
        with clock.open("r+b" if clock.exists() else "wb") as file:
            file.write(int(seconds * 1e9).to_bytes(8, sys.byteorder, signed=True))

    def processes(self) -> list[psutil.Process]:
        """All that run on it, the first and sshd too."""
        if self._first is None:
            return []
        found = []
        with contextlib.suppress(OSError):
            mine = _namespace(self._first.pid, "pid")
            for process in psutil.process_iter():
                with contextlib.suppress(OSError, psutil.NoSuchProcess):
                    if _namespace(process.pid, "pid") == mine and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def commands(self) -> dict[int, str]:
        """Command lines by pid (ours) of what somebody started there: neither init nor sshd nor a login."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process != self._first and process.name() != "sshd":
                    found[process.pid] = " ".join(process.cmdline())
        return found

    def run(
        self, *command: str, timeout_s: float = 60.0, check: bool = True, cwd: str = HOME
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root and with what a login gets of the environment."""
        with self.start(*command, cwd=cwd) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except BaseException:
                process.kill()
                raise
        assert process.returncode == 0 or not check, f"{self.name}: {command} said {err or out}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def start(
        self, *command: str, cwd: str = HOME, stdin: int = subprocess.DEVNULL, stderr: int | None = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """As `run`, without waiting for the end."""
        assert self._first is not None, f"{self.name} is off"
        environment = {
            "HOME": HOME,
            "USER": "root",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            **self.environment,
        }
        return subprocess.Popen(
            ["nsenter", "--target", str(self._first.pid), "--all", f"--wdns={cwd}", "--", *command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment,
        )

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._first is not None, f"{self.name} is off"
        return self._first.pid

    def _volume(self) -> str:
        if not self.volume:
            return ""
        if not (image := self.disk / "volume").exists():
            with image.open("wb") as file:
                file.truncate(self.volume_bytes)
            _run("mke2fs", "-q", "-t", "ext4", "-m", "0", str(image))
        return _VOLUME.format(disk=self.disk, place=f"{self.disk}{self.volume}")

    def _bind(self, target: str, source: Path) -> str:
        if target.startswith(("/home/", "/tmp/")):
            # Into what takes the place of that folder afterwards.
            target = f"{self.disk}{target}"
        return f"mkdir -p {target}; mount --bind {source} {target}; mount -o remount,bind,ro {target}"

    def _has_begun(self) -> bool:
        assert self._power is not None
        assert self._power.poll() is None, f"{self.name} did not start: {self._console()}"
        children = psutil.Process(self._power.pid).children()
        if not children or _namespace(children[0].pid, "net") == _namespace(os.getpid(), "net"):
            return False
        self._first = children[0]
        return True

    def _lets_in(self) -> bool:
        assert self._power is not None
        assert self._power.poll() is None, f"{self.name} did not start: {self._console()}"
        return "Server listening on 0.0.0.0 port 22" in self._console()

    def _console(self) -> str:
        """What the first process and sshd have said since it is on."""
        return (self.disk / "console.log").read_text(errors="replace")


#: As much as a queue of a cheap router takes.
_BUCKET: Final = ("burst", "256kb", "latency", "200ms")


class Network:
    """A network of hosts on this machine, which is on it too, at `address`. Use as a context manager. What hosts keep
    is below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self._part = os.getpid() % _PARTS
        self._bridge = f"rf{os.getpid()}"
        self._hosts: list[Host] = []

    @property
    def address(self) -> str:
        return _NETWORK.format(part=self._part, number=1)

    @property
    def hosts(self) -> Sequence[Host]:
        return self._hosts

    def __enter__(self) -> "Network":
        if said := missing():
            raise RuntimeError(said)
        _remove_abandoned()
        self.secrets.mkdir(parents=True, mode=0o700)
        for name in ("host_key", "operator"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.secrets / name))
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{self.address}/24", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for host in self._hosts:
                host.power_off()
        finally:
            # A cable may outlive its host for a moment.
            for host in self._hosts:
                _run("ip", "link", "del", self.cable(host), check=False)
            _run("ip", "link", "del", self._bridge)

    def add(
        self,
        name: str,
        binds: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
        volume: str = "",
        volume_bytes: int = 0,
        own_clock: bool = False,
    ) -> Host:
        """A further host, switched off."""
        address = _NETWORK.format(part=self._part, number=len(self._hosts) + 2)
        disk = self.folder / name
        disk.mkdir()
        host = Host(
            name=name,
            address=address,
            disk=disk,
            network=self,
            binds=binds or {},
            environment=environment or {"LANG": "C.UTF-8"},
            volume=volume,
            volume_bytes=volume_bytes,
            own_clock=own_clock,
        )
        self._hosts.append(host)
        return host

    def build_clock(self) -> None:
        """What gives a host a clock of its own is with its keys."""
        if not (library := self.secrets / _CLOCK).exists():
            _run("gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_name("clock.c")), "-ldl")

    def cable(self, host: Host) -> str:
        """The name of our end of its cable."""
        return f"{self._bridge}.{self._hosts.index(host)}"

    def connect(self, host: Host) -> None:
        """Lay a cable to a host that is being switched on."""
        cable = self.cable(host)
        _run("ip", "link", "del", cable, check=False)
        # The card stays the same when a host is switched off and on, so nobody looks for it in vain.
        card = ("eth0", "address", f"02:52:46:00:00:{self._hosts.index(host) + 2:02x}")
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", *card, "netns", str(host.pid))
        _run("ip", "link", "set", cable, "master", self._bridge, "up")
        inside = ("nsenter", "--target", str(host.pid), "--net", "ip")
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        # Who asks which address a host has asks how it would reach the world.
        _run(*inside, "route", "add", "default", "via", self.address)


@contextlib.contextmanager
def for_a_while(seconds: float) -> Iterator[None]:
    """What is done inside lasts so long."""
    until = time.monotonic() + seconds
    yield
    time.sleep(max(0.0, until - time.monotonic()))


def signalled(pids: Sequence[int], which: signal.Signals) -> int:
    """How many of them were there."""
    there = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)
            there += 1
    return there


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def _remove_abandoned() -> None:
    """Networks of tests that were killed: their hosts have ended with them."""
    for link in Path("/sys/class/net").iterdir():
        owner = link.name.removeprefix("rf").partition(".")[0]
        if link.name.startswith("rf") and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _run("ip", "link", "del", link.name, check=False)


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr or done.stdout}"
