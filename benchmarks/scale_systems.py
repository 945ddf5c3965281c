"""What `benchmarks.scale` measures: an exchange that trades at the rate it is told, and a whole system that collects
from it, on this machine or on hosts of namespaces.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import yaml

from benchmarks.costs import Lags, Taken, lags, taken
from benchmarks.instance import COMMAND, running_instance
from benchmarks.many_symbols import symbols
from benchmarks.table import UnavailableError
from config import load

if TYPE_CHECKING:
    from tests.hosts.ray_up import Cluster

PROJECT: Final = Path(__file__).parents[1]
EXCHANGE: Final = "binance"
#: What has not come by then does not come.
PATIENCE_S: Final = 120.0
LOOK_S: Final = 0.05
#: Processes are asked what they count every two seconds.
METERED_S: Final = 3.0
#: A host that joins installs and starts Ray.
JOIN_S: Final = 240.0


def until(reached: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """TimeoutError, with what was waited for."""
    deadline = time.monotonic() + within_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(LOOK_S)


def got(url: str) -> Any:
    """The JSON that is there. OSError."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return json.load(answer)


@dataclass(frozen=True)
class Market:
    """An exchange of so many symbols, in a process of its own."""

    names: tuple[str, ...]
    websocket: str
    rest: str

    def trade(self, rate: float, quotes: bool = False) -> None:
        """So many trades a second from now on, all symbols together."""
        got(f"{self.rest}/measured/trade?rate={rate}{'&quotes=1' if quotes else ''}")

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = got(f"{self.rest}/measured/counts")
        return found

    def settings(
        self, channels: tuple[str, ...] = ("trades", "quotes"), first: int | None = None, **more: Any
    ) -> dict[str, Any]:
        """Of an instance that collects the `first` symbols (all) from here alone, with one replica of each kind."""
        endpoint = {"websocket": self.websocket, "rest": self.rest, "symbols": list(self.names[:first])}
        others = {name: {"enabled": False} for name in load(PROJECT / "none").exchanges if name != EXCHANGE}
        one = {"min_replicas": 1, "max_replicas": 1}
        return {
            "source": "live",
            "exchanges": {EXCHANGE: {**endpoint, "channels": list(channels)}, **others},
            "overview": {"outside": False},
            "scaling": dict.fromkeys(("data", "market", "pages"), one) | {"live": {**one, "streams": None}},
            # Whoever measures asks more than people do, and on hosts from another address.
            "metrics": {"networks": ["127.0.0.0/8", "198.18.0.0/15"]},
            "security": {"rate_limits": {"api": None}},
            **more,
        }


@contextmanager
def market(count: int, address: str = "127.0.0.1") -> Iterator[Market]:
    """It ends with the block."""
    command = [sys.executable, "-m", "benchmarks.paced", str(count), address]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        websocket, rest = process.stdout.readline().split()
        try:
            yield Market(symbols(count), f"ws://{address}:{websocket}", f"http://{address}:{rest}")
        finally:
            process.stdin.close()


@dataclass
class System:
    """One that runs. `url` is its front door, `processes` all it has, `wires` the bytes so far between its hosts."""

    market: Market
    url: str
    processes: Callable[[], list[psutil.Process]]
    command: Callable[..., str]
    wires: Callable[[], int] = lambda: 0

    def taken(self, memory: bool = False) -> Taken:
        return taken(self.processes(), memory)

    def lags(self) -> Lags:
        """Once everything up to now is counted."""
        time.sleep(METERED_S)
        return lags(self.url)

    def stored(self) -> int:
        """Trades that the shards have stored."""
        return sum(row["trades"] or 0 for row in got(f"{self.url}/api/v1/integrity"))

    def collect(self, count: int) -> None:
        """Have so many symbols, the first ones, and wait until all of them are collected."""
        if missing := self.market.names[self.market.counts()["subscribed"] : count]:
            self.command("symbols", "add", EXCHANGE, *missing)
        self.begin(count)

    def begin(self, wanted: int) -> None:
        """Wait until so many symbols are collected."""
        until(lambda: self.market.counts()["subscribed"] == wanted, f"{wanted} symbols subscribed")

    def all_stored(self) -> bool:
        """Wait for what was sent until now; whether it came."""
        sent = self.market.counts()["trades"]
        try:
            until(lambda: self.stored() >= sent, "what was sent is stored", PATIENCE_S / 2)
        except TimeoutError:
            return False
        return True

    def scale(self, shards: int) -> None:
        """Over all hosts there are; returns when all symbols have moved."""
        self.command("scale", "--shards", str(shards), "--json")

    def in_files(self) -> int:
        """Trades that readers find, of all symbols."""
        query = f"{self.url}/api/data?exchange={EXCHANGE}&type=TRADES&start=0&end=4294967295&columns=side&symbol="
        found = 0
        for name in self.market.names:
            with urllib.request.urlopen(query + name, timeout=PATIENCE_S) as answer:
                found += json.loads(answer.readline())["columns"][0]["num_records"]
        return found


@contextmanager
def one_host(count: int, **settings: Any) -> Iterator[System]:
    """An instance on this machine, and an exchange of so many symbols; both end with the block."""
    with tempfile.TemporaryDirectory(prefix="rf-bench-") as folder, market(count) as of:
        data = Path(folder) / "data"
        data.mkdir()
        (data / "settings.yaml").write_text(yaml.safe_dump(of.settings(**settings)))
        with running_instance(data, "live") as url:
            [up] = [one for one in psutil.Process().children() if str(COMMAND) in one.cmdline()]

            def command(*words: str) -> str:
                return subprocess.check_output([COMMAND, *words, "--data", data], text=True, timeout=PATIENCE_S)

            system = System(of, url, lambda: [up, *up.children(recursive=True)], command)
            system.begin(settings.get("first", count))
            yield system


@contextmanager
def on_hosts(count: int, most: int, **settings: Any) -> Iterator[tuple[System, Callable[[], None]]]:
    """The same on one host of namespaces, and what adds another host, until there are `most`. `UnavailableError` where
    there can be none."""
    from tests.hosts.machines import Network, missing, refused
    from tests.hosts.ray_up import Cluster, bring_up

    if said := missing() or refused():
        raise UnavailableError(said)
    with (
        tempfile.TemporaryDirectory(prefix="rf-bench-") as folder,
        Network(Path(folder) / "network") as network,
        market(count, network.address) as of,
    ):
        cluster = Cluster(network, workers=0, spare=most - 1)
        bring_up(cluster, of.settings(**settings))
        door = cluster.door
        system = System(
            of,
            door.url,
            lambda: [one for host in cluster.hosts for one in host.processes()],
            door.rayfeed,
            lambda: sum(_carried(network.cable(host)) for host in cluster.workers),
        )
        system.begin(count)
        yield system, lambda: _add_host(cluster)


def _add_host(cluster: "Cluster") -> None:
    cluster.workers.append(cluster.spare.pop())
    cluster.write_file()
    cluster.up("--no-restart")
    until(lambda: len(cluster.alive()) == len(cluster.hosts), "a host joins", JOIN_S)


def _carried(cable: str) -> int:
    """Bytes so far, both ways."""
    folder = Path("/sys/class/net") / cable / "statistics"
    return sum(int((folder / name).read_text()) for name in ("rx_bytes", "tx_bytes"))
