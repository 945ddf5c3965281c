"""Alerts of a running instance: by the command, over HTTP and from a notebook, told within a second of the trade."""

import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.cluster.running import Instance, command
from tests.polling import wait_until

ALERTS = "/api/v1/alerts"
SYMBOL = "BTCUSDT"


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a web server, and what is posted there."""
    posts: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            post = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posts.append({**post, "received": time.time_ns()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook", posts
        finally:
            server.shutdown()
            thread.join()


def send(instance: Instance, method: str, path: str = "", body: Any = None) -> tuple[int, Any]:
    token = (instance.data / "secrets" / "api_token").read_text()
    return instance.send(method, ALERTS + path, body, Authorization=f"Bearer {token}")


def price(instance: Instance) -> float:
    return float(instance.rows("binance", SYMBOL, "TRADES", "price64")["price64"][-1])


@contextmanager
def around_the_price(instance: Instance, url: str) -> Iterator[list[str]]:
    """Two alerts, one of which fires as soon as the price leaves where it is; removed at the end."""
    given = {"symbol": SYMBOL, "threshold": price(instance), "channels": ["webhook", "websocket"]}
    made = []
    try:
        for condition in ("price_above", "price_below"):
            body = {**given, "condition": condition, "metadata": {"webhook_url": url}, "note": f"{given['threshold']}"}
            status, alert = send(instance, "POST", body=body)
            assert status == 201, alert
            made.append(alert["alert_id"])
        yield made
    finally:
        for alert_id in made:
            assert send(instance, "DELETE", f"/{alert_id}") == (204, None)


def test_who_wants_to_know_is_told_within_a_second_of_the_trade(simulated: Instance) -> None:
    with receiver() as (url, posts):
        for count in range(1, 6):
            with around_the_price(simulated, url):
                wait_until(lambda count=count: len(posts) >= count)
        for post in posts:
            assert post["threshold"] == float(post["note"])
            above = post["condition"] == "price_above"
            assert post["price"] > post["threshold"] if above else post["price"] < post["threshold"]
        assert len({post["delivery_id"] for post in posts}) == len(posts), "nobody was told twice"
        for what in ("fired_at", "received"):
            delays = [(post[what] - post["ts_event"]) / 1e6 for post in posts]
            print(f"from trade to {what}: median {statistics.median(delays):.0f} ms, at most {max(delays):.0f} ms")
            assert statistics.median(delays) < 1000
        stored = simulated.rows("binance", SYMBOL, "TRADES", "time,nanos,price64")
        known = {
            (int(time) * 10**9 + int(nanos), float(value))
            for time, nanos, value in zip(stored["time"], stored["nanos"], stored["price64"], strict=True)
        }
        assert {(post["ts_event"], post["price"]) for post in posts} <= known
        log = send(simulated, "GET", "/deliveries?limit=1000")[1]
        assert {(row["channel"], row["status"]) for row in log} == {
            ("webhook", "delivered"),
            ("websocket", "delivered"),
        }


def test_alerts_outlive_their_process(simulated: Instance) -> None:
    with receiver() as (url, posts), around_the_price(simulated, url) as made:
        before = simulated.actors()["alerter"]["pid"]
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: simulated.actors()["alerter"]["pid"] != before)
        status, alerts = send(simulated, "GET")
        assert (status, {alert["alert_id"] for alert in alerts}) == (200, set(made))
        count = len(posts)
        with around_the_price(simulated, url):
            wait_until(lambda: len(posts) > count)


def test_notebooks_and_the_command_make_alerts_too_and_say_what_is_wrong(simulated: Instance) -> None:
    alert_id = simulated.inside(
        f"answer = feed.add_alert('binance', '{SYMBOL}', 'rsi_above', 70, timeframe='1h')['alert_id']"
    )
    said = command("alerts", "list", "--json", "--data", str(simulated.data))
    assert [(row["alert_id"], row["condition"]) for row in json.loads(said.stdout)] == [(alert_id, "rsi_above")]
    assert simulated.inside("answer = list(feed.alerts().index)") == [alert_id]
    assert simulated.inside(f"feed.remove_alert('{alert_id}')\nanswer = len(feed.alerts())") == 0
    arguments = ["binance", SYMBOL, "price_above", "1e9", "--once", "--data", str(simulated.data)]
    added = command("alerts", "add", *arguments)
    assert (added.returncode, added.stderr) == (0, "")
    removed = command("alerts", "remove", added.stdout.strip(), "--data", str(simulated.data))
    assert removed.stdout == f"{added.stdout.strip()}: removed\n"
    said = command("alerts", "add", "binance", SYMBOL, "price_above", "-5", "--data", str(simulated.data))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "rayfeed: threshold is -5: expected a number, 0 or more\n"
    for wrong, says in (
        ({"symbol": "BTCUSDX"}, "symbol: 'BTCUSDX' is not collected on binance; did you mean BTCUSDT"),
        ({"exchange": "nasdaq"}, "exchange: there is no 'nasdaq', only binance"),
        ({"timeframe": "7m"}, "timeframe: there is no '7m', only 1s"),
        ({"channels": ["pigeon"]}, "channels: there is no 'pigeon', only websocket"),
    ):
        known = {"exchange": "binance", "symbol": SYMBOL, "condition": "rsi_above", "threshold": 70}
        status, problem = send(simulated, "POST", body={"channels": ["websocket"], **known, **wrong})
        assert (status, problem["detail"][: len(says)]) == (400, says)
    message = simulated.inside("try: feed.remove_alert('nobody')\nexcept ValueError as error: answer = str(error)\n")
    assert message == "there is no alert 'nobody'"
    assert simulated.send("GET", ALERTS, None)[0] == 401
