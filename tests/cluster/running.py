"""A whole rayfeed, started and stopped as a user would, by the command."""

import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote

import numpy as np
import psutil

from cluster.cli import DETACH_TIMEOUT_S
from cluster.instance import free_ports
from storage.schema import COLUMNS, RowType
from tests.polling import wait_until

RAYFEED = Path(sys.executable).with_name("rayfeed")
#: Longer than a command that starts an instance waits itself: what it says then is worth more than that it took long.
START_TIMEOUT_S = DETACH_TIMEOUT_S + 20.0
STOP_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
#: Runs code, a JSON string a line, with `feed` attached to the instance, and writes what it leaves in `answer`.
INSIDE = """
import json, sys, traceback
import ray
from actors.directory import find_actor
from cluster.attach import attach
answers, sys.stdout = sys.stdout, sys.stderr
feed = attach(sys.argv[1])
for line in sys.stdin:
    names = {"ray": ray, "find_actor": find_actor, "feed": feed}
    try:
        exec(json.loads(line), names)
        said = {"answer": names["answer"]}
    except Exception:
        said = {"failure": traceback.format_exc()}
    print(json.dumps(said), file=answers, flush=True)
"""


@dataclass(kw_only=True)
class FrontDoor:
    """An instance as its users see it: where it listens, and its data folder."""

    data: Path
    port: int
    tls_port: int
    _inside: subprocess.Popen[str] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, tls: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of a GET."""
        base = f"https://127.0.0.1:{self.tls_port}" if tls else self.url
        try:
            # Longer than a replica waits for another host.
            with urllib.request.urlopen(base + path, timeout=20, context=_any_certificate()) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def json(self, path: str) -> Any:
        """The answer."""
        return json.loads(self.body(path))

    def body(self, path: str) -> bytes:
        """That of the answer; asked for again, as it says, while who knows it does not answer."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while (answer := self.get(path))[0] == 503 and "retry-after" in answer[1]:
            assert time.monotonic() < deadline, answer
            time.sleep(float(answer[1]["retry-after"]))
        status, _, body = answer
        assert status == 200, body
        return body

    def rows(self, exchange: str, symbol: str, row_type: RowType, columns: str) -> dict[str, np.ndarray[Any, Any]]:
        """The columns of everything stored, after checking the header against the bytes."""
        query = f"exchange={exchange}&symbol={symbol}&type={row_type}&start=0&end=4294967295&columns={columns}"
        header, _, binary = self.body(f"/api/data?{query}").partition(b"\n")
        described = json.loads(header)["columns"]
        assert sum(column["data_length"] for column in described) == len(binary)
        found = {}
        for column in described:
            assert column["data_length"] == column["num_records"] * column["record_size"]
            data, binary = binary[: column["data_length"]], binary[column["data_length"] :]
            found[column["name"]] = np.frombuffer(data, COLUMNS[row_type][column["name"]])
        return found

    def book(self, exchange: str, symbol: str, levels: int | str = "full") -> Any:
        """A book that is synced."""
        return self.json(f"/api/v1/books/{quote(symbol, safe='')}?exchange={exchange}&levels={levels}")

    def change_symbols(self, method: Literal["POST", "DELETE"], exchange: str, *symbols: str) -> tuple[int, Any]:
        """Status and answer of adding or removing symbols, with the token."""
        token = (self.data / "secrets" / "api_token").read_text()
        body = {"exchange": exchange, "symbols": symbols}
        return self.send(method, "/api/v1/subscriptions", body, Authorization=f"Bearer {token}")

    def send(self, method: str, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """Status and JSON answer of a request with a JSON body."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
                said = answer.read()
                return answer.status, json.loads(said) if said else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def inside(self, code: str) -> Any:
        """What `code` leaves in `answer` (JSON), run in a process that is attached to the instance as `feed`."""
        if self._inside is None:
            self._inside = self._attach()
        assert self._inside.stdin is not None and self._inside.stdout is not None
        self._inside.stdin.write(json.dumps(code) + "\n")
        self._inside.stdin.flush()
        said = json.loads(_first_line(self._inside.stdout, ANSWER_TIMEOUT_S))
        assert "failure" not in said, said["failure"]
        return said["answer"]

    def _attach(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", INSIDE, str(self.data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def actors(self) -> dict[str, dict[str, Any]]:
        """By actor name, what each said last."""
        said: dict[str, dict[str, Any]] = self.inside("answer = ray.get(find_actor('supervisor').status.remote())")
        return said

    def collector(self, exchange: str) -> dict[str, Any]:
        """What the collector of an exchange says of itself now."""
        said: dict[str, Any] = self.inside(f"answer = ray.get(find_actor('collector:{exchange}').status.remote())")
        return said

    def collected(self) -> dict[tuple[str, str], dict[str, Any]]:
        """By exchange and symbol, whether it is granted (`state`) and how its book stands (`book`, `epoch`, `gaps`)."""
        rows = self.inside("answer = ray.get(find_actor('supervisor').symbols.remote())")
        return {(row.pop("exchange"), row.pop("symbol")): row for row in rows}

    def interrupt(self) -> None:
        """Who asks it now in another thread need not wait for an answer."""
        if (inside := self._inside) is not None:
            inside.kill()

    def detach(self) -> None:
        """End the process that is attached, if there is one."""
        inside, self._inside = self._inside, None
        if inside is not None:
            inside.kill()
            inside.communicate()


@dataclass(kw_only=True)
class Instance(FrontDoor):
    """One that we run: `process` is that of `rayfeed up`."""

    process: subprocess.Popen[str]
    errors: Path

    def stop(self, which: signal.Signals = signal.SIGINT) -> int:
        """End it; gives the exit status."""
        self.detach()  # or it would look for its Ray for a minute
        self.process.send_signal(which)
        return self.process.wait(STOP_TIMEOUT_S)

    def end(self) -> None:
        """End it as Ctrl-C does, if it runs still: at once, with exit status 0 and nothing left of it."""
        self.detach()
        if self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        try:
            assert self.stop() == 0, self.errors.read_text()
        finally:
            self.process.kill()
            self.process.wait()
        wait_until(lambda: not any(child.is_running() for child in family), within_s=5)
        # What was being started when it ended.
        wait_until(lambda: not any(str(self.data) in " ".join(command_line(p)) for p in psutil.process_iter()), 5)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == "", "nothing but that it is ready"


@contextmanager
def rayfeed_up(
    data: Path, *options: str, environment: Mapping[str, str] | None = None, installed: Path | None = None
) -> Iterator[Instance]:
    """An instance that has said it is ready; ended at the end, if the test has not done it. Where nothing is chosen it
    has Binance alone: seven exchanges take longer to start. `installed` is where its code is, here if not said."""
    if not {"--source", "--exchanges"} & set(options):
        options = (*options, "--exchanges", "binance")
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
            **_code(installed, environment),
        )
    assert process.stdout is not None
    instance = Instance(process=process, data=data, port=port, tls_port=tls_port, errors=errors)
    try:
        first = _first_line(process.stdout, START_TIMEOUT_S)
        assert first == f"ready {instance.url}\n", f"{first!r}\n{errors.read_text()}"
        yield instance
    finally:
        instance.end()
        process.stdout.close()


def command(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    installed: Path | None = None,
    within_s: float = START_TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run `rayfeed` to its end."""
    return subprocess.run(
        [RAYFEED, *arguments],
        capture_output=True,
        text=True,
        timeout=within_s,
        **_code(installed, environment),
    )


def _code(installed: Path | None, environment: Mapping[str, str] | None) -> dict[str, Any]:
    """Ray's workers look for code in the folder of who has started them, and then along the path."""
    path = {} if installed is None else {"PYTHONPATH": str(installed)}
    return {"env": {**os.environ, **path, **(environment or {})}, "cwd": installed}


def _first_line(stream: IO[str], within_s: float) -> str:
    line: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: line.put(stream.readline()), daemon=True).start()
    return line.get(timeout=within_s)


def command_line(process: psutil.Process) -> list[str]:
    """Empty for one that has ended meanwhile."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
