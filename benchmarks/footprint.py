"""What the processes of an instance take: `python -m benchmarks.footprint [SECONDS]` starts one on the made-up market
of seven exchanges and prints, by kind of process, the memory that is theirs alone and the part of a core they use.
"""

import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.instance import running_instance

SECONDS = 30.0
#: Parts of a command line, and what the process is.
KINDS = {
    "ray::SymbolShard": "shard",
    "ray::Collector": "collector",
    "ray::LiveHub": "live hub",
    "ray::Database": "database (embedded ClickHouse)",
    "ray::Simulator": "simulator",
    "ray::ServeReplica:live": "live replica",
    "ray::ServeReplica:data": "data replica",
    "ray::ServeReplica:market": "market replica",
    "ray::ServeReplica:pages": "pages replica",
    "ray::Serve": "Serve's own",
    "ray::": "other actors",
    "redis-server": "redis (embedded)",
    "haproxy": "the edge, and Serve's",
    "raylet": "Ray's own",
    "gcs_server": "Ray's own",
    "dashboard": "Ray's own",
    "/ray/": "Ray's own",
}


def kind_of(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((kind for part, kind in KINDS.items() if part in line), "rayfeed up")


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder, running_instance(Path(folder), "sim"):
        [up] = [child for child in psutil.Process().children() if "rayfeed" in " ".join(child.cmdline())]
        family = [up, *up.children(recursive=True)]
        before = {process: sum(process.cpu_times()[:2]) for process in family}
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for process in family:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                used = (sum(process.cpu_times()[:2]) - before[process]) / took
                found[kind_of(process)].append((process.memory_full_info().uss / 1e6, used))
    table = Table("process", "how many", "MB each", "of a core, together", title=f"over {took:.0f} s")
    for kind, processes in sorted(found.items(), key=lambda item: -sum(one[0] for one in item[1])):
        memory, cpu = (sum(one[which] for one in processes) for which in (0, 1))
        table.add_row(kind, str(len(processes)), f"{memory / len(processes):.0f}", f"{cpu:.3f}")
    total = [sum(one[which] for processes in found.values() for one in processes) for which in (0, 1)]
    table.add_row("all", str(sum(map(len, found.values()))), f"{total[0]:.0f} together", f"{total[1]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
