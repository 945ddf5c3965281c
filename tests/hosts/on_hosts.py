"""A cluster of hosts that collects from simulated exchanges, and what can become of its hosts."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.exchanges import Exchanges
from tests.chaos.on_ray import NoAnswer, OnRay
from tests.chaos.system import COLLECTOR
from tests.hosts.machines import Host, Network, for_a_while, signalled
from tests.hosts.ray_up import DATA, DATA_BYTES, Cluster, bring_up
from tests.polling import wait_until
from tests.servers import ClickHouseServer

SYMBOLS: Final = {"binance": ("BTCUSDT", "ETHUSDT"), "kraken": ("BTC/USD", "ETH/USD")}
OTHERS: Final = ("bitfinex", "bybit", "coinbase", "deribit", "okx")
#: A host that has gone is noticed within, and is back within (seconds).
GONE_S: Final = 60.0
BACK_S: Final = 300.0
#: How long a host is cut off: so that nobody notices, and so that it is given up meanwhile.
BRIEFLY_S: Final = 5.0
LONG_S: Final = 30.0
#: What does not answer for a while does so for (seconds).
AWAY_S: Final = 10.0
#: A full disk is noticed when the next piece of a file is needed: within (seconds).
FULL_S: Final = 90.0
#: A worker's clock is wrong by (seconds).
SKEW_S: Final = 90.0
#: Less than what is sent to a worker.
SLOW: Final = "64kbit"
#: Names of actors that data goes through.
_CARRYING: Final = ("collector:", "shard:", "database", "publisher")


class OnHosts(OnRay):
    """Its hosts are on `network`. Use as an async context manager, which brings the cluster up."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        exchanges: Exchanges,
        workers: int,
        spare: int,
        clickhouse: ClickHouseServer | None = None,
    ) -> None:
        """With `clickhouse` it stores there, and in the embedded one without."""
        super().__init__(folder, exchanges)
        self.cluster = Cluster(network, workers, spare)
        self._merged = folder / "merged"
        self._clickhouse = clickhouse
        #: How many processes by that title there are when who was killed is there again.
        self._killed: dict[str, int] = {}

    async def __aenter__(self) -> "OnHosts":
        own = {
            exchange: {"websocket": endpoint.websocket, "rest": endpoint.rest, "symbols": list(endpoint.symbols)}
            for exchange, endpoint in self._exchanges.endpoints.items()
        }
        others = {exchange: {"enabled": False} for exchange in OTHERS}
        settings = {"source": "live", "shards": 2, "collector": COLLECTOR, "exchanges": own | others}
        if self._clickhouse is not None:
            settings["clickhouse_url"] = self._clickhouse.url
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
            if not host.is_on:
                continue
            root = host.seen(DATA) / "columns"
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

    def scale(self, shards: int) -> None:
        """So many shards, evenly over the hosts there are: after one was lost it has none until somebody asks."""
        self.cluster.door.rayfeed("scale", "--shards", str(shards), "--json", timeout_s=BACK_S)

    def symbols(self) -> dict[str, int]:
        """How many each host has trades of."""
        return {host.name: _stored(host) for host in self.cluster.hosts}

    def kill_one(self, title: str) -> None:
        """The first process of that title (the class of an actor, or words of its command), without a warning."""
        found = self._titled(title)
        assert signalled(sorted(found)[:1], signal.SIGKILL), f"there is no {title}"
        # Of replicas and of the edge there are more or less by the hour.
        self._killed[title] = len(found) if title.isalpha() else 1

    def stop_clickhouse(self) -> None:
        """Its server is killed, and started again a while later."""
        assert self._clickhouse is not None
        self._clickhouse.stop()
        try:
            time.sleep(AWAY_S)
        finally:
            self._clickhouse.start()

    def cut_briefly(self) -> None:
        """A worker is cut off for less time than it takes to be given up."""
        self._cut_off(BRIEFLY_S, lambda _: None)

    def cut_for_long(self) -> None:
        """A worker is cut off until after it was given up; it is started again when it answers."""
        self._cut_off(LONG_S, self._given_up)

    def slow_down(self) -> None:
        """Little of what is sent to a worker arrives in time."""
        host = self._worker()
        host.slow_down(SLOW)
        try:
            time.sleep(AWAY_S)
        finally:
            host.speed_up()

    def fill_disk(self) -> None:
        """The disk of a worker has no room until its shard says so to everybody, and for a while more."""
        host = self._worker()
        ballast = host.seen(DATA) / "ballast"
        try:
            with ballast.open("wb") as file:
                for size in (1 << 26, 1 << 20, 1 << 10):
                    with contextlib.suppress(OSError):
                        for at in range(os.fstat(file.fileno()).st_size, DATA_BYTES, size):
                            os.posix_fallocate(file.fileno(), at, size)
            wait_until(self._says_full, FULL_S)
            time.sleep(BRIEFLY_S)
        finally:
            ballast.unlink(missing_ok=True)

    def skew_clock(self) -> None:
        """The clock of a worker goes ahead, falls behind, and is right again."""
        host = self._worker()
        try:
            for seconds in (SKEW_S, -SKEW_S):
                host.set_clock(seconds)
                time.sleep(BRIEFLY_S)
        finally:
            host.set_clock(0.0)

    def lose_power(self) -> None:
        """A worker is switched off, and on again when it was given up."""
        host = self._worker()
        host.power_off()
        try:
            self._given_up(host)
        finally:
            host.power_on()

    def kill_raylet(self) -> None:
        """What runs Ray on a worker."""
        host = self._worker()
        pids = [process.pid for process in host.processes() if _name(process) == "raylet"]
        assert signalled(pids, signal.SIGKILL)
        self._given_up(host)

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
        if why := await self._lacking():
            return dict.fromkeys(self._exchanges.servers, why)
        return await super().ill()

    async def _lacking(self) -> str:
        """Who was killed and is not there again, or what an actor that data goes through has to complain about."""
        for title, count in self._killed.items():
            if len(await asyncio.to_thread(self._titled, title)) < count:
                return f"{title} is not there"
        self._killed.clear()
        said = await self._ask("answer = ray.get(find_actor('supervisor').status.remote(), timeout=30)")
        for name, status in said.items():
            if name.startswith(_CARRYING) and (status.get("failure") or not status["answers"]):
                return f"{name}: {status.get('failure') or 'does not answer'}"
        return ""

    def _cut_off(self, seconds: float, meanwhile: Callable[[Host], None]) -> None:
        host = self._worker()
        host.cut_off()
        try:
            with for_a_while(seconds):
                meanwhile(host)
        finally:
            host.connect_again()

    def _given_up(self, host: Host) -> None:
        """Wait until the others count on it no more."""
        wait_until(lambda: host.address not in self.cluster.alive(), GONE_S)

    def _worker(self) -> Host:
        """That which has the most to lose."""
        return max(self.cluster.workers, key=_stored)

    def _titled(self, title: str) -> list[int]:
        return [one.pid for one, known in self._family() if known == title or (" " in title and title in known)]

    def _says_full(self) -> bool:
        try:
            return b"No space left on device" in self.cluster.door.get("/api/v1/health")[2]
        except OSError:
            return False

    def _all_alive(self) -> bool:
        return self.cluster.alive() == sorted(host.address for host in self.cluster.hosts)

    def _family(self) -> list[tuple[psutil.Process, str]]:
        commands = [(pid, command) for host in self.cluster.hosts for pid, command in host.commands().items()]
        return [
            (psutil.Process(pid), command[5:].partition(".")[0].strip() if command.startswith("ray::") else command)
            for pid, command in commands
            if psutil.pid_exists(pid)
        ]


#: Wants ClickHouse as a server.
STORED_IN: Final = "ClickHouse killed"
#: What can become of processes and hosts, by name; what ends most of it comes last.
FAULTS: Final[dict[str, Callable[[OnHosts], None]]] = {
    "shard killed": lambda system: system.kill_one("SymbolShard"),
    "collector killed": lambda system: system.kill_one("Collector"),
    "database killed": lambda system: system.kill_one("Database"),
    "publisher killed": lambda system: system.kill_one("Publisher"),
    "supervisor killed": lambda system: system.kill_one("Supervisor"),
    "reader of a disk killed": lambda system: system.kill_one("DataNode"),
    "replica killed": lambda system: system.kill_one("ServeReplica:data:DataApi"),
    "Redis killed": lambda system: system.kill_one("bin/redis-server 127"),
    STORED_IN: OnHosts.stop_clickhouse,
    "edge killed": lambda system: system.kill_one("haproxy -W -db -S"),
    "worker's disk full": OnHosts.fill_disk,
    "worker's clock wrong": OnHosts.skew_clock,
    "worker's network slow": OnHosts.slow_down,
    "worker cut off for 5 s": OnHosts.cut_briefly,
    "worker cut off for 30 s": OnHosts.cut_for_long,
    "worker without power": OnHosts.lose_power,
    "raylet of a worker killed": OnHosts.kill_raylet,
    "head's processes killed": OnHosts.kill_head,
    "host added": OnHosts.add_host,
}


def _stored(host: Host) -> int:
    """Symbols it has trades of."""
    return len({file.parent for file in host.seen(DATA).glob("columns/*/*/TRADES/id.*.bin")})


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
