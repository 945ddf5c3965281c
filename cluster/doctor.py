"""`rayfeed doctor`: what is wrong here, and what to do about it, with and without a running instance. Whatever it looks
at may hang: each part works in a thread of its own and is left behind when the time is over.
"""

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cluster import doctor_instance
from cluster.asking import supervisor
from cluster.doctor_findings import Finding, as_dict, shown, warning, without_doubles, worst, wrong
from cluster.doctor_installed import installed
from cluster.doctor_machine import machine
from cluster.instance import Details, Instance, InstanceError, RunningInstance
from cluster.options import AsJson, Data
from cluster.serving import replicas
from cluster.terminal import terminal
from config import Settings, SettingsError, load

#: All parts together have so long.
LIMIT_S: Final = 15.0
_CLOCKS_S: Final = 4.0

Part = Callable[[], Iterable[Finding]]


def doctor(
    data: Data = Path("data"),
    source: Annotated[str | None, typer.Option(help="As it would be started: sim, live or replay:DIR")] = None,
    port: Annotated[int | None, typer.Option(help="As it would be started.")] = None,
    tls_port: Annotated[int | None, typer.Option(help="As it would be started.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is wrong here and what to do about it; exit status 1 when something is."""
    running, findings = examined(data, {"source": source, "port": port, "tls_port": tls_port})
    if as_json:
        typer.echo(json.dumps(as_dict(findings, running is not None)))
    else:
        what = f"rayfeed at {running.url} on {data}" if running else f"nothing runs on {data}"
        terminal().print(shown(findings, what))
    sys.stdout.flush()
    # A part that hangs would keep us, in calls no exception reaches.
    code = int(worst(findings) == "wrong")
    if any(thread.name == _THREAD and thread.is_alive() for thread in threading.enumerate()):
        os._exit(code)
    raise typer.Exit(code)


def examined(data: Path, overrides: Mapping[str, Any] | None = None) -> tuple[Details | None, list[Finding]]:
    """The details of the instance that runs, if one does, and all that was found, in the order to show it."""
    # It tells each failure with its trace; what matters of it is in our own words.
    logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)
    try:
        settings = load(data, overrides)
    except SettingsError as error:
        return None, [wrong("settings", "settings", str(error), "mend DATA/settings.yaml or the environment")]
    found: list[Finding] = []
    running: RunningInstance | None = None
    try:
        running = Instance.read(settings.data)
    except InstanceError as error:
        found.append(
            wrong("instance", "instance", str(error), "stop that process, or choose another folder with --data")
        )
    details = None if running is None else running.details
    if running is not None and details is None:
        found.append(warning("instance", "instance", f"{running}", "ask again in a moment"))
    parts: dict[str, Part] = {
        "machine": lambda: machine(settings, running is not None),
        "checkout": lambda: installed(settings),
        "reachability": lambda: _reach(settings, details),
    }
    if details is not None:
        known = details
        parts["instance"] = lambda: _instance(data, known, settings)
    return details, without_doubles([*found, *_all(parts)])


_THREAD: Final = "doctor"


def _all(parts: Mapping[str, Part]) -> list[Finding]:
    """What each part found until the time was over."""
    found: dict[str, list[Finding]] = {name: [] for name in parts}

    def work(name: str, part: Part) -> None:
        try:
            for finding in part():
                found[name].append(finding)
        except InstanceError as error:
            remedy = "ask again in a moment; if this stays: rayfeed down, and start it again"
            found[name].append(wrong("instance", "instance", str(error), remedy))
        except Exception as error:  # noqa: BLE001 - the other parts have something to say all the same
            remedy = "this check failed itself: please report it"
            found[name].append(warning(name, "check", f"{type(error).__name__}: {error}", remedy))

    threads = {
        name: threading.Thread(target=work, args=(name, part), name=_THREAD, daemon=True)
        for name, part in parts.items()
    }
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + LIMIT_S
    for name, thread in threads.items():
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            remedy = _HANGS[name]
            found[name].append(wrong(name, "time", f"not done after {LIMIT_S:g} s", remedy))
    return [finding for own in found.values() for finding in tuple(own)]


_HANGS: Final = {
    "machine": "a disk that does not answer holds up whoever touches it: look at the kernel's log (dmesg)",
    "checkout": "a disk that does not answer holds up whoever touches it: look at the kernel's log (dmesg)",
    "reachability": "something between drops what it does not like: look at the firewall",
    "instance": "it hangs, or the machine is overloaded: rayfeed status; then rayfeed down, and start it again",
}


def _reach(settings: Settings, details: Details | None) -> Iterable[Finding]:
    # Its clients take a tenth of a second to import, which no other command is to wait for.
    from cluster.doctor_reach import reach

    return asyncio.run(reach(settings, details))


def _instance(data: Path, details: Details, settings: Settings) -> Iterable[Finding]:
    with supervisor(data) as ask:
        said, symbols = ask("status"), ask("integrity")
        yield from doctor_instance.instance(said, symbols, settings, details.source, time.time_ns())
        yield from doctor_instance.replicas(replicas())
        import ray

        nodes = ray.nodes()
        yield from doctor_instance.hosts(nodes, clocks(nodes, ray.get_runtime_context().get_node_id()))


def clocks(nodes: Iterable[Mapping[str, Any]], here: str) -> dict[str, float]:
    """By address of hosts other than `here` (an id of Ray), how many ms their clock is ahead of ours; those that answer
    in time."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    others = {one["NodeID"]: one["NodeManagerAddress"] for one in nodes if one["Alive"] and one["NodeID"] != here}

    def clock_ns() -> int:
        return time.time_ns()

    ask = ray.remote(num_cpus=0)(clock_ns)
    placed = {
        node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)) for node in others
    }
    # The first answer has the start of a process in it.
    first = {node: asked.remote() for node, asked in placed.items()}
    ready, _ = ray.wait(list(first.values()), num_returns=len(first), timeout=_CLOCKS_S) if first else ([], [])
    found = {}
    for node in (node for node, reference in first.items() if reference in ready):
        began = time.time_ns()
        try:
            said = ray.get(placed[node].remote(), timeout=_CLOCKS_S)
        except ray.exceptions.RayError:
            continue
        found[others[node]] = (said - (began + time.time_ns()) / 2) / 1e6
    return found
