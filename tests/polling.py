"""Waiting for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psutil


async def until(condition: Callable[[], Awaitable[bool] | bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while True:
        met = condition()
        if not isinstance(met, bool):
            met = await met
        if met:
            return
        assert time.monotonic() < deadline, f"not met within {within_s:g} s"
        await asyncio.sleep(0.02)


def wait_until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """As `until`, where nothing else has to run meanwhile."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not met within {within_s:g} s"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
