"""The alerter with its log on disk, real receivers and the real Redis; killed, restarted, refused and kept waiting."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from actors import alerter as module
from actors.alerter import Alerter
from actors.alerting import retries
from actors.alerting.definitions import AlertError, NotWritten, UnknownAlert
from actors.parcels import packed
from config import Settings, load
from storage import redis
from storage.alert_log import AlertLog
from tests.actors.alert_channels.receivers import MailServer, WebServer, slow, status
from tests.actors.alerting.tables import EXCHANGE, PRICE, SECOND, trades
from tests.polling import until
from tests.servers import PASSWORD, RedisServer, free_port

PROJECT = Path(__file__).parents[2]
NO_REDIS = redis.url(free_port(), PASSWORD)


def settings(data: Path, **more: Any) -> Settings:
    return load(data, {"alerts": {"allow_private_targets": True, **more}})


@asynccontextmanager
async def running(data: Path, redis_url: str = NO_REDIS, **more: Any) -> AsyncIterator[Alerter]:
    opened = Alerter(settings(data, **more), redis_url, recorded=False)
    await opened.status()
    try:
        yield opened
    finally:
        await opened.stop()


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with WebServer() as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries within milliseconds."""
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.02)


def hook(server: WebServer, **more: Any) -> dict[str, Any]:
    return {**PRICE, "channels": ["webhook"], "metadata": {"webhook_url": server.url}, "cooldown_seconds": 0, **more}


async def add(alerter: Alerter, given: Mapping[str, Any]) -> dict[str, Any]:
    return await alerter.add(str(uuid.uuid4()), given)


async def take(alerter: Alerter, table: pa.Table, missed: int = 0) -> None:
    await alerter.take(packed({("trades", EXCHANGE): table}), missed)


async def trade(alerter: Alerter, *prices: float) -> None:
    """Trades of this moment."""
    now = time.time_ns()
    await take(alerter, trades([(now + n, n, price) for n, price in enumerate(prices)]))


async def attempts(alerter: Alerter, alert_id: str | None = None) -> list[tuple[str, int, str, int | None]]:
    """Channel, number, status and code, oldest first."""
    rows = reversed(await alerter.deliveries(alert_id, 100))
    return [(row["channel"], row["attempt"], row["status"], row["code"]) for row in rows]


async def settled(alerter: Alerter) -> Mapping[str, Any]:
    async def nothing_waits() -> bool:
        return (await alerter.status())["waiting"] == 0

    await until(nothing_waits)
    return await alerter.status()


async def test_everybody_an_alert_names_is_told_at_once(tmp_path: Path, server: WebServer) -> None:
    with RedisServer(tmp_path / "redis") as redis_server:
        async with MailServer() as mail:
            smtp = {"host": "127.0.0.1", "port": mail.port, "starttls": False, "from_address": "a@rayfeed.example"}
            async with running(tmp_path, redis_server.url, smtp=smtp) as alerter:
                targets = {
                    "webhook_url": f"{server.url}/web",
                    "slack_webhook_url": f"{server.url}/slack",
                    "email": "me@example.org",
                }
                channels = ["websocket", "webhook", "slack", "email"]
                made = await add(alerter, {**PRICE, "channels": channels, "metadata": targets})
                before = time.time_ns()
                await trade(alerter, 99, 101)
                said = await settled(alerter)
                assert (said["fired"], said["delivered"], said["failed"], said["missed"]) == (1, 4, 0, 0)
                assert sorted(server.paths) == ["/hook/slack", "/hook/web"]
                assert mail.recipients == ["<me@example.org>"]
                async with Redis.from_url(redis_server.url) as client:
                    [(_, fields)] = await client.xrange(redis.ALERT_STREAM)
                post = json.loads(fields[b"data"])
                assert post in server.posts
                assert (post["alert_id"], post["price"]) == (made["alert_id"], 101)
                assert before < post["fired_at"] < before + SECOND
                [fired] = await alerter.alerts()
                assert (fired["trigger_count"], fired["last_triggered_at"]) == (1, post["ts_event"])
                assert set(await attempts(alerter)) == {
                    ("websocket", 1, "delivered", None),
                    ("email", 1, "delivered", 250),
                    ("webhook", 1, "delivered", 200),
                    ("slack", 1, "delivered", 200),
                }


async def test_what_fails_for_the_moment_is_tried_again_with_the_same_key(
    tmp_path: Path, server: WebServer, impatient: None
) -> None:
    server.answers = [status(500), status(503)]
    async with running(tmp_path) as alerter:
        await add(alerter, hook(server))
        await trade(alerter, 101)
        said = await settled(alerter)
        assert (said["delivered"], said["retrying"], said["failed"]) == (1, 2, 0)
        expected = [(1, "retrying", 500), (2, "retrying", 503), (3, "delivered", 200)]
        assert await attempts(alerter) == [("webhook", *one) for one in expected]
        rows = await alerter.deliveries(None, 100)
    assert len({headers["Idempotency-Key"] for headers in server.headers}) == 1
    assert server.posts[0] == server.posts[2]
    assert [row["next_at"] is None for row in rows] == [True, False, False]
    assert all(row["began"] <= row["ended"] for row in rows)


async def test_a_receiver_that_asks_for_a_rest_gets_it(tmp_path: Path, server: WebServer, impatient: None) -> None:
    server.answers = [status(429, Retry_After="1")]
    async with running(tmp_path) as alerter:
        await add(alerter, hook(server))
        await trade(alerter, 101)
        await settled(alerter)
    first, second = server.times
    assert 1.0 <= second - first < 3.0


@pytest.mark.parametrize("answer", [status(404), status(302, Location="/")])
async def test_a_refusal_is_not_tried_again(tmp_path: Path, server: WebServer, answer: Any, impatient: None) -> None:
    server.answers = [answer]
    async with running(tmp_path) as alerter:
        await add(alerter, hook(server))
        with capture_logs() as logs:
            await trade(alerter, 101)
            said = await settled(alerter)
        assert (said["delivered"], said["failed"], len(server.posts)) == (0, 1, 1)
        # And what is logged about it names no address.
        assert [entry["event"] for entry in logs] == ["an alert could not be told"]
        assert server.url not in str(logs)


async def test_who_is_away_is_given_up_after_five_attempts(tmp_path: Path, impatient: None) -> None:
    nobody = WebServer(port=free_port())
    async with running(tmp_path) as alerter:
        await add(alerter, hook(nobody))
        await trade(alerter, 101)
        assert (await settled(alerter))["failed"] == 1
        assert [row[1:3] for row in await attempts(alerter)] == [
            *[(number, "retrying") for number in range(1, retries.ATTEMPTS)],
            (retries.ATTEMPTS, "failed"),
        ]
        [row, *_] = await alerter.deliveries(None, 1)
        assert row["error"] == "no connection to 127.0.0.1: Connection refused"


async def test_one_that_never_answers_keeps_no_other_channel_waiting(
    tmp_path: Path, server: WebServer, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setattr(module, "ATTEMPT_S", 3.0)
    server.answers = [slow(60)] * 200
    async with WebServer() as other, running(tmp_path) as alerter:
        targets = {"webhook_url": server.url, "slack_webhook_url": other.url}
        for _ in range(20):
            await add(alerter, {**PRICE, "channels": ["webhook", "slack"], "metadata": targets})
        await trade(alerter, 101)
        await until(lambda: len(other.posts) >= 20)
        assert len(server.posts) <= module.IN_FLIGHT, "the first that never answer are still waited for"
        monkeypatch.setattr(module, "ATTEMPT_S", 0.3)
        await until(lambda: len(server.posts) > 20)
        rows = await alerter.deliveries(None, 100)
        errors = {row["error"] for row in rows if row["channel"] == "webhook"}
        assert errors and errors <= {"no answer within 3 s", "no answer within 0.3 s"}


async def test_redis_that_was_away_hears_of_it_when_it_is_back(tmp_path: Path, impatient: None) -> None:
    with RedisServer(tmp_path / "redis") as redis_server:
        redis_server.stop()
        async with running(tmp_path, redis_server.url) as alerter:
            await add(alerter, PRICE)
            await trade(alerter, 101)

            async def refused() -> bool:
                return bool((await alerter.status())["retrying"])

            await until(refused)
            redis_server.start()
            assert (await settled(alerter))["delivered"] == 1


async def test_alerts_and_what_they_know_survive_a_restart(tmp_path: Path, server: WebServer) -> None:
    async with running(tmp_path) as alerter:
        made = await add(alerter, hook(server, note="mine"))
        gone = await add(alerter, hook(server))
        await alerter.remove(gone["alert_id"])
        await trade(alerter, 101)
        await settled(alerter)
        log = await alerter.deliveries(None, 100)
    async with running(tmp_path) as alerter:
        [alert] = await alerter.alerts()
        assert (alert["alert_id"], alert["note"], alert["trigger_count"]) == (made["alert_id"], "mine", 1)
        assert await alerter.deliveries(made["alert_id"], 100) == log
        await trade(alerter, 102)
        assert (await alerter.status())["fired"] == 0, "it held before the restart"
        await trade(alerter, 99, 103)
        await settled(alerter)
    assert [post["price"] for post in server.posts] == [101, 103]


#: Fires an alert whose log is in a folder and says so; then waits to be killed.
CHILD = """
import asyncio, sys, time
from actors.alerter import Alerter
from tests.actors.alerting.tables import EXCHANGE, PRICE, trades
from tests.actors.test_alerter import NO_REDIS, settings, take
from pathlib import Path

async def main(data, url):
    alerter = Alerter(settings(Path(data)), NO_REDIS, recorded=False)
    given = {**PRICE, "channels": ["webhook"], "metadata": {"webhook_url": url}, "cooldown_seconds": 0}
    await alerter.add("a0", given)
    await take(alerter, trades([(time.time_ns(), 1, 101.0)]))
    print("fired", flush=True)
    while (await alerter.status())["waiting"]:
        await asyncio.sleep(0.01)
    print("told", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def child(data: Path, url: str) -> AsyncIterator[Callable[[str], Any]]:
    """A process with an alert that fires; gives what waits until it has said something. Killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(data), url, stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert process.stdout is not None

    async def says(word: str) -> None:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == f"{word}\n".encode()

    try:
        yield says
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.communicate()


async def test_what_fired_before_a_kill_is_told_after_the_restart(tmp_path: Path) -> None:
    server = WebServer(port=free_port())
    async with child(tmp_path, server.url) as says:
        await says("fired")
    assert (tmp_path / "alerts" / "alerts.log").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "alerts").stat().st_mode & 0o077 == 0, "addresses are secrets"
    async with server, running(tmp_path) as alerter:
        await settled(alerter)
        assert [post["price"] for post in server.posts] == [101]
        assert (await alerter.alerts())[0]["trigger_count"] == 1


async def test_one_killed_while_it_tells_tells_again_with_the_same_key(tmp_path: Path, server: WebServer) -> None:
    server.answers = [slow(60)]
    async with child(tmp_path, server.url) as says:
        await says("fired")
        await until(lambda: len(server.posts) == 1, within_s=30)
    async with running(tmp_path) as alerter:
        await settled(alerter)
    first, second = server.headers
    assert first["Idempotency-Key"] == second["Idempotency-Key"]


async def test_who_was_told_before_a_kill_is_not_told_again(tmp_path: Path, server: WebServer) -> None:
    async with child(tmp_path, server.url) as says:
        await says("fired")
        await says("told")
    async with running(tmp_path) as alerter:
        await trade(alerter, 102)
        assert (await alerter.status())["waiting"] == 0
        assert len(await alerter.deliveries(None, 10)) == 1
    assert len(server.posts) == 1


async def test_nobody_is_told_before_it_is_in_the_log(
    tmp_path: Path, server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "WRITE_S", 0.2)
    async with running(tmp_path) as alerter:
        made = await add(alerter, hook(server))
        write = AlertLog.append

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(AlertLog, "append", full)
        taking = asyncio.create_task(trade(alerter, 101))

        async def blocked() -> bool:
            said: str = (await alerter.status())["failure"]
            return said == "cannot write alerts: No space left on device"

        await until(blocked)
        with pytest.raises(NotWritten, match="not after a restart: cannot write alerts: No space left"):
            await alerter.change(made["alert_id"], {"note": "later"})
        assert (server.posts, taking.done()) == ([], False)
        monkeypatch.setattr(AlertLog, "append", write)
        await asyncio.wait_for(taking, 10)
        assert (await settled(alerter))["failure"] == ""
        assert len(server.posts) == 1
    async with running(tmp_path) as alerter:
        assert (await alerter.alert(made["alert_id"]))["note"] == "later"


async def test_the_log_stays_short(tmp_path: Path, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 20_000)
    async with running(tmp_path, delivery_log=5) as alerter:
        made = await add(alerter, hook(server))
        for _ in range(100):
            await trade(alerter, 99, 101)
        await settled(alerter)
        assert (tmp_path / "alerts" / "alerts.log").stat().st_size < 40_000
        assert len(await alerter.deliveries(None, 100)) == 5
    assert len(server.posts) == 100
    async with running(tmp_path) as alerter:
        assert (await alerter.alert(made["alert_id"]))["trigger_count"] == 100
        assert len(await alerter.deliveries(None, 100)) == 5
        assert (await alerter.status())["waiting"] == 0


async def test_a_changed_address_is_used_for_what_is_not_told_yet(
    tmp_path: Path, server: WebServer, impatient: None
) -> None:
    wrong = WebServer(port=free_port())
    async with running(tmp_path) as alerter:
        made = await add(alerter, hook(wrong))
        await trade(alerter, 101)
        await alerter.change(made["alert_id"], {"metadata": {"webhook_url": server.url}})
        await settled(alerter)
    assert len(server.posts) == 1


async def test_of_a_removed_alert_nobody_is_told_any_more(tmp_path: Path, server: WebServer, impatient: None) -> None:
    server.answers = [status(500)] * 100
    async with running(tmp_path) as alerter:
        made = await add(alerter, hook(server))
        await trade(alerter, 101)
        await until(lambda: len(server.posts) > 0)
        await alerter.remove(made["alert_id"])
        assert (await settled(alerter))["alerts"] == 0
        with pytest.raises(UnknownAlert):
            await alerter.alert(made["alert_id"])
        # What was tried stays in the log of attempts.
        assert await alerter.deliveries(made["alert_id"], 10)
        with pytest.raises(UnknownAlert):
            await alerter.deliveries("nobody", 10)


async def test_it_says_at_once_what_it_looks_at(tmp_path: Path) -> None:
    async with running(tmp_path) as alerter:
        nothing = await alerter.wants(None)
        assert nothing == frozenset()
        asked = asyncio.create_task(alerter.wants(nothing))
        await asyncio.sleep(0)
        assert not asked.done()
        made = await add(alerter, {**PRICE, "one_time": True})
        prices = frozenset({("trades", EXCHANGE)})
        assert await asyncio.wait_for(asked, 5) == prices
        rsi = await add(alerter, {**PRICE, "condition": "rsi_above", "threshold": 70})
        both = prices | {("bars", EXCHANGE), ("indicators", EXCHANGE)}
        assert await alerter.wants(prices) == both
        await alerter.remove(rsi["alert_id"])
        assert await alerter.wants(both) == prices
        await trade(alerter, 101)
        assert await alerter.wants(prices) == nothing, "it fires once"
        await alerter.change(made["alert_id"], {"is_active": True})
        assert await alerter.wants(nothing) == prices


async def test_a_call_that_comes_again_after_a_restart_makes_no_other_alert(tmp_path: Path) -> None:
    async with running(tmp_path) as alerter:
        made = await alerter.add("a0", PRICE)
    async with running(tmp_path) as alerter:
        assert await alerter.add("a0", PRICE) == made
        assert len(await alerter.alerts()) == 1


async def test_a_mistake_is_said_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as alerter:
        with pytest.raises(AlertError, match="threshold is -1"):
            await add(alerter, {**PRICE, "threshold": -1})
        with pytest.raises(AlertError, match=r"no e-mail can be sent, as the settings have no alerts.smtp"):
            await add(alerter, {**PRICE, "channels": ["email"], "metadata": {"email": "me@example.org"}})
        assert await alerter.alerts() == []


async def test_a_table_that_is_none_is_counted_and_the_next_one_is_looked_at(tmp_path: Path, server: WebServer) -> None:
    async with running(tmp_path) as alerter:
        await add(alerter, hook(server))
        await take(alerter, trades([]).drop_columns(["price", "symbol"]))
        await take(alerter, trades([]), missed=3)
        said = await alerter.status()
        assert said["missed"] == 4
        assert "trades of binance" in said["failure"]
        await trade(alerter, 101)
        await settled(alerter)
    assert len(server.posts) == 1


async def test_what_a_channel_fails_with_is_told_without_the_secrets_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(*_: object) -> None:
        raise ValueError("hunter2")

    async with running(tmp_path) as alerter:
        monkeypatch.setattr(alerter._channels["websocket"], "send", send)
        await add(alerter, PRICE | {"channels": ["websocket"]})
        await trade(alerter, 101)

        async def failed() -> bool:
            return bool((await alerter.status())["failure"])

        await until(failed)
        assert (await alerter.status())["failure"] == "channel websocket: ValueError"
