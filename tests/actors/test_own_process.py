"""What an actor does with its process; each test has its own, as nobody can raise theirs again."""

import subprocess
import sys

PROGRAM = """
import asyncio, gc, os, threading
from actors.own_process import in_own_process

class Counts:
    def __init__(self, first, second):
        self.sum = first + second

    def __repr__(self):
        return f"Counts({{self.sum}})"

    async def plus(self, more, times=1):
        return self.sum + more * times

    async def _private(self):
        pass

before, stop = os.nice(0), threading.Event()
threading.Thread(target=stop.wait).start()
actor = in_own_process(Counts, {steps})
made = actor(1, 2)
later = []
thread = threading.Thread(target=lambda: later.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
thread.start()
thread.join()
threads = [os.getpriority(os.PRIO_PROCESS, one.native_id) for one in threading.enumerate()]
stop.set()
kept = gc.get_freeze_count() > 5000 > len(gc.get_objects())
said = asyncio.run(made.plus(1, times=4))
print(actor.__name__, made, said, hasattr(made, "_private"), {{one - before for one in threads + later}}, kept)
"""


def said(steps: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(steps=steps)], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_all_threads_of_an_actor_that_gives_way_do_and_those_it_starts() -> None:
    assert said(5) == "Counts Counts(3) 7 False {5} True"


def test_one_that_does_not_is_as_before() -> None:
    assert said(0) == "Counts Counts(3) 7 False {0} True"


HANDLE = """
import sys
from ray import cloudpickle
from actors.own_process import in_own_process
if sys.argv[1] == "write":
    from actors.supervisor import Supervisor
    sys.stdout.buffer.write(cloudpickle.dumps(in_own_process(Supervisor, 5)))
else:
    actor = cloudpickle.loads(sys.stdin.buffer.read())
    print(actor.__name__, hasattr(actor, "add_symbols"), "actors.supervisor" in sys.modules, "numba" in sys.modules)
"""


def test_who_has_its_handle_imports_nothing_of_it() -> None:
    def run(which: str, given: bytes = b"") -> bytes:
        return subprocess.run(
            [sys.executable, "-c", HANDLE, which], check=True, capture_output=True, input=given
        ).stdout

    assert run("read", run("write")) == b"Supervisor True False False\n"
