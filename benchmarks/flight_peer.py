"""Arrow Flight as a peer of `/api/data`: a server that sends rows of one symbol-day from mapped column files, and
clients that ask it. The clients are threads of C++ in one process; a thread of its own asks over each connection.
"""

import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

from benchmarks.table import UnavailableError
from benchmarks.web_load import Load
from storage.column_layout import file_name
from storage.schema import COLUMNS

STARTED_WITHIN_S = 60.0


class _Server(flight.FlightServerBase):
    """A ticket is the first and the last second of a range, both included."""

    def __init__(self, folder: Path, day: int, columns: Sequence[str]) -> None:
        super().__init__("grpc://127.0.0.1:0")
        kinds = COLUMNS["TRADES"]
        found = {name: np.memmap(folder / file_name(name, day), kinds[name], "r") for name in {*columns, "time"}}
        self._time = found["time"]
        self._batch = pa.RecordBatch.from_arrays(
            [pa.Array.from_buffers(pa.from_numpy_dtype(kinds[name]), len(self._time), [None, pa.py_buffer(found[name])])
             for name in columns],
            list(columns),
        )  # fmt: skip

    def do_get(self, context: object, ticket: flight.Ticket) -> flight.RecordBatchStream:
        start, end = map(int, ticket.ticket.split())
        first = int(self._time.searchsorted(np.uint32(start)))
        last = int(self._time.searchsorted(np.uint32(end), "right"))
        rows = self._batch.slice(first, last - first)
        return flight.RecordBatchStream(pa.RecordBatchReader.from_batches(rows.schema, [rows]))


@contextmanager
def flight_server(folder: Path, day: int, columns: Sequence[str]) -> Iterator[str]:
    """The address of a server in a process of its own. Raises `UnavailableError` when it does not start."""
    command = [sys.executable, "-m", "benchmarks.flight_peer", str(folder), str(day), ",".join(columns)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(STARTED_WITHIN_S, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            timer.cancel()
            if not said:
                raise UnavailableError("Arrow Flight does not start")
            yield f"grpc://127.0.0.1:{said}"
        finally:
            timer.cancel()
            process.kill()


def flight_load(
    address: str, connections: int, seconds: int, ticket: Callable[[random.Random], tuple[int, int]]
) -> Load:
    """Ask as fast as it answers; each connection chooses its ranges by `ticket`."""
    took: list[list[float]] = [[] for _ in range(connections)]
    received = [0] * connections
    begin = time.perf_counter()

    def ask(number: int) -> None:
        chance = random.Random(number + time.time_ns())
        # Otherwise all clients of a process share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with flight.FlightClient(address, generic_options=options) as client:
            while (before := time.perf_counter()) - begin < seconds:
                start, end = ticket(chance)
                table = client.do_get(flight.Ticket(b"%d %d" % (start, end))).read_all()
                took[number].append(time.perf_counter() - before)
                received[number] += table.nbytes

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed, latencies = time.perf_counter() - begin, sorted(one for own in took for one in own)
    p50 = statistics.median(latencies) * 1e3
    return Load(elapsed, len(latencies), sum(received), 0, p50, latencies[len(latencies) * 99 // 100] * 1e3)


def fetched_rows(address: str, start: int, end: int) -> pa.Table:
    with flight.FlightClient(address) as client:
        return client.do_get(flight.Ticket(b"%d %d" % (start, end))).read_all()


def main(folder: str, day: str, columns: str) -> None:
    server = _Server(Path(folder), int(day), columns.split(","))
    print(server.port, flush=True)
    server.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
