"""What is said of readers' waits is what they waited."""

import http.server
import math
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.campaign import Verdict
from tests.hosts.faults import Event, Result, table
from tests.hosts.reads import Reads, Waits
from tests.polling import wait_until


class _Door(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200
    wait_s = 0.0

    def do_GET(self) -> None:
        assert int(self.path.removeprefix("/since/")) <= time.time() - 9
        time.sleep(_Door.wait_s)
        self.send_response(_Door.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""


@pytest.fixture
def door() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Door) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def test_slow_and_failing_answers_are_counted_in_their_time(door: int) -> None:
    with Reads("127.0.0.1", door, "/since/{since}") as reads:
        began = time.monotonic()
        wait_until(lambda: reads.between(began, math.inf).reads > 20)
        slow = time.monotonic()
        _Door.wait_s = 0.2
        wait_until(lambda: reads.between(slow, math.inf).p99_ms > 150)
        failing, _Door.wait_s, _Door.status = time.monotonic(), 0.0, 503
        wait_until(lambda: reads.between(failing, math.inf).failed > 3)
        over, _Door.status = time.monotonic(), 200
        assert not reads.answered(over + 1000)
        wait_until(lambda: reads.answered(over))
    calm = reads.between(began, slow)
    assert calm.reads > 20 and calm.failed == 0
    assert reads.between(slow, failing).p99_ms > 150
    assert reads.between(failing, over).failed > 3
    assert reads.between(over + 1000, over + 2000).reads == 0


def test_a_table_has_a_line_for_each_fault() -> None:
    calm, busy = Waits(100, 0, 2.0, 9.0), Waits(50, 3, 4.0, 80.0)
    events = [Event("cut", 5.0, 1.5, busy), Event("cut", 5.0, 2.5, busy), Event("power", 9.0, 30.0, calm)]
    said = table(Result(calm, events, Verdict([], 1, 0, 0), 60.0)).splitlines()
    assert said[2] == "| none | | | | 100 | 0 | 2.0 ms | 9.0 ms |"
    assert said[3] == "| cut | 2 | 2.0 s | 2.5 s | 100 | 6 | 4.0 ms | 80.0 ms |"
    assert len(said) == 5
