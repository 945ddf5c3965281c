import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import child as module
from cluster.child import Child, ChildError, restart_delay
from tests.polling import gone, until

Make = Callable[..., Child]


async def always() -> bool:
    return True


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes children of Python code that are surely ended after the test."""
    made: list[Child] = []

    def one(code: str, ready: Callable[[], object] = always, **options: object) -> Child:
        child = Child("sample", [sys.executable, "-c", code], tmp_path / "log", ready, chance=lambda: 0.0, **options)  # type: ignore[arg-type]
        made.append(child)
        return child

    yield one
    for child in made:
        await child.stop(0.5)
        assert child.pid is None


SLEEP = "import time; print('up', flush=True); time.sleep(100)"


async def test_a_killed_process_comes_back_and_is_counted(make: Make) -> None:
    child = make(SLEEP)
    life = asyncio.create_task(child.run())
    await child.wait_ready(5)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.pid not in (None, first))
    assert (child.restarts, child.last_exit) == (1, "killed by SIGKILL")
    assert await child.is_ready()
    await child.stop()
    await asyncio.wait_for(life, 1)
    assert child.restarts == 1


async def test_a_process_that_keeps_ending_is_started_ever_more_slowly(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[tuple[int, str | None]] = []

    def delay(count: int, chance: float) -> float:
        failures.append((count, child.last_exit))
        return 0.0

    monkeypatch.setattr(module, "restart_delay", delay)
    child = make("raise SystemExit(3)")
    life = asyncio.create_task(child.run())
    await until(lambda: len(failures) >= 4)
    await child.stop()
    await life
    assert failures[:4] == [(count, "exit code 3") for count in (1, 2, 3, 4)]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_is_capped_and_never_vanishes(failures: int, chance: float) -> None:
    delay = restart_delay(failures, chance)
    assert 0.1 <= delay <= 10.0
    assert restart_delay(failures + 1, chance) >= delay


async def test_a_process_that_ends_at_start_says_its_last_words(make: Make) -> None:
    child = make("import time; print('first'); raise SystemExit('no such colour')", never)
    life = asyncio.create_task(child.run())
    with pytest.raises(ChildError, match=r"sample ended at start \(exit code 1\): no such colour"):
        await child.wait_ready(5)
    await child.stop()
    await life


async def never() -> bool:
    return False


async def test_a_process_that_never_serves_is_an_error_after_the_time_given(make: Make) -> None:
    child = make(SLEEP, never)
    life = asyncio.create_task(child.run())
    with pytest.raises(ChildError, match=r"sample was not ready within 0\.3 s"):
        await child.wait_ready(0.3)
    await child.stop()
    await life


async def test_a_program_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="there is no program /no/such"):
        Child("sample", ["/no/such"], tmp_path / "log", always)


async def test_a_process_that_ignores_the_signal_is_killed_with_its_own_children(make: Make, tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('grandchild', subprocess.Popen(['sleep', '100']).pid, flush=True); time.sleep(100)"
    )
    child = make(code)
    life = asyncio.create_task(child.run())
    log = tmp_path / "log"
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    grandchild = int(log.read_text().split()[1])
    pid = child.pid
    assert pid is not None
    await child.stop(0.2)
    await asyncio.wait_for(life, 1)
    assert gone(pid)
    await until(lambda: gone(grandchild))


async def test_cancelling_its_life_ends_the_process(make: Make) -> None:
    child = make(SLEEP)
    life = asyncio.create_task(child.run())
    await child.wait_ready(5)
    pid = child.pid
    assert pid is not None
    life.cancel()
    with pytest.raises(asyncio.CancelledError):
        await life
    assert gone(pid)


async def test_cancelling_at_any_moment_leaves_no_process(make: Make) -> None:
    for pause in (0.0, 0.001, 0.003, 0.01, 0.03):
        life = asyncio.create_task(make(SLEEP).run())
        await asyncio.sleep(pause)
        life.cancel()
        with pytest.raises(asyncio.CancelledError):
            await life
    ours = [one for one in psutil.Process().children() if not gone(one.pid)]
    assert not any(SLEEP in one.cmdline() for one in ours)


async def test_stopping_during_the_pause_before_a_restart_does_not_wait_for_it(make: Make) -> None:
    child = make("raise SystemExit(1)")
    life = asyncio.create_task(child.run())
    await until(lambda: child.restarts >= 3)
    await asyncio.wait_for(child.stop(), 1)
    await asyncio.wait_for(life, 1)


async def test_stopping_what_never_ran_returns(make: Make) -> None:
    await asyncio.wait_for(make(SLEEP).stop(), 1)


async def test_ctrl_c_in_the_terminal_does_not_reach_it(make: Make) -> None:
    child = make(SLEEP)
    life = asyncio.create_task(child.run())
    await child.wait_ready(5)
    assert child.pid is not None
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    await child.stop()
    await life


async def test_it_gets_its_turns_with_all_others_of_the_session(make: Make) -> None:
    child = make(SLEEP)
    life = asyncio.create_task(child.run())
    await child.wait_ready(5)
    assert child.pid is not None
    assert os.getsid(child.pid) == os.getsid(0)
    await child.stop()
    await life


async def test_the_log_is_bounded(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 10_000)
    monkeypatch.setattr(module, "_LOG_CHECK_S", 0.02)
    child = make("import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.0005)")
    life = asyncio.create_task(child.run())
    old = tmp_path / "log.1"
    await until(old.exists)
    await until(lambda: (tmp_path / "log").stat().st_size < 10_000)
    await child.stop()
    await life
    assert b"\0" not in (tmp_path / "log").read_bytes()


PARENT = """
import asyncio, sys
from pathlib import Path
from cluster.child import Child
async def always(): return True
async def main():
    child = Child("sample", ["sleep", "100"], Path(sys.argv[1]), always)
    life = asyncio.create_task(child.run())
    await child.wait_ready(5)
    while open(f"/proc/{child.pid}/comm").read() != "sleep\\n":
        await asyncio.sleep(0.01)
    print(child.pid, flush=True)
    await life
asyncio.run(main())
"""


async def test_it_dies_with_its_parent_however_that_dies(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path / "log"), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 10))
    assert not gone(pid)
    parent.kill()
    await parent.communicate()
    await until(lambda: gone(pid))
