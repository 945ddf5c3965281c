"""Small captures for tests, and what a client of a simulated exchange receives."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from actors.simulator.captures import Recording, read_captures
from actors.simulator.captures import recordings as recordings_of

BINANCE = "wss://stream.binance.com:9443/stream?streams=btcusdt@aggTrade/btcusdt@bookTicker"
COINBASE = "wss://ws-feed.exchange.coinbase.com"
START_NS = 1_700_000_000_000_000_000


def line(kind: str, data: str | None = None, after_ms: int = 0, url: str = BINANCE, **changed: Any) -> str:
    fields = {"t_ns": START_NS + after_ms * 1_000_000, "conn": "ws-1", "kind": kind, "url": url, "data": data}
    return json.dumps(fields | changed)


def trade(number: int, symbol: str = "BTCUSDT") -> str:
    event = {"e": "aggTrade", "E": 1, "s": symbol, "a": number, "p": "1.0", "q": "2.0", "T": 1, "m": True}
    return json.dumps({"stream": f"{symbol.lower()}@aggTrade", "data": event})


def write(folder: Path, lines: Iterable[str], name: str = "capture.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{text}\n" for text in lines))
    return path


def recorded(path: Path, kind: str = "recv") -> list[dict[str, Any]]:
    """The lines of a kind, read without the code under test."""
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    return [fields for fields in lines if fields["kind"] == kind]


async def receive(client: ClientConnection, count: int) -> list[str]:
    return [str(await client.recv()) for _ in range(count)]


async def drained(client: ClientConnection) -> list[str | bytes]:
    """All that comes until nothing does, not even with the answer to a ping."""
    received: list[str | bytes] = []
    while True:
        with suppress(TimeoutError):
            while True:
                received.append(await asyncio.wait_for(client.recv(), 0.2))
        await (await client.ping())
        try:
            received.append(await asyncio.wait_for(client.recv(), 0.02))
        except TimeoutError:
            return received


async def nothing_more_comes(client: ClientConnection) -> None:
    """The server answers a ping after everything it had to send; so nothing was on the way."""
    await (await client.ping())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.recv(), 0.05)


def recording_of(folder: Path, exchange: str) -> Recording:
    return next(one for one in recordings_of(read_captures(folder)) if one.exchange == exchange)
