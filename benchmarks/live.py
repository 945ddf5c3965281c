"""The live feed with 5,000 WebSocket clients of one conflated update a second each and one that never reads, while
10,000 trades a second come in: how soon a trade is at a client that gets every one. The hub is an actor of Ray, the
feed a server on a port; collectors and Serve are left out.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import psutil
import pyarrow as pa
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from benchmarks.table import Bound, Row
from config import load
from storage.schema import QUOTES, TRADES

CLIENTS: Final = int(os.environ.get("LIVE_CLIENTS", "5000"))
TRADES_PER_SECOND: Final = 10_000
BATCH_S: Final = 0.01
SYMBOLS: Final = tuple(f"S{number}USDT" for number in range(20))
SETTLE_S: Final = 5.0
MEASURED_S: Final = 20.0
#: Connections that are opened at once.
AT_ONCE: Final = 50


def rows() -> list[Row]:
    """Milliseconds from a trade received to a subscriber's message, and what became of the others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        seen = asyncio.run(_measure(port, psutil.Process(server.pid)))
    finally:
        server.terminate()
        server.wait(20)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    median, p99 = np.percentile(seen.latencies_ms, [50, 99])
    return [
        Row(
            f"live feed: a trade until it is at a client, p99, {CLIENTS:,} others connected",
            float(p99),
            "ms",
            bound=Bound(at_most=50),
            note=f"median {median:.1f} ms; {seen.trades_per_s:,.0f} trades/s",
        ),
        Row(
            "live feed: conflated updates a second, of each client",
            seen.updates_per_client,
            bound=Bound(at_least=0.9, at_most=1.1),
            note=f"{seen.lost} disconnected; who never reads: {seen.stuck}",
        ),
        Row("live feed: memory of the server grew by", seen.grew_mb, "MB", bound=Bound(at_most=200)),
    ]


class Counting(WSListener):  # type: ignore[misc]
    """Subscribes and counts; of one that gets every trade also how long each took."""

    def __init__(self, subscribe: dict[str, Any], counts: SimpleNamespace, timed: bool) -> None:
        self._subscribe = json.dumps(subscribe).encode()
        self._counts = counts
        self._timed = timed

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, self._subscribe)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        content = frame.get_payload_as_bytes()
        if not content.startswith(b'{"type":"update"'):
            return
        if not self._timed:
            self._counts.updates += 1
        elif self._counts.measuring:
            now = time.time_ns()
            self._counts.received += [now - trade["ts_recv"] for trade in json.loads(content)["data"]]

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._counts.lost += 1


async def _measure(port: int, server: psutil.Process) -> SimpleNamespace:
    counts = SimpleNamespace(updates=0, lost=0, received=[], measuring=False)
    url = f"ws://127.0.0.1:{port}/ws"

    async def connect(topic: str, timed: bool = False, **more: Any) -> Any:
        subscribe = {"type": "subscribe", "topics": [topic], **more}
        return (await ws_connect(lambda: Counting(subscribe, counts, timed), url, websocket_handshake_timeout=60))[0]

    before = server.memory_info().rss
    every = await connect("trades:binance", timed=True)
    open_ones = []
    for begin in range(0, CLIENTS, AT_ONCE):
        some = range(begin, min(begin + AT_ONCE, CLIENTS))
        topics = [f"quotes:binance:{SYMBOLS[number % len(SYMBOLS)]}" for number in some]
        open_ones += await asyncio.gather(*(connect(topic, rate=1) for topic in topics))
    with socket.create_connection(("127.0.0.1", port)) as stuck:
        await asyncio.to_thread(_never_read, stuck, port)
        await asyncio.sleep(SETTLE_S)
        counts.measuring, counts.updates, began = True, 0, time.monotonic()
        await asyncio.sleep(MEASURED_S)
        counts.measuring, took = False, time.monotonic() - began
        updates, lost = counts.updates, counts.lost
        grew = server.memory_info().rss - before
        said = "disconnected" if _is_closed(stuck) else "still connected"
    for transport in (every, *open_ones):
        transport.disconnect()
    return SimpleNamespace(
        latencies_ms=np.array(counts.received) / 1e6,
        trades_per_s=len(counts.received) / took,
        updates_per_client=updates / took / CLIENTS,
        lost=lost,
        stuck=said,
        grew_mb=grew / 1e6,
    )


def _never_read(stuck: socket.socket, port: int) -> None:
    lines = (
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    )
    stuck.sendall("\r\n".join(lines).encode())
    # What comes with the request is not part of the conversation.
    while b"\r\n\r\n" not in stuck.recv(4096):
        pass
    said = b'{"type":"subscribe","topics":["trades:binance"]}'
    # Masked with zeros.
    stuck.sendall(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)


def _is_closed(stuck: socket.socket) -> bool:
    """What was sent before it was closed is read first."""
    stuck.settimeout(2)
    try:
        while content := stuck.recv(1 << 20):
            if b"\x03\xf5you" in content:
                return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


async def _serve(folder: str) -> None:
    import ray
    import uvicorn

    from actors.directory import LIVE_HUB, NAMESPACE
    from actors.live_asked import AskedActors
    from actors.live_hub import LiveHub
    from actors.live_offers import ReceivedOffers
    from actors.starting import start_actor
    from serve_apps.live import LiveApp
    from serve_apps.live_source import Actors

    settings = load(folder).live_feed
    options = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    ray.init(num_cpus=2, namespace=NAMESPACE, _temp_dir=folder, **options)
    hub = start_actor(LIVE_HUB, LiveHub, settings, ["binance"], AskedActors())
    app = LiveApp(settings, Actors(dict), dict)
    config = uvicorn.Config(
        app, port=0, log_level="warning", ws="websockets-sansio", ws_per_message_deflate=False, loop="none"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has nothing to await
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    trading = asyncio.create_task(_trade(ReceivedOffers(hub)))
    await serving
    trading.cancel()
    ray.shutdown()


async def _trade(offers: Any) -> None:
    count = int(TRADES_PER_SECOND * BATCH_S)
    traded, due = 0, time.monotonic()
    while True:
        now = np.full(count, time.time_ns())
        every = np.arange(len(SYMBOLS))
        codes = np.arange(traded, traded + count) % len(SYMBOLS)
        ids = np.arange(traded, traded + count)
        columns = {"ts_event": now, "ts_recv": now, "trade_id": ids, "price": ids + 0.5, "size": ids + 0.5}
        trades = _batch(TRADES, codes, {**columns, "side": np.zeros(count, np.uint8)})
        prices = dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), every + 0.5)
        times = {name: now[: len(every)] for name in ("ts_event", "ts_recv", "sequence")}
        offers.received("binance", SimpleNamespace(trades=trades, quotes=_batch(QUOTES, every, prices | times)))
        traded += count
        due += BATCH_S
        await asyncio.sleep(max(due - time.monotonic(), 0))


def _batch(schema: pa.Schema, codes: Any, columns: dict[str, Any]) -> pa.RecordBatch:
    columns = {"symbol": pa.DictionaryArray.from_arrays(codes.astype(np.int32), list(SYMBOLS)), **columns}
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(codes), field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


if __name__ == "__main__":
    import uvloop

    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        uvloop.run(_serve(folder))
