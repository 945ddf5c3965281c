"""Between the collector and the exchange: WebSockets and REST without sockets, on which messages are late, lost,
doubled and out of order, connections are cut, refused or fall silent, and REST fails.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, Self
from unittest.mock import patch

import picows

from actors import exchange_connection, rest_client
from actors.feeds.feed import RestRequest
from tests.dst.exchange import Exchange
from tests.dst.process import CURRENT, Process

_LATENCY_S: Final = 0.02
_REST_LATENCY_S: Final = 0.2


@dataclass(slots=True)
class Weather:
    """How likely each message is lost, doubled, or overtaken; and each request over REST not answered."""

    lost: float = 0.0
    doubled: float = 0.0
    overtaken: float = 0.0
    rest_lost: float = 0.0
    refuses: bool = False
    #: Nothing comes, on connections that live.
    silent: bool = False
    rest_away: bool = False


class Frame:
    """As picows gives it."""

    __slots__ = ("_payload",)
    msg_type = picows.WSMsgType.TEXT
    fin = True
    last_in_buffer = True

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def get_payload_as_bytes(self) -> bytes:
        return self._payload


class Transport:
    """One connection, as picows gives it; also what the exchange knows of its client."""

    def __init__(self, network: "Network", listener: Any, process: Process) -> None:
        self._network = network
        self._listener = listener
        self._process = process
        self._left = asyncio.get_running_loop().create_future()
        self._paused = False
        self._waiting: list[bytes] = []
        self._last_s = {False: 0.0, True: 0.0}
        self.streams: set[str] = set()
        self.is_disconnected = False
        self.close_handshake = None
        self.underlying_transport = SimpleNamespace(
            pause_reading=lambda: self._pause(True), resume_reading=lambda: self._pause(False)
        )

    # ---- the client's side

    def send(self, kind: Any, message: bytes) -> None:
        if not self.is_disconnected:
            self._network.carry(self, message, self._asked, True)

    def send_close(self, code: Any, message: Any = None) -> None:
        pass

    def disconnect(self, graceful: bool = True) -> None:
        self.is_disconnected = True
        if not self._left.done():
            self._left.set_result(None)
        self._network.transports.pop(self, None)

    async def wait_disconnected(self) -> None:
        await asyncio.shield(self._left)

    def notify_user_specific_pong_received(self) -> None:
        pass

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        if not paused:
            waiting, self._waiting = self._waiting, []
            for payload in waiting:
                self._arrived(payload)

    # ---- the exchange's side

    def tell(self, message: str) -> None:
        self._network.carry(self, message.encode(), self._arrived, False)

    def at(self, there: bool, latency_s: float, in_order: bool) -> float:
        """When a message arrives that is sent now."""
        now = asyncio.get_running_loop().time()
        at = now + latency_s
        if in_order:
            at = self._last_s[there] = max(at, self._last_s[there] + 1e-6)
        return at

    def _asked(self, message: bytes) -> None:
        if self.is_disconnected:
            return
        asked = json.loads(message)
        names = {name.removesuffix("@100ms") for name in asked["params"]}
        self.streams = self.streams | names if asked["method"] == "SUBSCRIBE" else self.streams - names
        self.tell(f'{{"result":null,"id":{asked["id"]}}}')

    def _arrived(self, payload: bytes) -> None:
        if not self._process.alive or self.is_disconnected:
            return
        if self._paused:
            self._waiting.append(payload)
        else:
            self._listener.on_ws_frame(self, Frame(payload))


class Network:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.exchange: Exchange
        self.weather = Weather()
        self.transports: dict[Transport, None] = {}
        self.counts: Counter[str] = Counter()

    @contextmanager
    def installed(self) -> Iterator[None]:
        with ExitStack() as patched:
            patched.enter_context(patch.object(exchange_connection.picows, "ws_connect", self._connect))
            for name, method in (("__aenter__", _entered), ("__aexit__", _left), ("_get", self._rest)):
                patched.enter_context(patch.object(rest_client.RestClient, name, method))
            yield

    def publish(self, stream: str, frame: str) -> None:
        for transport in self.transports:
            if stream in transport.streams:
                transport.tell(frame)

    def cut(self, process: Process | None = None) -> None:
        """End all connections, or those of a process."""
        for transport in [one for one in self.transports if process is None or one._process is process]:
            transport.disconnect()

    def carry(self, transport: Transport, message: bytes, arrived: Any, there: bool) -> None:
        chance, weather = self._chance, self.weather
        if weather.silent or chance.random() < weather.lost:
            self.counts["messages lost"] += 1
            return
        loop = asyncio.get_running_loop()
        overtaken = chance.random() < weather.overtaken
        latency_s = _LATENCY_S * (0.5 + chance.random()) + (chance.random() if overtaken else 0.0)
        loop.call_at(transport.at(there, latency_s, not overtaken), arrived, message)
        self.counts["messages overtaken"] += overtaken
        if chance.random() < weather.doubled:
            self.counts["messages doubled"] += 1
            loop.call_at(transport.at(there, latency_s + chance.random(), False), arrived, message)

    async def _connect(self, make: Any, url: str, **_: Any) -> tuple[Transport, Any]:
        process = CURRENT.get()
        assert process is not None
        listener = make()
        await asyncio.sleep(_LATENCY_S * (1 + self._chance.random()))
        if self.weather.refuses:
            raise ConnectionRefusedError("the exchange refuses")
        transport = Transport(self, listener, process)
        self.transports[transport] = None
        listener.on_ws_connected(transport)
        return transport, listener

    async def _rest(self, request: RestRequest) -> bytes:
        chance, weather = self._chance, self.weather
        await asyncio.sleep(_REST_LATENCY_S * chance.random())
        if weather.rest_away or chance.random() < weather.rest_lost:
            self.counts["requests lost"] += 1
            if chance.random() < 0.2:
                await asyncio.sleep(rest_client.TIMEOUT_S)
            raise rest_client._Again(f"{request.path}: away")
        status, body = self.exchange.rest(request.path)
        await asyncio.sleep(_REST_LATENCY_S * chance.random())
        if status != 200:
            raise rest_client.RestError(f"{request.path}: {status} {body.decode()}")
        return body


async def _entered(self: Any) -> Self:  # type: ignore[misc]
    return self  # type: ignore[no-any-return]


async def _left(self: Any, *_: object) -> None:
    pass
