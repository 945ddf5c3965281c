"""Plays a recording of one exchange through a real WebSocket and REST server, so that a collector connects,
subscribes and receives as it would outside.

A connection gets the recorded frames it subscribed to, in recorded order, from the first one on; then it stays
open. What is subscribed later on the same connection also plays from its first frame: what is due already comes at
once. A stream that is subscribed again on the same connection plays from its last snapshot up to where the connection
is, so that its book is right again. Every new connection starts from the beginning. The time between two recordings of
an exchange is played like any other. Recorded answers and notices are not replayed: the client gets answers to its own
messages.
"""

import asyncio
from collections import Counter
from contextlib import suppress

import aiohttp.web
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from yarl import URL

from actors import recorded_clock
from actors.simulator.captures import Recording
from actors.simulator.faults import Faults
from actors.simulator.loopback import LOOPBACK, LoopbackServers
from actors.simulator.player import Player
from actors.simulator.replay_clock import ReplayClock
from actors.simulator.session import HangUp, Known, Session
from actors.simulator.sessions import SESSIONS, session_at
from actors.simulator.tape import Tape

_Address = tuple[str, tuple[tuple[str, str], ...]]


class ReplayServer:
    """The servers of one recorded exchange, playing at the pace of `clock`."""

    def __init__(self, recording: Recording, clock: ReplayClock, faults: Faults | None = None) -> None:
        self._exchange = recording.exchange
        self._endpoint = recording.endpoint
        self._tape = Tape(recording)
        self._known = Known(frozenset(recording.symbols), self._tape.known_numbers)
        self._clock = clock
        self.faults = faults or Faults()
        self._players: set[Player] = set()
        #: Sent and total of the connection that has come furthest; a reconnect does not set it back.
        self._furthest = (0, len(self._tape.frames))
        self._finished_once = False
        self._rest = {_address(URL(target, encoded=True)): bodies for target, bodies in recording.rest.items()}
        #: How often each address was asked for.
        self._asked: Counter[_Address] = Counter()
        application = aiohttp.web.Application()
        application.router.add_get("/{path:.*}", self._serve_rest)
        self._servers = LoopbackServers(
            self._exchange, self._serve_connection, application, self.faults, recorded_clock.SUBPROTOCOL
        )

    def __repr__(self) -> str:
        sent, total = self._furthest
        return f"<ReplayServer {self._exchange} {sent}/{total} frames, {len(self._players)} connections>"

    async def start(self, host: str = LOOPBACK) -> tuple[str, str]:
        """Listen there; returns the addresses, WebSocket (with the path of the recorded protocol) and REST."""
        websocket, rest = await self._servers.open(host)
        return websocket + self._endpoint, rest

    async def stop(self) -> None:
        await self._servers.close()

    def progress(self) -> dict[str, int | bool]:
        """`frames` and `sent` are those of the connection that has come furthest (all frames of the recording
        before there is one); `finished`: some connection got all it subscribed to and none is still playing."""
        for player in self._players:
            self._note(player)
        sent, total = self._furthest
        playing = any(player.subscribed and not player.finished for player in self._players)
        finished = self._finished_once and not playing
        return {"frames": total, "sent": sent, "connections": len(self._players), "finished": finished}

    def _note(self, player: Player) -> None:
        self._finished_once |= player.finished
        if player.subscribed and player.sent >= self._furthest[0]:
            self._furthest = (player.sent, player.total)

    async def _serve_connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        target = connection.request.path
        session: Session = session_at(self._exchange, target)(target, self._known)
        player = Player(self._tape, session, connection, self._clock, self.faults)
        self._players.add(player)
        try:
            async with asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(_until_closed(player, connection))
                with suppress(ConnectionClosed):
                    await player.greet()
                    async for message in connection:
                        await player.answer(message)
                playing.cancel()
        finally:
            self._note(player)
            self._players.discard(player)

    async def _serve_rest(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = self._body(_address(request.rel_url))
        return aiohttp.web.Response(
            status=404 if body is None else 200,
            body=SESSIONS[self._exchange][0].not_found if body is None else body,
            content_type="application/json",
            charset="utf-8",
        )

    def _body(self, address: _Address) -> bytes | None:
        """What the exchange answered: the newest body that is due; where everything is due at once, one after the
        other, the last again and again."""
        bodies = self._rest.get(address)
        if bodies is None:
            return None
        if self._clock.speed:
            due = [body for t_ns, body in bodies if t_ns <= self._clock.due_ns]
            return due[-1] if due else bodies[0][1]
        self._asked[address] += 1
        return bodies[min(self._asked[address], len(bodies)) - 1][1]


def _address(url: URL) -> _Address:
    """Path and query, whatever the order of the parameters."""
    return url.path, tuple(sorted(url.query.items()))


async def _until_closed(player: Player, connection: ServerConnection) -> None:
    try:
        await player.run()
    except ConnectionClosed:
        pass
    except HangUp as goodbye:
        await connection.close(goodbye.code, goodbye.reason)
