"""Connections that are lost, refused or silent: what was lost is said at once, and comes back by itself."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha1
from itertools import pairwise
from pathlib import Path

import pytest

from actors import connection
from actors.collector import Collector
from actors.endpoint import Endpoint
from cluster.certificate import self_signed
from config import Settings
from tests.actors.exchanges import NOWHERE, BinanceServer, Kept, collecting, epochs, limit, live, synced
from tests.polling import until

SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return live(tmp_path)


async def said(collector: Collector, text: str) -> bool:
    return text in str((await collector.status())["last_error"])


async def test_books_of_a_lost_connection_are_stale_at_once_and_built_again_on_the_next(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint(), kept) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.refusing = (503, {})
        server.cut()

        async def stale() -> bool:
            return bool((await collector.status())["book_states"] == {"stale": 2})

        await until(stale, 1.0)
        (books,) = await collector.book()
        assert books.column("state").to_pylist() == ["stale", "stale"]
        assert books.column("bids").to_pylist() == [[], []], "and nobody is served what they held"
        status = await collector.status()
        assert (status["state"], status["subscribed"]) == ("waiting", [])
        assert {row["state"] for row in await collector.symbols()} == {"waiting"}

        missed = dict(server.traded)
        server.refusing = None
        await until(lambda: synced(collector, *SYMBOLS))
        assert await epochs(collector) == dict.fromkeys(SYMBOLS, 2)
        assert server.methods("SUBSCRIBE") == [(1, SYMBOLS), (2, SYMBOLS)]
        await until(lambda: max(kept.ids_of("ETHUSDT"), default=0) > missed["ETHUSDT"])
        assert (await collector.status())["connects"] == 2


async def test_what_came_before_a_loss_is_handed_over(settings: Settings) -> None:
    kept = Kept()
    async with BinanceServer(["BTCUSDT"]) as server:
        server.moving = False
        async with collecting(settings, server.endpoint(), kept):
            await until(lambda: server.subscribed.get(1) == {"BTCUSDT"})
            for _ in range(500):
                server.move("BTCUSDT")
            server.clients[1].transport.close()
            await until(lambda: len(kept.ids) == 500)
    assert kept.ids == list(range(1, 501))


async def test_attempts_come_further_and_further_apart(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.05)
    async with BinanceServer(SYMBOLS) as server:
        server.refusing = (503, {})
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: len(server.attempts) == 6)
            assert await said(collector, "503")
            waits = [later - earlier for earlier, later in pairwise(server.attempts)]
            assert all(wait >= 0.05 * 2**number / 2 for number, wait in enumerate(waits))
            server.refusing = None
            await until(lambda: synced(collector, *SYMBOLS))


async def test_an_exchange_that_says_when_to_come_back_is_not_asked_before(settings: Settings) -> None:
    async with BinanceServer(SYMBOLS) as server:
        server.refusing = (429, {"Retry-After": "2"})
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: len(server.attempts) == 1)
            server.refusing = None
            await until(lambda: said(collector, "429"))
            await until(lambda: synced(collector, *SYMBOLS))
            assert server.attempts[1] - server.attempts[0] >= 2.0


async def test_silence_on_an_open_socket_is_a_loss_and_named_as_such(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", silence_s=0.4)
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.silent = True
        await until(lambda: 1 in server.closed)
        await until(lambda: said(collector, "nothing received"))
        server.silent = False
        await until(lambda: synced(collector, *SYMBOLS))
        assert await epochs(collector) == dict.fromkeys(SYMBOLS, 2)


async def test_an_encrypted_connection_that_fell_silent_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings
) -> None:
    certificate = self_signed(tmp_path, "localhost", datetime.now(UTC))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    limit(monkeypatch, "binance", silence_s=0.4)
    async with BinanceServer(SYMBOLS, certificate=certificate) as server:
        async with collecting(settings, server.endpoint()) as collector:
            await until(lambda: synced(collector, *SYMBOLS))
            # It will not even hear that we leave; TLS would wait half a minute for its good-bye.
            server.silent = True
            server.clients[1].transport.pause_reading()
            await until(lambda: 2 in server.opened)
            server.silent = False
            await until(lambda: synced(collector, *SYMBOLS))


async def test_a_subscription_nobody_answers_is_asked_again_and_then_reported(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    limit(monkeypatch, "binance", answer_s=0.2)
    async with BinanceServer(SYMBOLS) as server:
        server.silent = True
        async with collecting(settings, server.endpoint()) as collector:

            async def reported() -> bool:
                return bool((await collector.status())["unanswered"] == sorted(SYMBOLS))

            await until(reported)
            assert len(server.methods("SUBSCRIBE")) == connection.ATTEMPTS


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x81\x84\x00\x00\x00\x00{}{}", "masked"),
        (b"\xf1\x02{}", "connection lost"),
        (b"\x83\x02{}", "opcode"),
        (b"\x81\x7f" + struct.pack(">Q", 1 << 40), "exceeding"),
        (b"\x88\x04\x0f\xa4hi", "hi"),
        (b"\x88\x00", "connection lost"),
    ],
    ids=["masked", "reserved bits", "unknown opcode", "a terabyte", "private close code", "close without a code"],
)
async def test_what_is_no_websocket_frame_costs_one_connection_and_not_the_collector(
    settings: Settings, frame: bytes, reason: str
) -> None:
    async with BinanceServer(SYMBOLS) as server, collecting(settings, server.endpoint()) as collector:
        await until(lambda: synced(collector, *SYMBOLS))
        server.moving = False
        server.clients[1].transport.write(frame)
        if reason == "connection lost" and frame[0] == 0xF1:
            # A frame of an extension nobody agreed on: what it holds is not used, whatever becomes of the connection.
            server.clients[1].transport.write(b"\x88\x00")
        await until(lambda: 1 in server.closed)
        await until(lambda: said(collector, reason))
        server.moving = True
        await until(lambda: synced(collector, *SYMBOLS))
        status = await collector.status()
        assert (status["running"], status["failure"], len(server.opened)) == (True, "", 2)


@asynccontextmanager
async def listening(
    answer: bytes | None,
) -> AsyncIterator[tuple[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]]:
    """Something that is no exchange: says this and hangs up, or nothing at all; and whom it has met."""
    met: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append((reader, writer))
        if answer is not None:
            writer.write(answer)
            writer.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", met
    server.close()
    for _, writer in met:
        writer.close()
    await server.wait_closed()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nhello", b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_what_is_no_exchange_is_named_and_tried_again(settings: Settings, answer: bytes) -> None:
    async with listening(answer) as (address, met):
        async with collecting(settings, Endpoint(f"ws://{address}", NOWHERE, SYMBOLS)) as collector:
            await until(lambda: len(met) > 1)
            await until(lambda: said(collector, f"cannot connect to ws://{address}: "))
            status = await collector.status()
            assert (status["running"], status["failure"], status["connects"]) == (True, "", 0)


async def test_a_plain_server_where_an_encrypted_one_should_be_is_named(settings: Settings) -> None:
    async with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (address, _met):
        async with collecting(settings, Endpoint(f"wss://{address}", NOWHERE, SYMBOLS)) as collector:
            await until(lambda: said(collector, f"cannot connect to wss://{address}: "))
            assert (await collector.status())["running"]


async def test_a_handshake_that_ends_after_the_collector_stopped_leaves_no_connection_behind(
    settings: Settings,
) -> None:
    async with listening(None) as (address, met):
        async with collecting(settings, Endpoint(f"ws://{address}", NOWHERE, SYMBOLS)):
            await until(lambda: len(met) == 1)
            reader, writer = met[0]
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line for line in request.split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
        accept = base64.b64encode(sha1(f"{key[19:]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade"
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        assert await asyncio.wait_for(reader.read(), 3) == b"", "the other side is gone"
