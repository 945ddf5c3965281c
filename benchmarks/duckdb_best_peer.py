"""DuckDB finds the best bid and ask over exchanges, as a peer of `benchmarks.consolidated`; see `benchmarks.peers` for
how it is asked.

Workloads are paths of Arrow files with quotes. The newest quote is decided by the time alone, and every quote counts,
which is less than we do.
"""

import json
import sys
import time

import duckdb
import pyarrow as pa

BEST = """
SELECT symbol, max(bid) AS bid, min(ask) AS ask FROM (
    SELECT exchange, symbol, arg_max(bid_price, ts_event) AS bid, arg_max(ask_price, ts_event) AS ask
    FROM quotes GROUP BY ALL
) GROUP BY symbol
"""


def main() -> None:
    tables = {name: pa.ipc.open_file(pa.memory_map(path)).read_all() for name, path in json.loads(input()).items()}
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    for line in sys.stdin:
        connection.register("quotes", tables[json.loads(line)["name"]])
        began = time.perf_counter()
        best = connection.sql(BEST).to_arrow_table()
        seconds = time.perf_counter() - began
        sums = {name: sum(best[name].to_pylist()) for name in ("bid", "ask")}
        print(json.dumps({"seconds": seconds, "instruments": best.num_rows, **sums}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
