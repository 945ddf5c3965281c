"""The same work on many things, some at a time: however many there are, few are under way and none is waited for in
memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

#: More than processors, as most of the time is spent waiting for a disk or a network.
THREADS: Final = 4


def in_threads[Item, Result](work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` gives for each item, in their order. Raises what it raises; further items are not begun then."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="backup") as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) > THREADS:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
