"""What a replay sends when subscriptions change while it plays."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import drained, line, nothing_more_comes, receive, recording_of
from tests.actors.simulator.conftest import Play

DERIBIT = "wss://www.deribit.com/ws/api/v2"
OKX = "wss://ws.okx.com:8443/ws/v5/public"

#: Of each exchange: the subscriptions of two books, what ends and begins the first one again, and what its frames hold.
BOOKS: dict[str, tuple[list[str], list[str], Callable[[str], bool]]] = {
    "bitfinex": (
        [
            '{"event":"subscribe","channel":"book","symbol":"tDOGUSD","prec":"P0","freq":"F0","len":"100"}',
            '{"event":"subscribe","channel":"book","symbol":"tBFTUSD","prec":"P0","freq":"F0","len":"100"}',
        ],
        [
            '{"event":"unsubscribe","chanId":225206}',
            '{"event":"subscribe","channel":"book","symbol":"tDOGUSD","prec":"P0","freq":"F0","len":"100"}',
        ],
        lambda text: text.startswith("[225206,"),
    ),
    "coinbase": (
        ['{"type":"subscribe","product_ids":["SKL-USD","BAND-BTC"],"channels":["level2"]}'],
        [
            '{"type":"unsubscribe","product_ids":["SKL-USD"],"channels":["level2"]}',
            '{"type":"subscribe","product_ids":["SKL-USD"],"channels":["level2"]}',
        ],
        lambda text: '"SKL-USD"' in text and '"channels"' not in text,
    ),
    "deribit": (
        [
            '{"jsonrpc":"2.0","id":1,"method":"public/subscribe","params":{"channels":'
            '["book.BTC-24SEP21-8000-P.100ms","book.BTC-31DEC21-34000-P.100ms"]}}'
        ],
        [
            '{"jsonrpc":"2.0","id":2,"method":"public/unsubscribe","params":{"channels":["book.BTC-24SEP21-8000-P.100ms"]}}',
            '{"jsonrpc":"2.0","id":3,"method":"public/subscribe","params":{"channels":["book.BTC-24SEP21-8000-P.100ms"]}}',
        ],
        lambda text: '"channel":"book.BTC-24SEP21-8000-P' in text,
    ),
    "kraken": (
        ['{"event":"subscribe","pair":["XMR/USD","GRT/ETH"],"subscription":{"name":"book","depth":1000}}'],
        [
            '{"event":"unsubscribe","pair":["XMR/USD"],"subscription":{"name":"book","depth":1000}}',
            '{"event":"subscribe","pair":["XMR/USD"],"subscription":{"name":"book","depth":1000}}',
        ],
        lambda text: text.endswith('"book-1000","XMR/USD"]'),
    ),
    "okx": (
        [
            '{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"},{"channel":"books","instId":"UNI-USD-SWAP"}]}'
        ],
        [
            '{"op":"unsubscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}',
            '{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}',
        ],
        lambda text: text.startswith('{"arg":{"channel":"books","instId":"BTC-USDT"}'),
    ),
}


def texts(received: Iterable[str | bytes]) -> list[str]:
    return list(map(str, received))


@pytest.mark.parametrize("exchange", BOOKS)
async def test_a_book_that_is_renewed_in_one_go_comes_again_from_its_snapshot(
    recordings: Path, play: Play, exchange: str
) -> None:
    subscriptions, renewal, is_mine = BOOKS[exchange]
    _, websocket, _ = await play(recording_of(recordings, exchange))
    async with connect(websocket, max_size=None) as client:
        for message in subscriptions:
            await client.send(message)
        first = texts(await drained(client))
        for message in renewal:
            await client.send(message)
        again = texts(await drained(client))
    book = [text for text in first if is_mine(text)]
    assert len(book) > 3
    assert len(first) > len(book) + len(subscriptions), "the other book comes too"
    assert [text for text in again if is_mine(text)] == book
    assert len(again) <= len(book) + len(renewal), "the other book goes on as it was"


async def test_numbers_of_a_connection_go_on_through_a_renewal(recordings: Path, play: Play) -> None:
    subscriptions, renewal, is_mine = BOOKS["bitfinex"]
    _, websocket, _ = await play(recording_of(recordings, "bitfinex"))
    async with connect(websocket) as client:
        for message in ('{"event":"conf","flags":65536}', *subscriptions):
            await client.send(message)
        received = texts(await drained(client))
        for message in renewal:
            await client.send(message)
        received += texts(await drained(client))
    numbers = [json.loads(text)[-1] for text in received if text.startswith("[")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [json.loads(text)[0] for text in received if is_mine(text)] == [225206] * sum(map(is_mine, received))


def okx(kind: str, number: int, after_ms: int, symbol: str = "A-B", name: str = "ws-1") -> str:
    text = json.dumps({"arg": {"channel": "books", "instId": symbol}, "action": kind, "data": [number]})
    return line("recv", text.replace(" ", ""), after_ms, OKX, conn=name)


def asked(symbols: str, after_ms: int = 0, name: str = "ws-1") -> str:
    args = [{"channel": "books", "instId": symbol} for symbol in symbols.split()]
    return line("send", json.dumps({"op": "subscribe", "args": args}), after_ms, OKX, conn=name)


async def ask(client: ClientConnection, operation: str, *symbols: str) -> None:
    args = [{"channel": "books", "instId": symbol} for symbol in symbols]
    await client.send(json.dumps({"op": operation, "args": args}))
    for _ in symbols:
        assert json.loads(await client.recv())["event"] == operation


async def numbers(client: ClientConnection, count: int) -> list[int]:
    return [json.loads(text)["data"][0] for text in await receive(client, count)]


async def test_a_stream_begins_again_at_its_last_snapshot_and_comes_up_to_now(tmp_path: Path, play: Play) -> None:
    kinds = ["snapshot", "update", "update", "snapshot", "update", "update"]
    capture_files.write(
        tmp_path, [asked("A-B"), *(okx(kind, number, number * 100_000) for number, kind in enumerate(kinds))]
    )
    now = 0.0
    _, websocket, _ = await play(recording_of(tmp_path, "okx"), 1, lambda: now)
    async with connect(websocket) as client:
        await ask(client, "subscribe", "A-B")
        assert await numbers(client, 1) == [0]
        now = 450
        await ask(client, "unsubscribe", "A-B")
        await ask(client, "subscribe", "A-B")
        # The connection had come to the first snapshot only: everything from there that is due.
        assert await numbers(client, 5) == [0, 1, 2, 3, 4]
        await ask(client, "unsubscribe", "A-B")
        await ask(client, "subscribe", "A-B")
        assert await numbers(client, 2) == [3, 4]
        now = 1000
        await client.send("ping")
        assert await client.recv() == "pong"
        assert await numbers(client, 1) == [5]
        await nothing_more_comes(client)


async def test_a_symbol_added_at_run_time_comes_from_its_beginning(tmp_path: Path, play: Play) -> None:
    lines = [asked("A-B C-D")]
    for number in range(4):
        kind = "snapshot" if number == 0 else "update"
        lines += [okx(kind, number, number * 100_000), okx(kind, 10 + number, number * 100_000 + 50_000, "C-D")]
    capture_files.write(tmp_path, lines)
    now = 0.0
    server, websocket, _ = await play(recording_of(tmp_path, "okx"), 1, lambda: now)
    async with connect(websocket) as client:
        await ask(client, "subscribe", "A-B")
        assert await numbers(client, 1) == [0]
        now = 170
        await ask(client, "subscribe", "C-D")
        assert await numbers(client, 3) == [10, 1, 11]
        now = 900
        await client.send("ping")
        assert await client.recv() == "pong"
        assert await numbers(client, 4) == [2, 12, 3, 13]
        assert server.progress() == {"frames": 8, "sent": 8, "connections": 1, "finished": True}


async def test_of_two_recorded_connections_the_later_snapshot_takes_over(tmp_path: Path, play: Play) -> None:
    """A planned reconnect: both connections have the book for a while."""
    lines = [asked("A-B"), okx("snapshot", 1, 0), okx("update", 2, 10), asked("A-B", 15, "ws-2")]
    lines += [okx("snapshot", 11, 20, name="ws-2"), okx("update", 3, 30), okx("update", 12, 40, name="ws-2")]
    # And one that began before the recording did.
    lines += [asked("E-F", 50), okx("update", 5, 60, "E-F"), okx("snapshot", 6, 70, "E-F"), okx("update", 7, 80, "E-F")]
    capture_files.write(tmp_path, lines)
    _, websocket, _ = await play(recording_of(tmp_path, "okx"))
    async with connect(websocket) as client:
        await ask(client, "subscribe", "A-B", "E-F")
        assert await numbers(client, 6) == [1, 2, 11, 12, 6, 7]
        await nothing_more_comes(client)


async def test_heartbeats_go_with_the_streams_of_their_connection(recordings: Path, play: Play) -> None:
    """Kraken was recorded on three connections, one for each channel."""
    _, websocket, _ = await play(recording_of(recordings, "kraken"))
    counted = {}
    for channel in ("trade", "ticker", "book"):
        subscription = {"name": channel, "depth": 1000} if channel == "book" else {"name": channel}
        async with connect(websocket, max_size=None) as client:
            await client.send(json.dumps({"event": "subscribe", "pair": ["GRT/ETH"], "subscription": subscription}))
            received = texts(await drained(client))
        counted[channel] = received.count('{"event":"heartbeat"}')
    assert counted == {"trade": 30, "ticker": 31, "book": 31}
