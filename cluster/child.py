"""A child process that is watched: started again when it ends, ended when we end.

The process lives in a process group of its own, so Ctrl-C in the terminal reaches it only through us, and the
kernel signals it when we die, however we die. Not in a session of its own: Linux shares processors out by session
first, and one that seldom has work then waits up to half a second for its turn where others always have some.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from cluster.instance import InstanceError

MAX_LOG_BYTES = 16 * 1024 * 1024
STEADY_S = 10.0
_LOG_CHECK_S = 60.0
_READY_CHECK_S = 1.0

# Runs between fork and the program. `preexec_fn` could do the same, but Python code in a fork of a process
# with threads may deadlock. Arguments: our pid, the signal, the program.
_LAUNCH = """
import ctypes, os, sys
parent, death_signal, *argv = sys.argv[1:]
ctypes.CDLL(None).prctl(1, int(death_signal), 0, 0, 0)  # PR_SET_PDEATHSIG
if os.getppid() != int(parent):
    sys.exit("the parent ended first")
os.execv(argv[0], argv)
"""


class ChildError(InstanceError):
    """The process cannot be started or does not become ready; the message is one line for the user."""


def restart_delay(failures: int, chance: float, first_s: float = 0.2, longest_s: float = 10.0) -> float:
    """Seconds to wait after `failures` (>= 1) failures in a row: doubling and capped, of which `chance` in
    [0, 1) picks a point between the half and the whole."""
    return float(min(longest_s, first_s * 2 ** min(failures - 1, 30)) * (0.5 + chance / 2))


class Child:
    """One supervised process. `run` is its life; its standard output and error go to `log` (bounded).

    `ready` tells whether the process serves; OSError from it means not yet. `stop_signal` asks the process
    to end, `death_signal` is what the kernel sends when the thread that called `run` is gone: run it on the
    main thread. `chance` gives numbers in [0, 1) that spread restarts.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        ready: Callable[[], Awaitable[bool]],
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        chance: Callable[[], float] = random.random,
    ) -> None:
        program = shutil.which(argv[0])
        if program is None:
            raise ChildError(f"{name} cannot be started: there is no program {argv[0]}")
        self.name = name
        self.log = log
        self.restarts = 0
        self.last_exit: str | None = None
        self._argv = [str(Path(program).absolute()), *map(str, argv[1:])]
        self._ready = ready
        self._folder = folder
        self._environment = environment
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._chance = chance
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"Child({self.name}, pid={self.pid}, restarts={self.restarts}, last_exit={self.last_exit})"

    @property
    def pid(self) -> int | None:
        """Process id, None while it does not run."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def run(self) -> None:
        """Keep the process running until `stop` or cancellation; either way it has ended when this returns."""
        self._idle.clear()
        failures = 0
        clock = asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                started = clock()
                self._process = await self._start()
                if self._stopping.is_set():
                    break
                code = await self._wait_for_exit(self._process)
                self.last_exit = _exit_reason(code)
                if self._stopping.is_set():
                    break
                failures = 1 if clock() - started > STEADY_S else failures + 1
                self.restarts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), restart_delay(failures, self._chance()))
        finally:
            try:
                await self._end(5.0)
            finally:
                self._idle.set()

    async def stop(self, timeout_s: float = 5.0) -> None:
        """End the process: asked by signal, killed with its process group after `timeout_s` seconds."""
        self._stopping.set()
        await self._end(timeout_s)
        await self._idle.wait()

    async def is_ready(self) -> bool:
        """Whether the process runs and its check passes now (bounded to a second)."""
        if self.pid is None:
            return False
        try:
            async with asyncio.timeout(_READY_CHECK_S):
                ready = await self._ready()
        except OSError:
            return False
        self._was_ready |= ready
        return ready

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when it is ready. ChildError when it is not within `timeout_s` seconds, or when it ends
        before it was ever ready: what is wrong at the first start is not healed by another."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.is_ready():
                    if self.last_exit and not self._was_ready:
                        raise ChildError(f"{self.name} ended at start ({self.last_exit}): {self._last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ChildError(f"{self.name} was not ready within {timeout_s:g} s: {self._last_words()}") from None

    async def _start(self) -> asyncio.subprocess.Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._bound_log()
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCH),
                *(str(os.getpid()), str(int(self._death_signal)), *self._argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                process_group=0,
            )

    async def _wait_for_exit(self, process: asyncio.subprocess.Process) -> int:
        while True:
            try:
                return await asyncio.wait_for(process.wait(), _LOG_CHECK_S)
            except TimeoutError:
                self._bound_log()

    async def _end(self, timeout_s: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        # It may end by itself at any moment.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self._stop_signal)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            _kill_group(process)
            await process.wait()
        finally:
            # Only a cancellation comes here with the process alive.
            if process.returncode is None:
                _kill_group(process)

    def _bound_log(self) -> None:
        # The process appends to the open file, so it can be copied and cut under its hands.
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)

    def _last_words(self) -> str:
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            lines = []
        return f"{lines[-1] if lines else 'it said nothing'} (log: {self.log})"


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _exit_reason(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
