"""Brings one instance up and takes it down again: data folder, Redis, Ray, actors, Serve, edge, in this order and
back. Everything started here ends here, whatever the reason.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import ray
import redis.asyncio
import redis.exceptions
from ray import serve

from actors import tracing
from actors.directory import SIMULATOR, SUPERVISOR
from actors.simulator.captures import CaptureError, read_captures
from actors.starting import start_actor
from actors.supervisor import Supervisor
from cluster import ray_head
from cluster.child import Child
from cluster.deploying import APPLICATIONS, NAMES, deploy, replicas_run
from cluster.edge import edge_child
from cluster.front_door import front_door
from cluster.instance import Details, Instance, InstanceError, check_port_free, free_ports
from cluster.metering import telling
from cluster.other_lanes import following
from config import Settings, SettingsError
from storage import redis as redis_storage
from storage.redis_connection import RedisRefused, check

STOP_TIMEOUT_S = 6.0
CHILD_TIMEOUT_S = 20.0
READY_TIMEOUT_S = 60.0
#: Ray has ended when nobody listens at its address at so many looks, one each so many seconds.
RAY_ENDED = 3
RAY_LOOK_S = 1.0
Progress = Callable[[str], None]


class Interrupted(Exception):
    """The user asked to stop before everything was up."""


async def run(settings: Settings, progress: Progress, ready: Progress) -> None:
    """Run an instance until SIGINT or SIGTERM; `ready` is told the address once it answers.

    Raises `InstanceError` with one line for the user when it cannot start.
    """
    tracing.check(settings.tracing)
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if settings.replay_folder is not None:
        _check_captures(settings.replay_folder)
    instance = Instance.claim(settings.data)
    try:
        check_port_free(settings.host, settings.port, "HTTP", "--port")
        if settings.edge.tls:
            check_port_free(settings.host, settings.tls_port, "HTTPS", "--tls-port")
        async with contextlib.AsyncExitStack() as started:
            try:
                details = await _bring_up(settings, started, stop, progress, instance)
            except Interrupted:
                progress("stopped before it was up")
                return
            instance.write(details)
            ready(details.url)
            if await _ray_ends(details, stop):
                progress(f"Ray at {details.ray_address} has ended, and with it all that ran there")
                _abandon(ray_head.runtime_folder(settings.data), instance, 1)
            progress("stopping")
    finally:
        instance.release()


def _check_captures(folder: Path) -> None:
    """The simulator reads them again, but Ray takes seconds to start and a typing mistake should not."""
    try:
        read_captures(folder)
    except CaptureError as error:
        raise InstanceError(str(error)) from None


async def _bring_up(
    settings: Settings,
    started: contextlib.AsyncExitStack,
    stop: asyncio.Event,
    progress: Progress,
    instance: Instance,
) -> Details:
    runtime = ray_head.runtime_folder(settings.data)
    logs = settings.data / "logs"
    logs.mkdir(exist_ok=True)
    children: list[tuple[str, Child]] = []

    async def step(what: str, doing: Any) -> Any:
        progress(what)
        return await _unless_stopped(doing, stop)

    if settings.redis_url is None:
        redis_url = await step("redis", started.enter_async_context(_redis(settings, logs, children)))
    else:
        redis_url = settings.redis_url
        await step("your redis", _check_redis(redis_url, progress))
    shutil.rmtree(ray_head.session_folder(runtime), ignore_errors=True)
    ray_head.prepare_environment(settings, runtime)
    started.push(lambda kind, *_: _remove(runtime, kind))
    progress("ray")
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, lambda *_: _abandon(runtime, instance))
    addresses = ray_head.start(settings, runtime)
    _stop_on_signals(stop)
    started.callback(ray.shutdown)
    supervisor = start_actor(SUPERVISOR, Supervisor, settings, redis_url)
    started.push_async_callback(_stop_actors, supervisor)
    listening = ("edge metrics", "serve", *APPLICATIONS)
    ports = dict(zip(listening, free_ports(len(listening)), strict=True))
    if settings.ray.serve:
        if ray_head.is_joined(settings):
            started.push_async_callback(_undeploy)
        deploying = _in_daemon_thread(lambda: deploy(settings, ports, redis_url))
        await step(f"actors ({settings.source}) and serve", asyncio.gather(_start_actors(supervisor), deploying))
        await step("serve's replicas", replicas_run())
    else:
        await step(f"actors ({settings.source})", _start_actors(supervisor))
    if skipped := (await supervisor.status.remote()).get(SIMULATOR, {}).get("skipped"):
        progress(f"not played, as there is no feed for them: {', '.join(skipped)}")
    if settings.source == "live":
        await step("exchanges", _first_answer(supervisor, settings))
    if settings.ray.serve:
        edge = front_door(settings, ports)
        door = edge_child(edge, runtime / "edge", logs / "edge.log")
        children.append(("edge", door))
        await step("edge", started.enter_async_context(_running(door)))
        await started.enter_async_context(telling(edge, children, settings.metrics.interval_s))
        if settings.scaling.on_all_hosts:
            await started.enter_async_context(following(settings, ports, runtime / "edge"))
    token = ray_head.token_file(settings)
    details = Details(
        host=settings.host,
        port=settings.port,
        tls_port=settings.tls_port,
        source=settings.source,
        redis_url=redis_url,
        clickhouse_url=settings.clickhouse_url,
        ray_address=addresses["ray_address"],
        ray_dashboard=addresses["dashboard"],
        ray_token_file=str(token) if token.exists() else None,
        ports=ports,
    )
    if settings.ray.serve:
        await step("waiting for the first answer", _answers(details.url))
    return details


def _remove(runtime: Path, failure: type[BaseException] | None) -> None:
    """Take the runtime folder away, unless what went wrong can only be seen in Ray's logs there."""
    if failure is None or issubclass(failure, InstanceError):
        shutil.rmtree(runtime, ignore_errors=True)


async def _ray_ends(details: Details, stop: asyncio.Event) -> bool:
    """Returns when the user wants to stop, or that Ray has ended: nobody listens there any more. It took everything
    with it, so that nothing can be asked to stop, and whoever tries waits for a minute."""
    host, _, port = (details.ray_address or "").rpartition(":")
    refused = 0
    while refused < RAY_ENDED:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), RAY_LOOK_S)
            return False
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), RAY_LOOK_S)
            writer.close()
            refused = 0
        except ConnectionRefusedError:
            refused += 1
        except (OSError, TimeoutError):
            # One that cannot be reached may be reached again.
            pass
    return True


def _abandon(runtime: Path, instance: Instance, status: int = 0) -> None:
    """End at once, from a signal handler: Ray's start takes seconds of the main thread and cannot be interrupted by an
    exception wherever it happens to be. Nothing holds data yet, or what does has ended."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _remove(runtime, None)
    instance.release()
    os._exit(status)


async def _unless_stopped(doing: Any, stop: asyncio.Event) -> Any:
    """The result of `doing`, or Interrupted as soon as the user wants to stop."""
    task, stopping = asyncio.ensure_future(doing), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted
    finally:
        for left in (task, stopping):
            left.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await left


def _in_daemon_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Done when `work` is. Unlike an executor's, the thread is left behind when we stop: it cannot be interrupted,
    and without Ray it fails by itself."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(None)

    def run() -> None:
        error = None
        try:
            work()
        except Exception as failure:  # noqa: BLE001 - handed to whoever waits
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, daemon=True).start()
    return done


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, stop.set)


async def _check_redis(url: str, progress: Progress) -> None:
    """One that is away is waited for by whoever needs it; one that refuses us would be waited for in vain."""
    try:
        wrong = await check(url)
    except RedisRefused as refused:
        raise InstanceError(str(refused)) from None
    if wrong:
        progress(f"your redis does not answer yet, everything else goes on without it: {wrong}")


@contextlib.asynccontextmanager
async def _redis(settings: Settings, logs: Path, children: list[tuple[str, Child]]) -> AsyncIterator[str]:
    memory, streams = settings.redis.memory_bytes, settings.redis.stream_bytes
    if 2 * streams > memory:
        raise SettingsError(
            f"setting 'redis.stream_bytes' is {streams}: of the embedded server's memory (redis.memory_bytes, {memory})"
            " no more than half, or streams would drive out the latest values"
        )
    (port,) = free_ports(1)
    password = secrets.token_urlsafe(24)
    command = redis_storage.embedded_command(settings.data / "redis", port, password, memory)
    url = redis_storage.url(port, password)

    async def answers() -> bool:
        try:
            async with redis.asyncio.from_url(url) as client:
                return bool(await client.ping())
        except redis.exceptions.ConnectionError:
            return False

    server = Child("redis", command, logs / "redis.log", answers)
    children.append(("redis", server))
    async with _running(server):
        yield url


@contextlib.asynccontextmanager
async def _running(child: Child) -> AsyncIterator[None]:
    """The child process, ready inside, ended outside."""
    life = asyncio.create_task(child.run())
    try:
        await child.wait_ready(CHILD_TIMEOUT_S)
        yield
    finally:
        await child.stop()
        await life


async def _start_actors(supervisor: Any) -> None:
    try:
        await supervisor.start.remote()
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CaptureError | SettingsError):
            raise InstanceError(str(error.cause)) from None
        raise


async def _stop_actors(supervisor: Any) -> None:
    """Collectors, shards and sinks write down what they hold; a stuck one does not keep us."""
    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        await asyncio.wait_for(supervisor.stop.remote(), STOP_TIMEOUT_S)
    ray.kill(supervisor, no_restart=True)


async def _first_answer(supervisor: Any, settings: Settings) -> None:
    """Wait until any exchange sends something."""
    deadline = time.monotonic() + settings.live.answer_timeout_s
    while True:
        _, health = await supervisor.readiness.remote()
        feeds = health["feeds"]
        if any(feed["state"] == "streaming" for feed in feeds.values()):
            return
        if time.monotonic() > deadline:
            why = "; ".join(f"{name}: {feed['last_error'] or feed['state']}" for name, feed in feeds.items())
            raise InstanceError(
                f"no exchange answered within {settings.live.answer_timeout_s:g} s ({why}); "
                "check the network, or try --source sim"
            )
        await asyncio.sleep(0.2)


async def _undeploy() -> None:
    """Take our applications out of a Serve that stays; each drains for seconds, so all at once."""
    await asyncio.gather(*(asyncio.to_thread(serve.delete, name) for name in NAMES))


async def _answers(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    said = ""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        while time.monotonic() < deadline:
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
                    said = f"{answer.status} {(await answer.text())[:200]}"
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error)
            await asyncio.sleep(0.1)
    raise InstanceError(f"{url}/readyz is not ready after {READY_TIMEOUT_S:g} s: {said}")
