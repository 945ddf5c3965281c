"""The disks of the other hosts of an instance, as commands that prove something ask for them: which there are by the
placement, and who reads each. One that does not answer is said so by its name; nobody passes over it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import typer

from actors.placed_disks import called, names_of_others
from actors.placement import Series
from cluster.asking import Ask, ends_with, supervisor
from cluster.instance import Instance, InstanceError
from config import Settings
from storage.audit import Trades
from storage.audit_files import Place
from storage.audit_symbol import Known, Row
from storage.column_verify import Summary
from storage.ledger_log import Record

#: Who reads a disk says within this that it is there; an answer itself may take minutes.
ANSWER_S: Final = 10.0
_LOOK_S: Final = 5.0


class HostAway(Exception):
    """A host does not answer."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} does not answer")


class OtherDisk:
    """The disk of another host, called `host`; `reader` is the handle of its `DataNode`, None where there is none.
    Every question raises `HostAway`, and what the `DataNode` raises. Its trades are a `storage.audit_files.Side`."""

    def __init__(self, disk: str, host: str, reader: Any) -> None:
        self.disk = disk
        self.host = host
        self._reader = reader

    def trade_counts(self) -> dict[Series, int]:
        found: dict[Series, int] = self._answer("trade_counts")
        return found

    def ledger(self, symbols: list[Series]) -> list[Record]:
        found: list[Record] = self._answer("ledger", symbols)
        return found

    def count(self, exchange: str, symbol: str, known: Known) -> Row:
        row: Row = self._answer("audit", exchange, symbol, known)
        return row

    def begins(self, exchange: str, symbol: str) -> set[int]:
        found: set[int] = self._answer("trade_begins", exchange, symbol)
        return found

    def trades(self, exchange: str, symbol: str, from_ns: int, to_ns: int) -> Trades:
        found: Trades = self._answer("trades", exchange, symbol, from_ns, to_ns)
        return found

    def oldest(self, exchange: str, symbol: str) -> Place | None:
        return self._ends(exchange, symbol)[0]

    def newest(self, exchange: str, symbol: str) -> Place | None:
        return self._ends(exchange, symbol)[1]

    def verify(self) -> Summary:
        found: Summary = self._answer("verify")
        return found

    def _ends(self, exchange: str, symbol: str) -> tuple[Place | None, Place | None]:
        found: tuple[Place | None, Place | None] = self._answer("trade_ends", exchange, symbol)
        return found

    def _answer(self, method: str, *arguments: Any) -> Any:
        import ray

        if self._reader is None:
            raise HostAway(self.host)
        try:
            answer = getattr(self._reader, method).remote(*arguments)
            while not ray.wait([answer], timeout=_LOOK_S)[0]:
                ray.get(self._reader.status.remote(), timeout=ANSWER_S)
            return ray.get(answer)
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError:
            raise HostAway(self.host) from None


class Beside(NamedTuple):
    """What this host is called ("" where there is no other disk), the disks of the others, whose hosts are there or
    not, and how the supervisor is asked meanwhile, if it answers."""

    host: str
    disks: list[OtherDisk]
    ask: Ask | None = None


@contextmanager
def disks_beside(settings: Settings, data: Path) -> Iterator[Beside]:
    """The other disks of a running instance. While nothing runs nobody can ask them: then there are none, and the user
    is told so."""
    disks = names_of_others(settings)
    running = Instance.read(data.absolute()) if disks else None
    if running is None or running.details is None:
        if disks:
            typer.echo(f"rayfeed: nothing runs: what is on {len(disks)} other disks is left out", err=True)
        yield Beside("", [])
        return
    with ExitStack() as stack:
        try:
            ask = stack.enter_context(supervisor(data))
        except InstanceError:
            yield Beside("this host", [away(disk) for disk in disks])
            return
        stack.enter_context(ends_with(data, running, ANSWER_S))
        import ray

        from actors.nodes import this_node

        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        yield Beside(addresses[this_node()], [_found(disk, addresses) for disk in disks], ask)


def away(disk: str) -> OtherDisk:
    """One that nobody reads now."""
    return OtherDisk(disk, called(disk), None)


def _found(disk: str, addresses: dict[str, str]) -> OtherDisk:
    import ray

    from actors.directory import find_actor, node_name

    try:
        reader = find_actor(node_name(disk))
        host = addresses[ray.get(reader.status.remote(), timeout=ANSWER_S)["node"]]
    except (KeyError, ValueError, ray.exceptions.RayError):
        return away(disk)
    # Where several nodes share a machine, the disk tells them apart.
    alone = list(addresses.values()).count(host) == 1
    return OtherDisk(disk, host if alone else f"{host} ({disk[:8]})", reader)
