"""What goes wrong on purpose at one simulated exchange, so that tests see how its clients take it."""

import asyncio
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection


class Faults:
    """All off at first; may change at any time, from the loop the servers run in."""

    def __init__(self) -> None:
        #: The HTTP status new connections get instead of a WebSocket; None lets them in.
        self.refuse: int | None = None
        #: REST is answered with 429 and this Retry-After (seconds); None answers.
        self.retry_after_s: int | None = None
        #: Connections that are open now.
        self.connections: set[ServerConnection] = set()
        self._dropping: list[Callable[[bytes], bool]] = []
        self._speaking = asyncio.Event()
        self._speaking.set()

    @property
    def silent(self) -> bool:
        """Nothing is sent and nothing closed. A replay goes on afterwards where it was; a market does not wait."""
        return not self._speaking.is_set()

    @silent.setter
    def silent(self, silent: bool) -> None:
        if silent:
            self._speaking.clear()
        else:
            self._speaking.set()

    async def spoken(self) -> None:
        """Wait while silent."""
        await self._speaking.wait()

    def cut(self) -> None:
        """End all connections at once, without a good-bye."""
        for connection in tuple(self.connections):
            connection.transport.abort()

    async def close(self, code: int, reason: str = "") -> None:
        """End all connections with this close code."""
        await asyncio.gather(*(connection.close(code, reason) for connection in tuple(self.connections)))

    @property
    def dropping(self) -> bool:
        """Whether a frame is to be dropped."""
        return bool(self._dropping)

    def drop(self, which: Callable[[bytes], bool]) -> None:
        """The next frame of which this is true is not sent; it counts where the exchange numbers its frames."""
        self._dropping.append(which)

    def kept(self, frames: list[bytes]) -> list[int]:
        """The positions of those frames that are sent."""
        return [at for at, frame in enumerate(frames) if not self._dropping or not self._drops(frame)]

    def _drops(self, frame: bytes) -> bool:
        for which in self._dropping:
            if which(frame):
                self._dropping.remove(which)
                return True
        return False
