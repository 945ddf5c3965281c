"""A cluster of hosts that collects from simulated exchanges, and what can become of its hosts."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from actors.simulator import loopback
from tests.chaos.exchanges import Exchanges
from tests.chaos.on_ray import NoAnswer, OnRay
from tests.chaos.system import COLLECTOR
from tests.hosts.machines import Network, signalled
from tests.hosts.ray_up import DATA, Cluster, bring_up
from tests.polling import wait_until

SYMBOLS: Final = {"binance": ("BTCUSDT", "ETHUSDT"), "kraken": ("BTC/USD", "ETH/USD")}
OTHERS: Final = ("bitfinex", "bybit", "coinbase", "deribit", "okx")
#: A host that has gone is noticed within, and is back within (seconds).
GONE_S: Final = 60.0
BACK_S: Final = 300.0
#: How long a host is cut off: so that nobody notices, and so that it is given up meanwhile.
BRIEFLY_S: Final = 5.0
LONG_S: Final = 30.0


@contextmanager
def exchanges_at(address: str) -> Iterator[None]:
    """Simulated exchanges of this process are on that network, not on loopback."""
    before = loopback._HOST
    loopback._HOST = address  # type: ignore[misc]
    try:
        yield
    finally:
        loopback._HOST = before  # type: ignore[misc]


class OnHosts(OnRay):
    """Its hosts are on `network`. Use as an async context manager, which brings the cluster up."""

    def __init__(self, network: Network, folder: Path, exchanges: Exchanges, workers: int, spare: int) -> None:
        super().__init__(folder, exchanges)
        self.cluster = Cluster(network, workers, spare)
        self._merged = folder / "merged"

    async def __aenter__(self) -> "OnHosts":
        own = {
            exchange: {"websocket": endpoint.websocket, "rest": endpoint.rest, "symbols": list(endpoint.symbols)}
            for exchange, endpoint in self._exchanges.endpoints.items()
        }
        others = {exchange: {"enabled": False} for exchange in OTHERS}
        settings = {"source": "live", "shards": 2, "collector": COLLECTOR, "exchanges": own | others}
        await asyncio.to_thread(bring_up, self.cluster, settings)
        await asyncio.to_thread(wait_until, self._all_alive, BACK_S)
        self._instance = self.cluster.door  # type: ignore[assignment]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._instance is not None:
            self._instance.detach()

    @property
    def columns(self) -> Path:
        """What is stored on the disks of all hosts, as one folder; of a symbol on several, what is newest."""
        newest: dict[Path, tuple[float, Path]] = {}
        for host in self.cluster.hosts:
            root = host.home / Path(DATA).name / "columns"
            for symbol in root.glob("*/*"):
                written = [file.stat().st_mtime for file in symbol.glob("TRADES/*.bin") if file.exists()]
                own = (max(written, default=0.0), symbol)
                name = symbol.relative_to(root)
                newest[name] = max(newest.get(name, own), own)
        self._merged.mkdir(exist_ok=True)
        for name, (_, symbol) in newest.items():
            link = self._merged / name
            if link.is_symlink() and link.readlink() == symbol:
                continue
            link.unlink(missing_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(symbol)
        return self._merged

    @columns.setter
    def columns(self, _: Path) -> None:
        """Known from the hosts."""

    async def looked_twice(self, seconds: float) -> bool:
        """Of these exchanges all say by their ids what was lost."""
        return True

    def kill_one(self, title: str) -> None:
        """The first process of that title (the class of an actor, or words of its command), without a warning."""
        found = [one.pid for one, known in self._family() if known == title or (" " in title and title in known)]
        assert signalled(sorted(found)[:1], signal.SIGKILL), f"there is no {title}"

    def cut_briefly(self) -> None:
        """A worker is cut off for less time than it takes to be given up."""
        host = self.cluster.workers[-1]
        host.cut_off()
        time.sleep(BRIEFLY_S)
        host.connect_again()

    def cut_for_long(self) -> None:
        """A worker is cut off until after it was given up; it is started again when it answers."""
        host = self.cluster.workers[-1]
        host.cut_off()
        began = time.monotonic()
        wait_until(lambda: host.address not in self.cluster.alive(), GONE_S)
        time.sleep(max(0.0, LONG_S - (time.monotonic() - began)))
        host.connect_again()

    def lose_power(self) -> None:
        """A worker is switched off, and on again when it was given up."""
        host = self.cluster.workers[0]
        host.power_off()
        wait_until(lambda: host.address not in self.cluster.alive(), GONE_S)
        host.power_on()

    def kill_raylet(self) -> None:
        """What runs Ray on a worker."""
        host = self.cluster.workers[0]
        pids = [process.pid for process in host.processes() if _name(process) == "raylet"]
        assert signalled(pids, signal.SIGKILL)
        wait_until(lambda: host.address not in self.cluster.alive(), GONE_S)

    def kill_head(self) -> None:
        """Everything that runs on the head; it is brought up again."""
        head = self.cluster.head
        assert self._instance is not None
        self._instance.detach()
        signalled(
            [process.pid for process in head.processes() if _name(process) != "sshd" and process.pid != head.pid],
            signal.SIGKILL,
        )
        self.cluster.up()

    def add_host(self) -> None:
        """One more worker while everything runs."""
        self.cluster.workers.append(self.cluster.spare.pop())
        self.cluster.write_file()
        self.cluster.up("--no-restart")

    async def ill(self) -> dict[str, str]:
        """Also when a host is not there."""
        try:
            alive = await self._ask("answer = [node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']]")
        except NoAnswer as error:
            return dict.fromkeys(self._exchanges.servers, str(error))
        if missing := {host.address for host in self.cluster.hosts} - {*alive}:
            return dict.fromkeys(self._exchanges.servers, f"hosts are not there: {', '.join(sorted(missing))}")
        return await super().ill()

    def _all_alive(self) -> bool:
        return self.cluster.alive() == sorted(host.address for host in self.cluster.hosts)

    def _family(self) -> list[tuple[psutil.Process, str]]:
        commands = [(pid, command) for host in self.cluster.hosts for pid, command in host.commands().items()]
        return [
            (psutil.Process(pid), command[5:].partition(".")[0].strip() if command.startswith("ray::") else command)
            for pid, command in commands
            if psutil.pid_exists(pid)
        ]


#: What can become of processes and hosts, by name; what ends most of it comes last.
FAULTS: Final[dict[str, Callable[[OnHosts], None]]] = {
    "shard killed": lambda system: system.kill_one("SymbolShard"),
    "collector killed": lambda system: system.kill_one("Collector"),
    "database killed": lambda system: system.kill_one("Database"),
    "publisher killed": lambda system: system.kill_one("Publisher"),
    "Redis killed": lambda system: system.kill_one("bin/redis-server 127"),
    "edge killed": lambda system: system.kill_one("haproxy -W -db -S"),
    "worker cut off for 5 s": OnHosts.cut_briefly,
    "worker cut off for 30 s": OnHosts.cut_for_long,
    "worker without power": OnHosts.lose_power,
    "raylet of a worker killed": OnHosts.kill_raylet,
    "head's processes killed": OnHosts.kill_head,
    "host added": OnHosts.add_host,
}


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
