"""`python -m benchmarks [NAME...]`: run all benchmarks, or those named, and print one table.

Exits with 1 when a bound that could be measured was missed.
"""

import importlib
import os
import signal
import sys

from rich.console import Console

from benchmarks.table import Row, UnavailableError, show

MODULES = [
    "decode",
    "books",
    "data_api",
    "edge",
    "front_door",
    "collector",
    "columns",
    "backup",
    "ledger",
    "bars",
    "quality",
    "consolidated",
    "redis",
    "clickhouse",
    "indicators",
    "features",
    "backtest",
    "whole_path",
    "visible",
    "live",
    "symbols",
]
#: Those that take minutes run only when they are named.
LONG = ["fuzz", "scale"]


def rows_of(name: str) -> list[Row]:
    """The rows of one benchmark module; a row that says what is missing where it cannot run."""
    try:
        found: list[Row] = importlib.import_module(f"benchmarks.{name}").rows()
    except (UnavailableError, ModuleNotFoundError) as missing:
        return [Row(name, None, note=f"not measured: {missing}")]
    return found


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in (*MODULES, *LONG)]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join([*MODULES, *LONG])}", file=sys.stderr)
        return 2
    # Benchmarks end the processes they start while the stack unwinds; by default this signal would skip that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rows: list[Row] = []
    for name in names or MODULES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += rows_of(name)
    # Piped output has no width of its own; a table cut at 80 columns is of no use.
    show(rows, Console(width=None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "160"))))
    return 1 if any(row.held is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
