"""The live feed on a real server, with real WebSocket clients: good ones, slow ones and hostile ones."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pyarrow as pa
import websockets

from serve_apps.fast_lane import FastLane
from serve_apps.live import LiveApp
from serve_apps.live_feed import Feed
from serve_apps.live_session import Refused, Session, anybody
from serve_apps.live_topics import Channel
from serve_apps.scaling import Measured
from tests.polling import until
from tests.serve_apps.live_world import SETTINGS, World, connected
from tests.servers import free_port


async def test_a_snapshot_comes_first_then_every_trade_in_order_as_json() -> None:
    world = World()
    world.snapshots["trades"] = [(Channel("trades", "binance", "BTCUSDT", ""), [{"trade_id": 0}])]
    async with world.serving() as (port, _), connected(port) as client:
        assert (await client.read("welcome"))["heartbeat_s"] == 0.5
        await client.send(type="subscribe", topics=["trades:binance:BTCUSDT"], id=7)
        assert (await client.read("subscribed"))["id"] == 7
        assert (await client.read("snapshot"))["data"] == [{"trade_id": 0}]
        for _ in range(20):
            await world.trade("BTCUSDT", "ETHUSDT", count=2)
        seen, last = [], 0
        while len(seen) < 40:
            update = await client.read("update")
            assert (update["topic"], update["exchange"], update["symbol"]) == ("trades", "binance", "BTCUSDT")
            assert update["seq"] > last
            last = update["seq"]
            seen += update["data"]
        ids = [trade["trade_id"] for trade in seen]
        assert ids == sorted(set(ids))
        assert seen[0]["side"] == "sell"


async def test_only_what_somebody_looks_at_is_asked_for() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client:
        assert await world.hub.wants(None) == frozenset()
        await client.subscribe("trades:binance:BTCUSDT")
        assert await world.hub.wants(frozenset()) == {("received_trades", "binance")}


async def test_who_was_away_resumes_without_a_hole_and_hears_when_it_is_too_long_ago() -> None:
    world = World()
    async with world.serving() as (port, _):
        async with connected(port) as client:
            await client.subscribe("trades:binance")
            await world.trade("BTCUSDT")
            first = await client.read("update")
        await world.trade("BTCUSDT", "ETHUSDT")
        await world.trade("BTCUSDT")
        async with connected(port) as client:
            await client.send(type="subscribe", topics=["trades:binance"], since=first["seq"])
            missed = [await client.read("update") for _ in range(3)]
            assert (await client.read("resumed"))["after"] == first["seq"]
            await world.trade("BTCUSDT")
            missed.append(await client.read("update"))
            ids = [trade["trade_id"] for update in missed for trade in update["data"]]
            assert sorted(ids) == [2, 3, 4, 5]
        async with connected(port) as client:
            await client.send(type="subscribe", topics=["trades:binance"], since=17)
            await client.read("too_old")
            await client.read("snapshot")


async def test_another_hub_means_a_gap_that_is_told_and_updates_go_on() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client:
        await client.subscribe("trades:binance")
        await world.trade("BTCUSDT")
        before = await client.read("update")
        old, world.away = world.hub, True
        await old.stop()
        world.new_hub()
        world.away = False
        await client.read("gap")
        await world.trade("BTCUSDT")
        assert (await client.read("update"))["seq"] > before["seq"]


async def test_who_asks_for_less_gets_the_newest_of_each_key() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client, connected(port) as every:
        await client.subscribe("quotes:binance", rate=2)
        await every.subscribe("quotes:binance", rate=0)
        began = time.monotonic()
        for number in range(100):
            await world.quote("BTCUSDT", number)
            await asyncio.sleep(0.01)
        await world.quote("ETHUSDT", 7)
        seen = []
        while not seen or seen[-1]["symbol"] != "ETHUSDT":
            seen.append(await client.read("update"))
        took = time.monotonic() - began
        bids = [update["data"][0]["bid_price"] for update in seen if update["symbol"] == "BTCUSDT"]
        assert len(bids) <= 2 * took + 2
        assert bids == sorted(bids)
        assert bids[-1] == 99 or len(bids) < 2
        assert len([await every.read("update") for _ in range(101)]) == 101


async def test_bars_of_one_symbol_come_with_their_indicators() -> None:
    world = World()
    bar = {"time": 1, "closed": True, "bar": {"close": 1.0}, "indicators": {"rsi_14": 50.0}}
    world.snapshots["chart"] = [(Channel("chart", "binance", "BTCUSDT", "1m"), [bar])]
    async with world.serving() as (port, _), connected(port, "/ws/BTCUSDT?rate=0") as client:
        initial = await client.read("initial")
        assert (initial["symbol"], initial["bars"], initial["indicators"]) == ("BTCUSDT", [bar], {"rsi_14": 50.0})
        await world.bar("BTCUSDT", 1, 5.0, closed=True, rsi=61.0)
        await world.bar("BTCUSDT", 2, 6.0, closed=False)
        closed, opened = [await client.read("update") for _ in range(2)]
        assert (closed["bar"]["close"], closed["closed"], closed["indicators"]["rsi_14"]) == (5.0, True, 61.0)
        assert (opened["bar"]["close"], opened["closed"], opened["indicators"]) == (6.0, False, None)
        assert opened["time"] - closed["time"] == 60_000
        async with connected(port, "/ws/NOSUCH") as lost:
            assert (await lost.read("error"))["code"] == "invalid_topic"


async def test_integrity_and_alerts_are_told_when_they_change() -> None:
    world = World()
    row = {"exchange": "binance", "symbol": "BTCUSDT", "state": "synced"}
    world.known.integrity_rows = [row]
    async with world.serving() as (port, _), connected(port) as client:
        await client.subscribe("integrity:binance", "alerts")
        world.known.integrity_rows = [{**row, "state": "gapped"}]
        told = await client.read("update")
        # What it was at first may have come before.
        while told["data"][0]["state"] != "gapped":
            told = await client.read("update")
        assert (told["exchange"], told["symbol"]) == ("binance", "BTCUSDT")
        fired = {"exchange": "kraken", "symbol": "BTC/USD", "delivery_id": "a", "message": "above 1"}
        await world.hub.tell("alerts", [fired])
        told = await client.read("update")
        assert (told["topic"], told["symbol"], told["data"][0]["message"]) == ("alerts", "BTC/USD", "above 1")


async def test_binary_frames_are_arrow() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client:
        await client.subscribe("trades:binance:BTCUSDT", format="arrow")
        await world.trade("ETHUSDT", "BTCUSDT", count=3)
        frame = await client.connection.recv()
        while isinstance(frame, str):
            frame = await client.connection.recv()
        table = pa.ipc.open_stream(frame).read_all()
        assert table.num_rows == 3
        assert table["symbol"].to_pylist() == ["BTCUSDT"] * 3
        assert table.schema.metadata[b"topic"] == b"trades"


async def test_one_that_never_reads_is_disconnected_and_nobody_else_notices() -> None:
    world = World(SETTINGS.model_copy(update={"queue_bytes": 2**18}))
    async with world.serving() as (port, app), connected(port) as good:
        await good.subscribe("trades:binance")
        async with connected(port, max_queue=1) as stuck:
            await stuck.subscribe("trades:binance")
            stuck.connection.transport.pause_reading()
            assert len(app.feed.clients) == 2
            read = 0
            deadline = time.monotonic() + 60
            while len(app.feed.clients) == 2:
                assert time.monotonic() < deadline
                await world.trade("BTCUSDT", count=200)
                read += len((await good.read("update"))["data"])
                assert max(client.nbytes for client in app.feed.clients) <= 2**18
            assert read % 200 == 0
            stuck.connection.transport.resume_reading()
            assert await stuck.close_code() == 1013
        await world.trade("BTCUSDT")
        assert (await good.read("update"))["data"]


async def test_a_token_is_needed_renewed_and_expires() -> None:
    async def authenticate(token: str | None) -> float | None:
        if token is None or not token.startswith("good"):
            raise Refused("no such token")
        return time.time() + float(token.removeprefix("good"))

    world = World()
    async with world.serving(authenticate) as (port, _):
        async with connected(port) as refused:
            assert await refused.close_code() == 4001
        headers = {"Authorization": "Bearer good60"}
        async with connected(port, "/ws?token=good1") as client, connected(port, additional_headers=headers) as other:
            await client.send(type="auth", token="good60")
            await client.read("authenticated")
            await client.send(type="auth", token="good0.5")
            await client.read("authenticated")
            assert await client.close_code() == 4001
            await other.send(type="ping", id="x")
            assert (await other.read("pong"))["id"] == "x"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/api/v1/stream?topics=trades") as answer:
                assert answer.status == 401


async def test_heartbeats_come_while_nothing_happens() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client:
        await client.read("heartbeat")
        await client.read("heartbeat")


async def test_garbage_is_answered_and_floods_and_giants_are_closed() -> None:
    world = World()
    async with world.serving() as (port, app):
        async with connected(port) as client:
            for garbage in ("", "{", "[]", "17", '{"type":1}', "[" * 2000, '{"type":"dance"}', '{"type":"subscribe"}'):
                await client.connection.send(garbage)
                assert (await client.read("error"))["code"] in ("invalid_message", "invalid_topic")
            await client.connection.send(b"\x00\xff")
            assert (await client.read("error"))["code"] == "invalid_message"
            many = [f"trades:binance:S{number}" for number in range(21)]
            await client.send(type="subscribe", topics=many)
            assert (await client.read("error"))["code"] == "invalid_topic"
            await client.send(type="subscribe", topics=["bars"], rate=5000)
            assert (await client.read("error"))["code"] == "invalid_topic"
        async with connected(port) as giant:
            await giant.connection.send("x" * 5000)
            assert await giant.close_code() == 1009
        async with connected(port) as flood:
            try:
                for _ in range(200):
                    await flood.send(type="ping")
            except websockets.ConnectionClosed:
                pass
            assert await flood.close_code() == 1008
        await until(lambda: not app.feed.clients)


async def test_a_giant_that_its_server_lets_through_is_closed_too() -> None:
    session = Session(Feed(SETTINGS, World()), anybody)
    await session.heard(" " * SETTINGS.max_message_bytes)
    assert not session.client.closed.done()
    await session.heard(" " * (SETTINGS.max_message_bytes + 1))
    assert session.client.closed.result()[0] == 1009


async def test_more_connections_than_allowed_are_told_to_come_later() -> None:
    world = World(SETTINGS.model_copy(update={"max_connections": 1}))
    async with world.serving() as (port, _):
        async with connected(port) as client:
            await client.read("welcome")
            async with connected(port) as refused:
                assert await refused.close_code() == 1013
        async with aiohttp.ClientSession() as session:
            stream = f"http://127.0.0.1:{port}/api/v1/stream"

            async def answered() -> bool:
                async with session.get(f"{stream}?topics=trades", headers={"Last-Event-ID": "x"}) as answer:
                    return answer.status == 400

            await until(answered)


async def test_clients_of_a_replica_that_stops_are_told_to_connect_again() -> None:
    world = World()
    port = free_port()
    app = FastLane(
        Measured(LiveApp(SETTINGS, world, dict)), port, 1, {"ws": "websockets-sansio", "limit_concurrency": None}
    )
    said: asyncio.Queue[Any] = asyncio.Queue()
    answered: asyncio.Queue[Any] = asyncio.Queue()
    life = asyncio.create_task(app({"type": "lifespan"}, said.get, answered.put))
    await said.put({"type": "lifespan.startup"})
    assert (await answered.get())["type"] == "lifespan.startup.complete"
    async with connected(port) as client:
        await client.read("welcome")
        await said.put({"type": "lifespan.shutdown"})
        assert await client.close_code() == 1013
    assert (await answered.get())["type"] == "lifespan.shutdown.complete"
    await life
    await world.hub.stop()


async def test_events_are_streamed_and_resumed_by_their_last_id() -> None:
    world = World()
    async with world.serving() as (port, _), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/api/v1/stream?topics=trades:binance,bars:binance"

        async def events(answer: aiohttp.ClientResponse, kind: str) -> tuple[int, dict[str, object]]:
            number = 0
            async for line in answer.content:
                if line.startswith(b"id: "):
                    number = int(line[4:])
                if line.startswith(b"data: ") and (said := json.loads(line[6:]))["type"] == kind:
                    return number, said
            raise AssertionError("the stream has ended")

        async with session.get(url) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            await events(answer, "snapshot")
            await events(answer, "snapshot")
            await world.trade("BTCUSDT")
            number, _ = await events(answer, "update")
        await world.trade("BTCUSDT")
        async with session.get(url, headers={"Last-Event-ID": str(number)}) as answer:
            after, said = await events(answer, "update")
            assert after > number
            assert said["data"][0]["trade_id"] == 2
        for query in ("", "topics=prices", "topics=trades&rate=x", "topics=trades&since=-1"):
            async with session.get(f"http://127.0.0.1:{port}/api/v1/stream?{query}") as answer:
                assert answer.status == 400


async def test_many_who_come_back_at_once_resume_with_one_question() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as first:
        await first.subscribe("trades:binance")
        seen = []
        for _ in range(4):
            await world.trade("BTCUSDT")
            seen.append((await first.read("update"))["seq"])
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(port)) for _ in range(20)]
            subscribe = {"type": "subscribe", "topics": ["trades:binance"]}
            # One of them has been away for too long.
            sinces = [5, *(seen[number % 3] for number in range(19))]
            await asyncio.gather(
                *(client.send(**subscribe, since=since) for client, since in zip(clients, sinces, strict=True))
            )
            await clients[0].read("too_old")
            for client, since in zip(clients[1:], sinces[1:], strict=True):
                missed = [(await client.read("update"))["seq"] for _ in range(3 - seen.index(since))]
                assert missed == [seq for seq in seen if seq > since]
                await client.read("resumed")
        assert sum(map(len, world.resumed)) < 20


async def test_many_who_ask_at_once_ask_the_actors_once() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as one, connected(port) as two:
        await asyncio.gather(*(client.subscribe("bars:binance:BTCUSDT") for client in (one, two)))
        assert len(world.asked) <= 2


async def test_trades_that_were_told_and_are_not_stored_yet_are_in_a_snapshot() -> None:
    world = World()
    topic = "trades:binance:BTCUSDT"
    async with world.serving() as (port, _), connected(port) as first, connected(port) as second:
        await first.subscribe(topic)
        await world.trade("BTCUSDT", count=3)
        told = (await first.read("update"))["data"]
        # Storing has come to the first of them, and knows one from before.
        older = {**told[0], "trade_id": 0, "ts_event": told[0]["ts_event"] - 1}
        world.snapshots["trades"] = [(Channel("trades", "binance", "BTCUSDT", ""), [older, told[0]])]
        await second.send(type="subscribe", topics=[topic])
        snapshot = await second.read("snapshot")
        assert [row["trade_id"] for row in snapshot["data"]] == [0, 1, 2, 3]
        await world.trade("ETHUSDT", "BTCUSDT")
        update = await second.read("update")
        assert [row["trade_id"] for row in update["data"]] == [5]
        assert update["seq"] > snapshot["seq"]


async def test_another_topic_that_covers_it_takes_no_trade_away() -> None:
    world = World()
    async with world.serving() as (port, _), connected(port) as client:
        await client.subscribe("trades:binance:BTCUSDT")
        await client.send(type="subscribe", topics=["trades:binance:BTC*"])
        await client.read("subscribed")
        seen: list[int] = []
        for number in range(1, 41):
            await world.trade("BTCUSDT")
            while number not in seen:
                seen += [trade["trade_id"] for trade in (await client.read("update"))["data"]]
        assert sorted(seen) == list(range(1, 41)), "each, and once"


async def test_a_bar_that_waited_when_the_connection_broke_is_told_to_who_resumes() -> None:
    world = World()
    topics = ["trades:binance:BTCUSDT", "bars:binance:BTCUSDT:1m"]
    async with world.serving() as (port, _):
        async with connected(port) as client:
            await client.subscribe(*topics)
            await world.bar("BTCUSDT", 0, 5.0, True)
            assert (await client.read("update"))["topic"] == "bars"
            # The next one is told in a second only.
            await world.bar("BTCUSDT", 1, 7.0, True)
            await world.trade("BTCUSDT")
            last = await client.read("update")
            assert last["topic"] == "trades"
        async with connected(port) as client:
            await client.send(type="subscribe", topics=topics, since=last["seq"])
            told: list[Any] = []
            while ("bars", 7.0) not in told:
                update = await client.read("update")
                told.append((update["topic"], update["data"][0].get("close")))


async def test_a_request_of_too_many_parameters_names_no_topic() -> None:
    world = World()
    async with world.serving() as (port, _), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/api/v1/stream?topics=trades" + "&a=1" * 101
        async with session.get(url) as answer:
            assert answer.status == 400
