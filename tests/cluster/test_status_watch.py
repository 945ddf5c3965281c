"""`rayfeed status --watch` on a running instance, in a terminal; and as lines for programs. And the clocks of hosts."""

import json
import subprocess
from itertools import islice

from tests.cluster.running import RAYFEED, Instance
from tests.terminal import terminal


def test_the_screen_follows_an_instance_until_q(simulated: Instance) -> None:
    with terminal(str(RAYFEED), "status", "--watch", "--every", "0.5", "--data", str(simulated.data)) as one:
        assert one.shows(simulated.url, "binance", "streaming", "4 of 4", "shard:0", "shard:1", "rows/s", "values/s")
        assert one.shows("data 1", "pages 1", "4 synced", "BTCUSDT", "q or Ctrl-C leaves")
        one.press(b"q")
        assert one.ended() == 0
    assert "Traceback" not in one.seen


def test_a_program_gets_a_line_of_json_each_time_until_it_has_enough(simulated: Instance) -> None:
    command = [RAYFEED, "status", "--watch", "--json", "--every", "0.2", "--data", str(simulated.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # What Serve does not say in time is left out.
        lines = (json.loads(process.stdout.readline()) for _ in range(100))
        said = list(islice((one for one in lines if one["replicas"] is not None), 3))
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 0
    trades = [one["actors"]["collector:binance"]["trades"] for one in said]
    assert trades == sorted(trades)
    assert all(len(one["integrity"]) == 4 and one["replicas"]["data"]["run"] >= 1 for one in said)
    assert "redis_url" not in said[0]


def test_a_host_is_asked_for_its_clock(simulated: Instance) -> None:
    said = simulated.inside("from cluster.doctor import clocks\nanswer = clocks(ray.nodes(), 'another host')")
    [ahead_ms] = said.values()
    assert abs(ahead_ms) < 100, "it is our own"
