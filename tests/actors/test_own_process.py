"""What an actor does with its process; each test has its own, as nobody can raise theirs again."""

import subprocess
import sys

PROGRAM = """
import gc, os, threading
from actors.own_process import in_own_process

class Counts:
    def __init__(self, first, second):
        self.sum = first + second

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
print(actor.__name__, made.sum, isinstance(made, Counts), {{one - before for one in threads + later}}, kept)
"""


def said(steps: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(steps=steps)], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_all_threads_of_an_actor_that_gives_way_do_and_those_it_starts() -> None:
    assert said(5) == "Counts 3 True {5} True"


def test_one_that_does_not_is_as_before() -> None:
    assert said(0) == "Counts 3 True {0} True"
