import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from storage.journal import JournalWriter

START_NS = 1_700_000_000_000_000_000
BINANCE = "wss://stream.binance.com:9443/stream?streams=btcusdt@aggTrade"
OKX = "wss://ws.okx.com:8443/ws/v5/public"
COMMAND = [sys.executable, "-m", "cluster.cli", "replay"]


def trade(number: int) -> str:
    event = {"e": "aggTrade", "E": 1, "s": "BTCUSDT", "a": number, "p": "1.0", "q": "2.0", "T": 1, "m": True}
    return json.dumps({"stream": "btcusdt@aggTrade", "data": event})


def okx_trade(number: int) -> str:
    row = {"instId": "BTC-USDT", "tradeId": str(number), "px": "1", "sz": "2", "side": "buy", "ts": "1"}
    return json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [row]})


def capture(folder: Path, frames: Sequence[str], name: str = "capture.jsonl") -> Path:
    """Frames of Binance, 10 ms apart, and one REST answer."""
    depth = {"url": "https://api.binance.com/api/v3/depth?symbol=BTCUSDT", "kind": "rest", "conn": "rest", "data": "{}"}
    lines: list[dict[str, Any]] = [depth, {"url": BINANCE, "kind": "open", "conn": "ws-1", "data": None}]
    lines += [{"url": BINANCE, "kind": "recv", "conn": "ws-1", "data": frame} for frame in frames]
    path = folder / name
    path.write_text("".join(json.dumps({"t_ns": START_NS + at * 10**7} | line) + "\n" for at, line in enumerate(lines)))
    return path


def journal(folder: Path, frames: Sequence[str]) -> Path:
    """Frames of OKX, 10 ms apart, as a collector writes them."""
    writer = JournalWriter(folder, "okx", 1 << 20, lambda: START_NS)
    subscribe = {"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]}
    writer.event("open", "ws-1", OKX, START_NS)
    writer.event("send", "ws-1", OKX, START_NS, json.dumps(subscribe).encode())
    writer.frames(
        "ws-1", OKX, [frame.encode() for frame in frames], [START_NS + at * 10**7 for at, _ in enumerate(frames)]
    )
    writer.close()
    assert writer.path is not None
    return writer.path


class Replaying:
    """A running `rayfeed replay --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        self.said.append(json.loads(await self.process.stdout.readline()))
        return self.said[-1]

    async def rest(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))
        await self.process.wait()


@asynccontextmanager
async def replaying(*arguments: str | Path) -> AsyncIterator[tuple[Replaying, dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(*COMMAND, *arguments, "--json", stdout=asyncio.subprocess.PIPE)
    try:
        replay = Replaying(process)
        yield replay, (await replay.line())["listening"]
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def received(websocket: str, path: str, count: int, *sent: str) -> list[str]:
    """The first messages that are not answers to `sent`."""
    frames: list[str] = []
    async with connect(websocket + path) as client:
        for message in sent:
            await client.send(message)
        while len(frames) < count:
            frame = str(await client.recv())
            if not frame.startswith(('{"event"', '{"result"')):
                frames.append(frame)
    return frames


SUBSCRIBE_OKX = json.dumps({"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]})


async def test_a_client_gets_the_frames_of_captures_and_journals_and_the_command_ends_when_it_has_them(
    tmp_path: Path,
) -> None:
    binance, okx = [trade(number) for number in range(30)], [okx_trade(number) for number in range(20)]
    capture(tmp_path, binance)
    journal(tmp_path, okx)
    async with replaying(tmp_path, "--speed", "2", "--exit") as (replay, listening):
        assert {name: (said["symbols"], said["frames"]) for name, said in listening.items()} == {
            "binance": (["BTCUSDT"], 30),
            "okx": (["BTC-USDT"], 20),
        }
        assert listening["okx"]["first_ns"] == START_NS
        assert listening["okx"]["last_ns"] == START_NS + 19 * 10**7
        started = asyncio.get_running_loop().time()
        assert await asyncio.gather(
            received(listening["binance"]["websocket"], "/stream?streams=btcusdt@aggTrade", 30),
            received(listening["okx"]["websocket"], "", 20, SUBSCRIBE_OKX),
        ) == [binance, okx]
        assert asyncio.get_running_loop().time() - started > 0.1, "twice as fast, not at once"
        await replay.rest()
        assert replay.process.returncode == 0
        ended = replay.said[-1]["ended"]
        assert {name: (said["sent"], said["frames"]) for name, said in ended.items()} == {
            "binance": (30, 30),
            "okx": (20, 20),
        }
        reached = [said["progress"]["binance"]["recorded_ns"] for said in replay.said if "progress" in said]
        assert reached == sorted(reached)
        assert START_NS <= reached[0] <= reached[-1] <= START_NS + 10**9


async def test_rest_answers_of_the_recording_are_served(tmp_path: Path) -> None:
    capture(tmp_path, [trade(1)])
    async with replaying(tmp_path) as (_, listening), aiohttp.ClientSession() as session:
        async with session.get(listening["binance"]["rest"] + "/api/v3/depth?symbol=BTCUSDT") as answer:
            assert (answer.status, await answer.text()) == (200, "{}")
        async with session.get(listening["binance"]["rest"] + "/absent") as answer:
            assert answer.status == 404


async def test_a_client_that_reads_slowly_gets_everything_before_the_command_ends(tmp_path: Path) -> None:
    # The last one fits in no buffer on the way.
    frames = [trade(1), trade(2) + " " * (32 << 20)]
    capture(tmp_path, frames)
    async with replaying(tmp_path, "--speed", "0", "--exit") as (replay, listening):
        url = listening["binance"]["websocket"] + "/stream?streams=btcusdt@aggTrade"
        async with connect(url, max_queue=1, max_size=None) as client:
            while replay.said[-1].get("progress", {}).get("binance", {}).get("sent", 0) < 2:
                await replay.line()
            client.transport.pause_reading()
            # Longer than a server waits for somebody to say good-bye.
            await asyncio.sleep(2)
            assert replay.process.returncode is None
            client.transport.resume_reading()
            assert [str(frame) async for frame in client] == frames
        await replay.rest()
        assert replay.process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_runs_on_until_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    capture(tmp_path, [trade(1)])
    async with replaying(tmp_path, "--speed", "0") as (replay, listening):
        websocket = listening["binance"]["websocket"]
        for _ in range(2):
            assert await received(websocket, "/stream?streams=btcusdt@aggTrade", 1) == [trade(1)]
        assert replay.process.returncode is None
        replay.process.send_signal(number)
        await replay.rest()
        assert replay.process.returncode == 0
        assert replay.said[-1]["ended"]["binance"]["sent"] == 1


async def test_only_the_chosen_exchanges_are_played_from_single_files(tmp_path: Path) -> None:
    files = [capture(tmp_path, [trade(1)]), journal(tmp_path, [okx_trade(1)])]
    async with replaying(*files, "--exchanges", "okx") as (_, listening):
        assert list(listening) == ["okx"]


async def test_people_get_the_addresses_as_text(tmp_path: Path) -> None:
    capture(tmp_path, [trade(number) for number in range(3)])
    process = await asyncio.create_subprocess_exec(*COMMAND, tmp_path, "--exit", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    name, websocket, rest, *about = (await process.stdout.readline()).decode().split()
    assert (name, " ".join(about)) == ("binance", "1 symbols, 3 frames of 0.0 s from 2023-11-14 22:13:20 UTC")
    assert rest.startswith("http://127.0.0.1:")
    await received(websocket, "/stream?streams=btcusdt@aggTrade", 3)
    output, _ = await process.communicate()
    assert output.decode() == "binance    sent 3 of 3 frames\n"
    assert process.returncode == 0


def test_what_cannot_be_played_is_one_line_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "folder"
    folder.mkdir()
    capture(folder, [trade(1)])
    foreign = tmp_path / "foreign.journal"
    foreign.write_text("not a journal")
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(
        json.dumps({"t_ns": 1, "conn": "a", "kind": "recv", "url": "wss://example.com", "data": "{}"}) + "\n"
    )
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{\n")
    for arguments, said in (
        ([tmp_path / "empty"], f"{tmp_path / 'empty'} holds no capture"),
        ([tmp_path / "absent"], f"{tmp_path / 'absent'} cannot be read: No such file or directory"),
        ([foreign], f"{foreign} is not a journal"),
        ([unknown], f"nothing to play in {unknown}"),
        ([broken], f"{broken} line 1: not JSON"),
        (
            [folder, "--exchanges", "kraken,mtgox"],
            "--exchanges: nothing is recorded of kraken, mtgox; there is binance",
        ),
        ([folder, "--exchanges", ","], "--exchanges: nothing is recorded of ,; there is binance"),
    ):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"rayfeed: {said}"), done.stderr
        assert done.stderr.count("\n") == 1


def test_captures_of_exchanges_nobody_knows_are_named(tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(
        json.dumps({"t_ns": 1, "conn": "a", "kind": "recv", "url": "wss://example.com", "data": "{}"}) + "\n"
    )
    capture(tmp_path, [trade(1)])
    process = subprocess.Popen([*COMMAND, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("binance")
    process.terminate()
    _, said = process.communicate()
    assert said == f"not played, of no known exchange: {unknown}\n"
    assert process.returncode == 0
