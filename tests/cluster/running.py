"""A whole rayfeed, started and stopped as a user would, by the command."""

import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from cluster.instance import free_ports
from tests.polling import wait_until

RAYFEED = Path(sys.executable).with_name("rayfeed")
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0


@dataclass
class Instance:
    """A running instance: its process, addresses and data folder."""

    process: subprocess.Popen[str]
    data: Path
    port: int
    tls_port: int
    errors: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, tls: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of a GET."""
        base = f"https://127.0.0.1:{self.tls_port}" if tls else self.url
        try:
            with urllib.request.urlopen(base + path, timeout=10, context=_any_certificate()) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def json(self, path: str) -> Any:
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def status(self) -> dict[str, Any]:
        answer = command("status", "--json", "--data", str(self.data))
        assert answer.returncode == 0, answer.stderr
        status: dict[str, Any] = json.loads(answer.stdout)
        return status

    def inside(self, code: str) -> Any:
        """What `code` leaves in `answer` (JSON), run in a process attached to the instance's actors."""
        script = (
            "import json, ray\n"
            "from pathlib import Path\n"
            "from actors.directory import find_actor\n"
            "from cluster.instance import Instance\n"
            "from cluster.ray_head import connect\n"
            f"connect(Instance.read(Path({str(self.data)!r})).details)\n{code}\n"
            "print(json.dumps(answer))\n"
        )
        arguments = [sys.executable, "-c", script]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self, which: signal.Signals = signal.SIGINT) -> int:
        """End it; gives the exit status."""
        self.process.send_signal(which)
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def rayfeed_up(data: Path, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[Instance]:
    """An instance that has said it is ready; ended at the end, if the test has not done it."""
    port, tls_port = free_ports(2)
    data.parent.mkdir(parents=True, exist_ok=True)
    errors = data.parent / f"{data.name}.stderr"
    arguments = ["up", "--data", str(data), "--port", str(port), "--tls-port", str(tls_port), *options]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [RAYFEED, *arguments],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    assert process.stdout is not None
    instance = Instance(process, data, port, tls_port, errors)
    try:
        first = _first_line(process.stdout)
        assert first == f"ready {instance.url}\n", f"{first!r}\n{errors.read_text()}"
        yield instance
    finally:
        process.stdout.close()
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            finally:
                process.kill()
                process.wait()
            wait_until(lambda: not any(child.is_running() for child in family), within_s=5)


def command(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `rayfeed` to its end."""
    return subprocess.run(
        [RAYFEED, *arguments],
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env={**os.environ, **(environment or {})},
    )


def _first_line(stream: IO[str]) -> str:
    line: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: line.put(stream.readline()), daemon=True).start()
    return line.get(timeout=START_TIMEOUT_S)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
