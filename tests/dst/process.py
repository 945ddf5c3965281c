"""Actors in processes that can be killed, and the calls between them, as Ray does both: a killed actor is started
again, and a call whose actor died before it answered is made again.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

#: A start that failed (no space) is tried again this often.
_START_AGAIN_S: Final = 1.0
_LATENCY_S: Final = 0.002

#: Whose code is running; None for the simulation's own.
CURRENT: ContextVar["Process | None"] = ContextVar("current", default=None)


class Killed(BaseException):
    """The process is gone: nothing it does after this has an effect."""


class Process:
    """One life of an actor. All it does runs in `context`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.died = asyncio.get_running_loop().create_future()
        self.context = contextvars.copy_context()
        self.context.run(CURRENT.set, self)
        #: In the order they began, which is the same in each run.
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def begin(self, coroutine: Any) -> "asyncio.Task[Any]":
        return asyncio.get_running_loop().create_task(coroutine, context=self.context)

    def kill(self) -> None:
        if not self.alive:
            return
        self.alive = False
        for task in list(self.tasks):
            task.cancel()
        if not self.died.done():
            self.died.set_result(None)


def new_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **named: Any) -> "asyncio.Task[Any]":
    """For `loop.set_task_factory`: tasks belong to whose code begins them."""
    context = named.get("context")
    process = CURRENT.get() if context is None else context.get(CURRENT)
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **named)
    if process is not None:
        if process.alive:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None))
        else:
            task.cancel()
    return task


class Actor:
    """An actor that is started again whenever it dies. `make` gives the object, in the process it lives in; it may
    raise OSError, and is tried again then. `heard` is told of each answer to a call."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Any],
        chance: random.Random,
        started: Callable[[Any], None] = lambda _: None,
        heard: Callable[[str, tuple[Any, ...]], None] = lambda *_: None,
    ) -> None:
        self.name = name
        self._make = make
        self._chance = chance
        self._started = started
        self._heard = heard
        self.process: Process | None = None
        self.actor: Any = None
        self._up = asyncio.Event()
        self.starts = 0
        #: How likely a call is made twice.
        self.doubled = 0.0

    @property
    def runs(self) -> bool:
        return self.actor is not None and self.process is not None and self.process.alive

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
        self.process, self.actor = None, None
        self._up.clear()

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            process = self.process = Process(self.name)
            try:
                actor = process.context.run(self._make)
            except OSError:
                # As the disk is.
                process.kill()
                self.process = None
                await asyncio.sleep(_START_AGAIN_S)
                continue
            except Killed:
                self.process = None
                await asyncio.sleep(self._chance.random() * _START_AGAIN_S)
                continue
            self.actor = actor
            self.starts += 1
            self._started(actor)
            self._up.set()
            await asyncio.shield(process.died)
            self.kill()
            await asyncio.sleep(0.05 + self._chance.random() * _START_AGAIN_S)

    async def call(self, method: str, arguments: Iterable[Any] = ()) -> Any:
        """From whichever process asks."""
        arguments = tuple(arguments)
        while True:
            await self._up.wait()
            await asyncio.sleep(self._chance.random() * _LATENCY_S)
            process, actor = self.process, self.actor
            if process is None or actor is None or not process.alive:
                continue
            answer = process.begin(getattr(actor, method)(*arguments))
            if self._chance.random() < self.doubled:
                process.begin(getattr(actor, method)(*arguments)).add_done_callback(_look)
            await asyncio.wait((answer, process.died), return_when=asyncio.FIRST_COMPLETED)
            if answer.done() and not answer.cancelled() and not isinstance(answer.exception(), Killed):
                if answer.exception() is None:
                    self._heard(method, arguments)
                await asyncio.sleep(self._chance.random() * _LATENCY_S)
                if process.alive:
                    return answer.result()


class Handle:
    """What other actors hold of an actor."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: self._actor.call(method, arguments))


def _look(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
