"""Column files with known rows, and servers on loopback that answer from them."""

import asyncio
import contextlib
import http.client
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn

from serve_apps.data import DataApp, nobody_lists
from serve_apps.data_answers import DataAnswers
from serve_apps.data_lists import DataLists
from storage.column_layout import Column
from storage.column_reader import ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, RowType
from tests.polling import wait_until
from tests.serve_apps.asgi_client import Answer, ask

#: 2025-08-18 00:00:00 UTC, the first day with rows.
DAY = 1_755_475_200
DAY_SECONDS = 86_400


def made_rows(row_type: RowType, seconds: list[int] | Column, seed: int = 1) -> dict[str, Column]:
    """Rows at these ascending seconds, every column filled with bytes that tell rows apart."""
    random = np.random.default_rng(seed)
    time = np.asarray(seconds, "<u4")
    size = len(time)
    rows = {
        name: random.integers(0, 2**32, size * kind.itemsize // 4, "<u4").view(kind)
        for name, kind in COLUMNS[row_type].items()
    }
    identity = np.arange(size, dtype="<u8") + seed * 10_000_000
    rows |= {
        "time": time,
        "nanos": np.arange(size, dtype="<u4"),
        "side": random.integers(0, 2, size, "<u4"),
        ("id" if row_type == "TRADES" else "sequence"): identity,
    }
    return rows


def expected(rows: dict[str, Column], columns: list[str], start: int, end: int, stride: int = 1) -> bytes:
    """The binary part that answers for these rows, by the plainest reading of the contract."""
    keep = (rows["time"] >= start) & (rows["time"] <= end)
    return b"".join(rows[name][keep][::stride].tobytes() for name in columns)


@dataclass(frozen=True)
class Stored:
    root: Path
    rows: dict[tuple[str, str, RowType], dict[str, Column]]


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """Symbols of several exchanges; one of them over four days of which one is missing, with many rows in
    one second at the ends of days; one with more bytes than fit into a window of a large reply."""
    root = tmp_path_factory.mktemp("data") / "columns"
    days = [[0, 0, 10, 10, 10, 20, 86_399, 86_399], [0, 5, 86_399], [], [0, 100, 100, 43_200]]
    seconds = [DAY + day * DAY_SECONDS + second for day, day_seconds in enumerate(days) for second in day_seconds]
    rows: dict[tuple[str, str, RowType], dict[str, Column]] = {
        ("coinbase", "BTC-USD", "TRADES"): made_rows("TRADES", seconds, 1),
        ("coinbase", "BTC-USD", "MD"): made_rows("MD", [DAY + 1, DAY + 2, DAY + 2], 2),
        ("coinbase", "LARGE-USD", "TRADES"): made_rows("TRADES", DAY + np.arange(300_000) // 5, 3),
        ("kraken", "XBT_USD", "TRADES"): made_rows("TRADES", [DAY, DAY + 9], 4),
        ("bitfinex", "tAAVE:USD", "MD"): made_rows("MD", [DAY + 7], 5),
    }
    writer = ColumnWriter(root, 64)
    for (exchange, symbol, row_type), columns in rows.items():
        writer.append(exchange, symbol, row_type, columns)
    writer.close()
    # Beside the root, for names that try to leave it: a whole exchange, and one that is a symbol itself.
    decoy = root.parent / "decoy"
    shutil.copytree(root / "coinbase" / "BTC-USD", decoy / "BTC-USD")
    shutil.copytree(root / "coinbase" / "BTC-USD" / "TRADES", decoy / "TRADES")
    return Stored(root, rows)


@contextlib.contextmanager
def serving(app: Any) -> Iterator[int]:
    """The port on loopback where a real server runs `app` until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="on", log_level="warning", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


def data_app(reader: ColumnReader, max_reply_bytes: int, long_range_reader: ColumnReader | None = None) -> DataApp:
    """The data API over these readers."""
    return DataApp(DataAnswers(reader, max_reply_bytes, long_range_reader or reader), DataLists(reader, nobody_lists))


def fetch(port: int, target: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, target, headers={"Accept-Encoding": "identity"} | (headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def asked(app: Any, query: str) -> Answer:
    """The answer to GET /api/data without a server between."""
    return asyncio.run(ask(app, f"/api/data?{query}"))


def target(start: int, end: int, columns: str = "time,price", symbol: str = "BTC-USD", kind: str = "TRADES") -> str:
    return f"/api/data?symbol={quote(symbol, safe='')}&type={kind}&start={start}&end={end}&columns={columns}"
