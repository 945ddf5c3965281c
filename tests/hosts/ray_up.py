"""`ray up` as somebody at a laptop runs it, for hosts that are made of namespaces."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from tests.cluster.running import INSIDE, FrontDoor
from tests.hosts.machines import HOME, Host, Network

PROJECT: Final = Path(__file__).parents[2]
#: What `make install` made here is seen by all hosts, so that nothing is built again.
_INSTALLED: Final = (".venv", ".uv", "serve_apps/web/dist", "serve_apps/web/node_modules")
#: Where a host has the programs and, if it is the head, the data.
VENV: Final = f"{HOME}/rayfeed/.venv/bin"
DATA: Final = f"{HOME}/rayfeed-data"
#: On a worker that is a file system of its own, so that it can be full.
DATA_BYTES: Final = 512 << 20
UP_S: Final = 400.0
DOWN_S: Final = 120.0


#: Of what a command that failed said, the end.
_SAID: Final = 3000

#: Asks the part of Ray that knows all nodes, without becoming a part of the cluster.
_NODES: Final = """
import os
os.environ["RAY_AUTH_MODE"] = "token"
from ray._raylet import GcsClient
for node in GcsClient(address=open("/tmp/ray/ray_current_cluster").read().strip()).get_all_node_info().values():
    if node.state == 0:
        print(node.node_manager_address)
"""


@dataclass(kw_only=True)
class HeadDoor(FrontDoor):
    """The instance of a cluster as those on its network see it; its data folder is on the disk of the head."""

    head: Host

    @property
    def url(self) -> str:
        return f"http://{self.head.address}:{self.port}"

    def rayfeed(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """What a command says on the head."""
        command = (f"{VENV}/rayfeed", *arguments, "--data", DATA)
        return self.head.run(*command, timeout_s=timeout_s, cwd=f"{HOME}/rayfeed").stdout

    def detach(self) -> None:
        """What enters the host has a process there, which would look for its Ray for a minute."""
        if self._inside is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(self._inside.pid).children(recursive=True):
                    child.kill()
        super().detach()

    def _attach(self) -> subprocess.Popen[str]:
        return self.head.start(f"{VENV}/python", "-c", INSIDE, DATA, stdin=subprocess.PIPE, stderr=None)


class Cluster:
    """A laptop, a head and workers on one network; `operate` is what one types at the laptop."""

    def __init__(self, network: Network, workers: int, spare: int = 0) -> None:
        unbuilt = subprocess.run(["make", "--question", "install"], cwd=PROJECT, capture_output=True)
        assert unbuilt.returncode == 0, "run `make install` first: hosts see what it made"
        self.network = network
        # What Ray's workers import is what was sent to the host, not what `.venv` was made from.
        environment = {"LANG": "C.UTF-8", "PYTHONPATH": f"{HOME}/rayfeed"}
        made = {f"{HOME}/rayfeed/{name}": (PROJECT / name).resolve() for name in _INSTALLED}
        # Commands in it begin with the path of the interpreter it was made for, and ours with where it was last.
        interpreter = Path((PROJECT / ".venv/bin/rayfeed").read_text().partition("\n")[0].removeprefix("#!"))
        venv = {
            str(place): (PROJECT / ".venv").resolve()
            for place in ((PROJECT / ".venv").resolve(), interpreter.parent.parent)
        }
        made |= venv
        self.laptop = network.add("laptop", {f"{HOME}/checkout": PROJECT, **venv})
        self.head = network.add("head", made, environment)
        own = (made, environment, DATA, DATA_BYTES, True)
        self.workers = [network.add(f"worker-{number}", *own) for number in range(workers)]
        #: Hosts that no cluster file names yet.
        self.spare = [network.add(f"spare-{number}", *own) for number in range(spare)]

    @property
    def door(self) -> HeadDoor:
        """What `ray up` has started."""
        return HeadDoor(head=self.head, data=self.head.home / Path(DATA).name, port=8080, tls_port=8443)

    def alive(self) -> list[str]:
        """Addresses of the hosts Ray counts on."""
        said = self.head.run(f"{VENV}/python", "-c", _NODES, check=False, cwd=f"{HOME}/rayfeed")
        return sorted(said.stdout.split())

    @property
    def hosts(self) -> Sequence[Host]:
        """All of the cluster."""
        return [self.head, *self.workers]

    def write_file(self) -> None:
        """The project's own cluster file with what a user has to fill in."""
        config: dict[str, Any] = yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text())
        config["provider"] |= {"head_ip": self.head.address, "worker_ips": [host.address for host in self.workers]}
        config["auth"] |= {"ssh_user": "root", "ssh_private_key": f"{HOME}/operator"}
        (self.laptop.home / "ray_cluster.yaml").write_text(yaml.safe_dump(config))

    def operate(self, *command: str, timeout_s: float = UP_S) -> str:
        """What a command of Ray's says at the laptop."""
        ray = f"{HOME}/checkout/.venv/bin/ray"
        done = self.laptop.run(ray, *command, timeout_s=timeout_s, cwd=f"{HOME}/checkout", check=False)
        assert done.returncode == 0, f"ray {' '.join(command)}\n{done.stdout[-_SAID:]}\n{done.stderr[-_SAID:]}"
        return done.stdout

    def up(self, *options: str) -> str:
        return self.operate("up", f"{HOME}/ray_cluster.yaml", "--yes", "--no-config-cache", *options)

    def down(self) -> str:
        return self.operate("down", f"{HOME}/ray_cluster.yaml", "--yes", timeout_s=DOWN_S)


def bring_up(cluster: Cluster, settings: dict[str, Any]) -> str:
    """Switch all hosts on, and say what `ray up` said; `settings` is what the head's data folder says."""
    for host in cluster.network.hosts:
        host.power_on()
    key = cluster.laptop.home / "operator"
    shutil.copyfile(cluster.network.secrets / "operator", key)
    key.chmod(0o600)
    data = cluster.head.home / Path(DATA).name
    data.mkdir()
    (data / "settings.yaml").write_text(yaml.safe_dump(settings))
    cluster.write_file()
    return cluster.up()


@contextmanager
def cluster_of(folder: Path, workers: int, settings: dict[str, Any], spare: int = 0) -> Iterator[tuple[Cluster, str]]:
    """A cluster that was brought up, and what `ray up` said."""
    with Network(folder / "network") as network:
        cluster = Cluster(network, workers, spare)
        yield cluster, bring_up(cluster, settings)
