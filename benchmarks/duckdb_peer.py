"""DuckDB makes one-minute bars, as a peer of `benchmarks.bars`; see `benchmarks.peers` for how it is asked.

Workloads are paths of Arrow files with trades. Open and close are decided by the time alone, which is less than we do.
"""

import json
import sys
import time

import duckdb
import pyarrow as pa

BARS = """
SELECT symbol, ts_event // 60000000000 AS minute, arg_min(price, ts_event) AS open, max(price) AS high,
    min(price) AS low, arg_max(price, ts_event) AS close, sum(size) AS volume, sum(price * size) AS quote_volume,
    count(*) AS trade_count, sum(CASE WHEN side = 0 THEN size ELSE 0 END) AS buy_volume
FROM trades GROUP BY ALL
"""
#: What it is without: nobody knows which trade is first where several threads read them.
FIRST_SEEN = BARS.replace("arg_min(price, ts_event)", "first(price)").replace("arg_max(price, ts_event)", "last(price)")


def main() -> None:
    tables = {name: pa.ipc.open_file(pa.memory_map(path)).read_all() for name, path in json.loads(input()).items()}
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    for line in sys.stdin:
        order = json.loads(line)
        connection.register("trades", tables[order["name"]])
        began = time.perf_counter()
        bars = connection.sql(FIRST_SEEN if order["first_seen"] else BARS).to_arrow_table()
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "bars": bars.num_rows, "trades": sum(bars["trade_count"].to_pylist())}))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
