import json
from pathlib import Path

import pytest

from actors.simulator.captures import CaptureError, read_capture, read_captures
from actors.simulator.captures import recordings as recordings_of
from actors.simulator.tape import Tape
from tests.actors.simulator import capture_files
from tests.actors.simulator.capture_files import COINBASE, START_NS, line, trade


def test_the_recordings_of_known_exchanges_are_read_whole(recordings: Path) -> None:
    captures = {capture.path.stem: capture for capture in read_captures(recordings)}
    assert {name: capture.exchange for name, capture in captures.items()} == {name: name for name in captures}
    symbols = {"binance": 4, "bitfinex": 7, "coinbase": 10, "deribit": 10, "kraken": 10, "okx": 3}
    assert {name: len(capture.symbols()) for name, capture in captures.items()} == symbols
    for name, capture in captures.items():
        expected = capture_files.recorded(recordings / f"{name}.jsonl")
        assert capture.playable() == capture.connections
        times = sorted(t_ns for connection in capture.connections for t_ns in connection.times)
        frames = sorted(frame for connection in capture.connections for frame in connection.frames)
        assert times == sorted(fields["t_ns"] for fields in expected)
        assert frames == sorted(fields["data"].encode() for fields in expected)
    assert set(captures["binance"].symbols()) == {"NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"}
    assert set(captures["okx"].symbols()) == {"BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT"}
    assert "tTESTBTC:TESTUSD" in captures["bitfinex"].symbols()
    assert captures["coinbase"].rest.keys() == {"/products"}
    assert "/api/v3/depth?symbol=NKNUSDT&limit=1000" in captures["binance"].rest


def test_an_endpoint_leads_to_the_protocol_that_was_recorded(recordings: Path) -> None:
    paths = {one.exchange: one.endpoint for one in recordings_of(read_captures(recordings))}
    assert paths == {
        "binance": "",
        "bitfinex": "/ws/2",
        "coinbase": "",
        "deribit": "/ws/api/v2",
        "kraken": "",
        "okx": "/ws/v5/public",
    }


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{", "not JSON"),
        (b"[]", "Expected `object`"),
        (b"\xff{}", "not UTF-8 at byte 1"),
        (b'{"t_ns": 1}', "missing required field `conn`"),
        (line("recv", "{}", t_ns=1.5).encode(), "`$.t_ns`"),
        (line("recv", "{}", t_ns="1").encode(), "`$.t_ns`"),
        (line("recv", "{}", t_ns=True).encode(), "`$.t_ns`"),
        (line("recv", "{}", t_ns=2**63).encode(), "`$.t_ns`"),
        (line("recv", "{}", t_ns=-1).encode(), "`$.t_ns`"),
        (line("close", "{}").encode(), "`$.kind`"),
        (line("recv", None).encode(), "`data` is null"),
        (line("recv", "{}", conn=3).encode(), "`$.conn`"),
        (line("recv", "{}", url="wss://[").encode(), "`url` is not a URL"),
        (line("recv", "{}").replace('"{}"', r'"\ud800"').encode(), "not JSON"),
        (line("recv", "{}", url=COINBASE).encode(), "coinbase in a capture of binance"),
        (line("recv", "{}").encode()[:-9], "not JSON"),
    ],
)
def test_an_unreadable_line_names_file_line_and_reason(tmp_path: Path, bad: bytes, why: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(line("open").encode() + b"\n" + bad + b"\n")
    with pytest.raises(CaptureError) as error:
        read_captures(tmp_path)
    text = str(error.value)
    assert text.startswith(f"{path} line 2: ")
    assert why in text
    assert "\n" not in text


def test_a_folder_that_is_missing_or_empty_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        read_captures(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("{}")
    with pytest.raises(CaptureError, match=r"expected files named \*\.jsonl"):
        read_captures(tmp_path)


def test_a_folder_without_a_frame_of_a_known_exchange_cannot_be_played(tmp_path: Path) -> None:
    capture_files.write(tmp_path, [line("recv", "{}", url="wss://ws.example.com")], "k.jsonl")
    capture_files.write(tmp_path, [line("recv", "{}", url="wss://stream.bybit.com/realtime")], "old.jsonl")
    capture_files.write(tmp_path, [line("open")], "only-open.jsonl")
    with pytest.raises(CaptureError, match=r"no frames of binance or .* or okx \(looked in k.jsonl, old.jsonl, only"):
        read_captures(tmp_path)


def test_symbols_come_from_the_address_and_from_sent_messages(tmp_path: Path) -> None:
    subscribe = json.dumps({"method": "SUBSCRIBE", "params": ["ethusdt@trade"], "id": 1})
    path = capture_files.write(tmp_path, [line("open"), line("send", subscribe), line("recv", trade(1))])
    assert tuple(read_capture(path).symbols()) == ("BTCUSDT", "ETHUSDT")
    subscribe = json.dumps(
        {
            "type": "subscribe",
            "product_ids": ["A-USD"],
            "channels": ["ticker", {"name": "matches", "product_ids": ["B-USD"]}],
        }
    )
    path = capture_files.write(tmp_path, [line("send", subscribe, url=COINBASE)])
    assert tuple(read_capture(path).symbols()) == ("A-USD", "B-USD")


def test_captures_of_one_exchange_are_merged_by_time_and_a_connection_keeps_its_order(tmp_path: Path) -> None:
    first = [(0, 1), (50, 3), (40, 4)]  # the clock steps back
    second = [(20, 2), (60, 5)]
    capture_files.write(tmp_path, [line("recv", trade(number), after) for after, number in first], "b.jsonl")
    capture_files.write(tmp_path, [line("recv", trade(number), after) for after, number in second], "a.jsonl")
    (recording,) = recordings_of(read_captures(tmp_path))
    tape = Tape(recording)
    assert [json.loads(frame)["data"]["a"] for frame in tape.frames] == [1, 2, 3, 4, 5]
    assert ((tape.times - START_NS) // 1_000_000).tolist() == [0, 20, 50, 40, 60]
    assert ((tape.due - START_NS) // 1_000_000).tolist() == [0, 20, 50, 50, 60]


def test_rest_bodies_of_an_address_are_kept_by_time(tmp_path: Path) -> None:
    url = "https://api.binance.com/api/v3/depth?symbol=X"
    capture_files.write(tmp_path, [line("rest", "late", 9, url), line("recv", trade(1), 10)], "a.jsonl")
    capture_files.write(tmp_path, [line("rest", "early", 1, url), line("rest", "then", 2, url)], "b.jsonl")
    (recording,) = recordings_of(read_captures(tmp_path))
    bodies = [(t_ns - START_NS, body) for t_ns, body in recording.rest["/api/v3/depth?symbol=X"]]
    assert bodies == [(1_000_000, b"early"), (2_000_000, b"then"), (9_000_000, b"late")]


def test_a_name_that_is_opened_again_is_another_connection(tmp_path: Path) -> None:
    lines = [line("open"), line("recv", trade(1)), line("open"), line("recv", trade(2))]
    capture = read_capture(capture_files.write(tmp_path, lines))
    assert [len(connection.frames) for connection in capture.connections] == [1, 1]
