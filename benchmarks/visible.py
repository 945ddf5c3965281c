"""How soon a bar that closed is in an answer over HTTP, while seven simulated exchanges trade."""

import http.client
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from benchmarks.instance import running_instance
from benchmarks.table import Bound, Row
from config import load

#: Of each exchange; the simulator, the collectors and everything else share the machine.
TRADES_PER_SECOND: Final = 500
#: Bars of a second that are waited for, after so many that are not counted.
BARS: Final = 120
UNCOUNTED: Final = 10
#: Longer than this is not waited for.
LATEST_S: Final = 5.0
PATH: Final = "/api/v1/charts/BTCUSDT?exchange=binance&timeframe=1s&limit=3"


def rows() -> list[Row]:
    """Milliseconds from the close of a bar, which is the end of its second and the grace, until it is seen."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load(folder)
        grace_s = settings.bars.grace_ms / 1000
        with running_instance(Path(folder), "sim", SIMULATOR__TRADES_PER_SECOND=TRADES_PER_SECOND) as url:
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10 * LATEST_S)
            began, before = time.time(), _stored(connection)
            waits = [_seen_after(connection) - grace_s for _ in range(UNCOUNTED + BARS)][UNCOUNTED:]
            traded = (_stored(connection) - before) / (time.time() - began)
    median, p99 = np.percentile(waits, [50, 99]) * 1000
    return [
        Row(
            "bar of a second: from its close until it is in an answer, p99",
            float(p99),
            "ms",
            bound=Bound(at_most=100),
            note=f"median {median:.0f} ms; {traded:,.0f} trades/s stored meanwhile, {len(waits)} bars",
        )
    ]


def _seen_after(connection: http.client.HTTPConnection) -> float:
    """Seconds from the end of the second that is running now until its bar is seen closed."""
    end = int(time.time()) + 1
    time.sleep(max(end - time.time(), 0.0))
    while True:
        bars = _get(connection, PATH)["bars"]
        now = time.time()
        if any(bar["time"] == (end - 1) * 1000 and bar["closed"] for bar in bars) or now - end > LATEST_S:
            return now - end


def _stored(connection: http.client.HTTPConnection) -> int:
    """Trades of all symbols that are stored."""
    return sum(row["trades"] or 0 for row in _get(connection, "/api/v1/integrity"))


def _get(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    answer = connection.getresponse()
    return json.loads(answer.read())
