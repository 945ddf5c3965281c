"""`/api/data` under load: replies too large for one message, clients that leave, files that change."""

import asyncio
import errno
import os
import pickle
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from serve_apps.asgi import Asgi
from serve_apps.data_answers import PIECE_BYTES, WHOLE_REPLY_BYTES, loaded
from serve_apps.data_rows import windows
from serve_apps.fast_lane import ThroughServe
from serve_apps.scaling import Measured
from storage.column_layout import marker_name
from storage.column_reader import ColumnReader, Selection
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS, RowType
from storage.thinned_rows import strided
from tests.polling import wait_until
from tests.serve_apps.conftest import DAY, Stored, asked, data_app, expected, fetch, made_rows, serving, target

TRADES = list(COLUMNS["TRADES"])
LARGE: tuple[str, str, RowType] = ("coinbase", "LARGE-USD", "TRADES")
LIMIT = 2**32 - 1


def large_query(columns: list[str] = TRADES) -> str:
    return target(0, LIMIT, ",".join(columns), "LARGE-USD").partition("?")[2]


async def messages(app: Asgi, query: str, leave_after: int | None = None) -> list[Any]:
    """What `app` sends; the client goes away once it has sent `leave_after` messages."""
    sent: list[Any] = []
    gone = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == leave_after:
            gone.set()
        await asyncio.sleep(0)

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/api/data", "query_string": query.encode(), "headers": []}
    await app(scope, receive, send)
    return sent


def test_a_large_reply_is_the_stored_columns(stored: Stored) -> None:
    with serving(data_app(ColumnReader(stored.root), LIMIT)) as port:
        answer = fetch(port, f"/api/data?{large_query()}")
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.columns[0]["num_records"] == 300_000
    assert answer.binary == expected(stored.rows[LARGE], TRADES, 0, LIMIT)


@pytest.mark.parametrize("points", [299_999, 100_000, 7, 1])
def test_a_large_selection_is_decimated(stored: Stored, points: int) -> None:
    answer = asked(data_app(ColumnReader(stored.root), LIMIT), f"{large_query()}&max_points={points}")
    stride = -(-300_000 // points)
    assert answer.binary == expected(stored.rows[LARGE], TRADES, 0, LIMIT, stride)


async def test_serves_own_proxy_can_pickle_what_is_sent(stored: Stored) -> None:
    app = ThroughServe(Measured(data_app(ColumnReader(stored.root), LIMIT)))
    sent = pickle.loads(pickle.dumps(await messages(app, large_query())))
    _, _, binary = b"".join(message.get("body", b"") for message in sent).partition(b"\n")
    assert binary == expected(stored.rows[LARGE], TRADES, 0, LIMIT)


async def test_a_small_reply_is_one_message_and_a_large_one_is_pieces_of_the_maps(stored: Stored) -> None:
    app = data_app(ColumnReader(stored.root), LIMIT)
    _, whole = await messages(app, f"{large_query()}&max_points=500")
    assert len(whole["body"]) <= WHOLE_REPLY_BYTES
    start, header, *pieces, last = await messages(app, large_query())
    assert start["status"] == 200
    assert bytes(header["body"]).endswith(b"}\n")
    assert all(isinstance(piece["body"], memoryview) for piece in pieces)
    assert all(piece["more_body"] and len(piece["body"]) <= PIECE_BYTES for piece in pieces)
    assert not last.get("more_body")
    # The bytes are those of the files, not a copy: whoever holds them cannot write them.
    assert all(piece["body"].readonly for piece in pieces)


async def test_a_thread_reads_what_is_not_in_memory_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ColumnWriter(tmp_path, 64)
    rows = made_rows("TRADES", DAY + np.arange(300_000) // 5)
    writer.append("coinbase", "LARGE-USD", "TRADES", rows)
    writer.close()
    hops = []
    to_thread = asyncio.to_thread

    async def counted(function: Any, *arguments: Any) -> Any:
        hops.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    app = data_app(ColumnReader(tmp_path), LIMIT)
    query = target(DAY, DAY + 70_000, "price64,size64", "LARGE-USD").partition("?")[2]
    await messages(app, query)
    assert hops == []
    for path in (tmp_path / "coinbase" / "LARGE-USD" / "TRADES").glob("size64.*"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            # A page that somebody has mapped stays, whoever wishes it away.
            app = data_app(ColumnReader(tmp_path), LIMIT)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    body = b"".join(bytes(message.get("body", b"")) for message in await messages(app, query))
    assert hops == [loaded]
    assert body.partition(b"\n")[2] == expected(rows, ["price64", "size64"], DAY, DAY + 70_000)


async def test_a_client_that_goes_away_ends_its_reply(stored: Stored) -> None:
    app = data_app(ColumnReader(stored.root), LIMIT)
    whole = len(await messages(app, large_query()))
    tasks = asyncio.all_tasks()
    assert len(await messages(app, large_query(), leave_after=3)) <= 4 < whole
    assert asyncio.all_tasks() == tasks


def test_a_connection_that_is_reset_leaves_no_task_behind(stored: Stored) -> None:
    running: set[asyncio.Task[Any] | None] = set()
    app = data_app(ColumnReader(stored.root), LIMIT)

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        running.add(task)
        try:
            await app(scope, receive, send)
        finally:
            running.discard(task)

    with serving(watched) as port:
        lifespan = set(running)
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(f"GET /api/data?{large_query()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_until(lambda: running == lifespan)
        assert fetch(port, f"/api/data?{large_query(['time'])}").columns[0]["num_records"] == 300_000


def test_a_reply_over_the_limit_is_refused_before_a_byte_of_it(stored: Stored) -> None:
    query = large_query(["time", "id"])
    length = len(asked(data_app(ColumnReader(stored.root), LIMIT), query).body)
    app = data_app(ColumnReader(stored.root), length - 1)
    answer = asked(app, query)
    assert answer.status == 413
    assert answer.body.decode() == (
        f"Reply of {length} bytes is over the limit of {length - 1}: "
        "ask for a shorter range, fewer columns, or set max_points"
    )
    assert "content-type" not in answer.headers
    assert asked(data_app(ColumnReader(stored.root), length), query).status == 200
    assert asked(app, f"{query}&max_points=150000").status == 200


def test_a_long_range_is_selected_beside_the_event_loop(stored: Stored) -> None:
    class Watched(ColumnReader):
        threads: set[int]

        def select(self, *arguments: Any) -> Selection:
            self.threads.add(threading.get_ident())
            return super().select(*arguments)

    short, long = Watched(stored.root), Watched(stored.root)
    short.threads, long.threads = set(), set()
    app = data_app(short, LIMIT, long)
    assert asked(app, target(0, LIMIT).partition("?")[2]).columns[0]["num_records"] == 15
    assert not short.threads
    assert long.threads
    assert threading.get_ident() not in long.threads
    assert asked(app, target(DAY, DAY + 86_400).partition("?")[2]).columns[0]["num_records"] == 9
    assert short.threads == {threading.get_ident()}


def test_rows_that_are_being_rewritten_are_waited_for_then_asked_for_again(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY]))
    writer.close()
    marker = tmp_path / "coinbase" / "BTC-USD" / "TRADES" / marker_name(DAY // 86_400)
    marker.touch()
    app = data_app(ColumnReader(tmp_path), LIMIT)
    answer = asked(app, target(DAY, DAY).partition("?")[2])
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(tmp_path).encode() not in answer.body

    class Counting(ColumnReader):
        attempts = 0

        def select(self, *arguments: Any) -> Selection:
            self.attempts += 1
            return super().select(*arguments)

    reader = Counting(tmp_path)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(asked, data_app(reader, LIMIT), target(DAY, DAY).partition("?")[2])
        wait_until(lambda: reader.attempts >= 2)
        marker.unlink()
        assert waiting.result().columns[0]["num_records"] == 1


def test_a_day_without_the_column_is_an_error_without_a_path(tmp_path: Path) -> None:
    writer = ColumnWriter(tmp_path, 64)
    writer.append("coinbase", "BTC-USD", "TRADES", made_rows("TRADES", [DAY]))
    writer.close()
    for path in tmp_path.rglob("price64.*"):
        path.unlink()
    answer = asked(data_app(ColumnReader(tmp_path), LIMIT), target(DAY, DAY, "price64").partition("?")[2])
    assert answer.status == 500
    assert b"price64" in answer.body
    assert str(tmp_path).encode() not in answer.body
    assert asked(data_app(ColumnReader(tmp_path), LIMIT), target(DAY, DAY).partition("?")[2]).status == 200


def test_a_system_without_more_maps_says_to_ask_for_less(stored: Stored) -> None:
    class Exhausted(ColumnReader):
        def select(self, *arguments: Any) -> NoReturn:
            raise OSError(errno.ENOMEM, "a column file cannot be mapped")

    answer = asked(data_app(Exhausted(stored.root), LIMIT), target(DAY, DAY).partition("?")[2])
    assert answer.status == 503
    assert b"ask for a shorter range" in answer.body


def test_every_answer_is_of_one_state_while_rows_are_appended(tmp_path: Path) -> None:
    chunk, chunks_a_round, rounds = 500, 6, 20
    total = chunk * chunks_a_round * rounds
    rows = made_rows("TRADES", DAY + np.arange(total) // 10)
    writer = ColumnWriter(tmp_path, 64)
    # In every round the writer appends its chunks while an answer is made.
    rounds_begin = threading.Barrier(2)

    def write() -> None:
        for first in range(0, total, chunk):
            if first % (chunk * chunks_a_round) == 0:
                rounds_begin.wait(timeout=30)
            writer.append("coinbase", "BTC-USD", "TRADES", {k: v[first : first + chunk] for k, v in rows.items()})
        writer.close()

    def fetch_rows() -> int:
        answer = fetch(port, target(DAY, DAY + 86_399, "time,id,price,taker_order_id"))
        assert answer.status == 200
        count = int(answer.columns[0]["num_records"])
        columns = ["time", "id", "price", "taker_order_id"]
        assert answer.binary == b"".join(rows[name][:count].tobytes() for name in columns)
        return count

    thread = threading.Thread(target=write)
    seen: list[int] = []
    with serving(data_app(ColumnReader(tmp_path, rescan_s=0), LIMIT)) as port:
        thread.start()
        try:
            for _ in range(rounds):
                rounds_begin.wait(timeout=30)
                seen.append(fetch_rows())
        except BaseException:
            rounds_begin.abort()
            raise
        finally:
            thread.join()
        seen.append(fetch_rows())
    a_round = chunk * chunks_a_round
    assert all(number * a_round <= count <= (number + 1) * a_round for number, count in enumerate(seen[:-1]))
    assert seen[-1] == total


def test_windows_hold_every_row_once_and_few_pages() -> None:
    values = np.arange(5_000_000, dtype="<u4")
    parts = [values[:3_000_000], values[:0], values[3_000_000:]]
    assert np.array_equal(np.concatenate(list(windows(parts))), values)
    sparse = list(windows(strided(parts, 1000)))
    assert np.array_equal(np.concatenate(sparse), values[::1000])
    assert max(map(len, sparse)) <= 8 * 1024 * 1024 // 4000


async def test_a_websocket_is_turned_away(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await data_app(ColumnReader(tmp_path), LIMIT)({"type": "websocket", "path": "/api/data"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
