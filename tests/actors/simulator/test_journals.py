"""Replays of our own journals."""

import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from actors.simulator.captures import CaptureError, read_captures
from actors.simulator.captures import recordings as recordings_of
from actors.simulator.tape import Tape
from storage.journal import SUFFIX, JournalWriter, journal_files
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import START_NS, line, nothing_more_comes, receive, recording_of, trade
from tests.actors.simulator.conftest import Play

OKX = "wss://ws.okx.com:8443/ws/v5/public"


def write_journal(folder: Path, exchange: str, events: list[dict[str, Any]], segment_bytes: int = 1 << 30) -> None:
    """Events as in the lines of a capture."""
    writer = JournalWriter(folder, exchange, segment_bytes, lambda: START_NS)
    for number, event in enumerate(events):
        # A segment ends between two blocks only.
        if number % 50 == 0:
            writer.flush()
        url, t_ns, data = event["url"], event["t_ns"], (event["data"] or "").encode()
        if event["kind"] == "recv":
            writer.frames(event["conn"], url, [data], [t_ns])
        else:
            writer.event(event["kind"], event["conn"], url, t_ns, data)
    writer.close()


@pytest.mark.parametrize("exchange", ["binance", "bitfinex", "coinbase", "deribit", "kraken", "okx"])
def test_a_journal_plays_as_the_capture_with_the_same_events(recordings: Path, tmp_path: Path, exchange: str) -> None:
    events = [json.loads(text) for text in (recordings / f"{exchange}.jsonl").read_text().splitlines()]
    write_journal(tmp_path, exchange, events, segment_bytes=20_000)
    assert len(journal_files(tmp_path)) > 1
    journal, capture = recording_of(tmp_path, exchange), recording_of(recordings, exchange)
    assert set(journal.symbols) == set(capture.symbols)
    assert journal.rest == capture.rest
    assert journal.endpoint == capture.endpoint
    played, expected = Tape(journal), Tape(capture)
    assert played.frames == expected.frames
    assert played.times.tolist() == expected.times.tolist()
    assert played.known_numbers == expected.known_numbers


def test_a_journal_of_a_replay_knows_its_exchange_without_a_host(tmp_path: Path) -> None:
    address = "ws://127.0.0.1:4567/stream?streams=btcusdt@aggTrade"
    write_journal(tmp_path, "binance", [json.loads(line("recv", trade(1), 0, address))])
    (recording,) = recordings_of(read_captures(tmp_path))
    assert (recording.exchange, recording.symbols) == ("binance", ("BTCUSDT",))


def book(action: str, number: int) -> str:
    return json.dumps({"arg": {"channel": "books", "instId": "A-B"}, "action": action, "data": [number]})


async def test_a_recorded_reconnect_is_part_of_the_stream(tmp_path: Path, play: Play) -> None:
    ask = '{"op":"subscribe","args":[{"channel":"books","instId":"A-B"}]}'
    kinds = [
        *(("open", ""), ("send", ask), ("recv", book("snapshot", 1)), ("recv", book("update", 2)), ("close", "lost")),
        *(("open", ""), ("send", ask), ("recv", book("snapshot", 3)), ("recv", book("update", 4))),
    ]
    events = [json.loads(line("open", data, number, OKX)) | {"kind": kind} for number, (kind, data) in enumerate(kinds)]
    write_journal(tmp_path, "okx", events)
    recording = recording_of(tmp_path, "okx")
    assert [len(connection.frames) for connection in recording.connections] == [2, 2]
    _, websocket, _ = await play(recording)
    async with connect(websocket) as client:
        await client.send(ask)
        assert json.loads(await client.recv())["event"] == "subscribe"
        assert [json.loads(text)["data"] for text in await receive(client, 4)] == [[1], [2], [3], [4]]
        await nothing_more_comes(client)


def test_captures_and_journals_of_a_folder_play_together(recordings: Path, tmp_path: Path) -> None:
    write_journal(tmp_path, "okx", [json.loads(line("recv", book("snapshot", 1), 0, OKX))])
    capture_files.write(tmp_path, [line("recv", trade(1))])
    assert [one.exchange for one in recordings_of(read_captures(tmp_path))] == ["binance", "okx"]


def test_what_is_no_journal_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / f"x{SUFFIX}").write_bytes(b"something else")
    with pytest.raises(CaptureError, match="is not a journal"):
        read_captures(tmp_path)


def test_a_torn_journal_plays_up_to_where_it_is_torn(tmp_path: Path) -> None:
    write_journal(tmp_path, "binance", [json.loads(line("recv", trade(n), n)) for n in range(10)])
    (path,) = journal_files(tmp_path)
    path.write_bytes(path.read_bytes() + b"torn")
    (recording,) = recordings_of(read_captures(tmp_path))
    assert len(recording.connections[0].frames) == 10


def test_exchanges_nobody_speaks_are_left_out(tmp_path: Path) -> None:
    write_journal(tmp_path, "mtgox", [json.loads(line("recv", trade(1)))])
    with pytest.raises(CaptureError, match="no frames of binance or"):
        read_captures(tmp_path)
    capture_files.write(tmp_path, [line("recv", trade(1))])
    assert [capture.exchange for capture in read_captures(tmp_path)] == ["binance", None]
