"""A running instance to measure, started and stopped as a user does it."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.recorded import RECORDINGS
from benchmarks.table import UnavailableError
from cluster.instance import free_ports

COMMAND = Path(sys.executable).with_name("rayfeed")

READY_WITHIN_S = 120.0
STOPPED_WITHIN_S = 30.0
STATUS_WITHIN_S = 60.0
QUIET_FRAMES = 1000


@contextmanager
def running_instance(data: Path, source: str | None = None, **settings: object) -> Iterator[str]:
    """The address of the front door of an instance on the folder `data`; it is gone when the block is left.

    Its source is the replay of the recordings, or the made-up market where there are none, unless one is named;
    `settings` are `RAYFEED_...` variables. Raises `UnavailableError` with its last words when it does not come up.
    """
    if not COMMAND.exists():
        raise UnavailableError("the rayfeed command is missing: run make install")
    port, tls_port = free_ports(2)
    source = source or (f"replay:{RECORDINGS}" if RECORDINGS.is_dir() else "sim")
    options = {"--source": source, "--port": port, "--tls-port": tls_port, "--data": data}
    said, notes = data / "stdout.txt", data / "stderr.txt"
    with said.open("wb") as output, notes.open("wb") as errors:
        process = subprocess.Popen(
            [COMMAND, "up", *(str(part) for option in options.items() for part in option)],
            env=os.environ | {f"RAYFEED_{name}": str(value) for name, value in settings.items()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
    try:
        yield _ready(process, said, notes)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def quiet(folder: Path) -> str:
    """A source that is over in a moment, made in `folder`: what is measured beside it is not the collecting. The
    made-up market where there are no recordings."""
    recording = RECORDINGS / "coinbase.jsonl"
    if not recording.exists():
        return "sim"
    made = folder / "quiet"
    made.mkdir()
    with recording.open("rb") as recorded:
        (made / recording.name).write_bytes(b"".join(itertools.islice(recorded, QUIET_FRAMES)))
    return f"replay:{made}"


def ports(data: Path) -> dict[str, int]:
    """The loopback ports of the parts of the instance on `data`, by what they are for."""
    command: list[str | Path] = [COMMAND, "status", "--json", "--data", str(data)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=STATUS_WITHIN_S)
    if answer.returncode:
        raise UnavailableError(f"the instance does not say its ports: {_last_line(answer.stderr)}")
    found: dict[str, int] = json.loads(answer.stdout)["ports"]
    return found


def _ready(process: subprocess.Popen[bytes], said: Path, notes: Path) -> str:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        for line in said.read_text().splitlines():
            if line.startswith("ready "):
                return line.removeprefix("ready ")
        if process.poll() is not None or time.monotonic() > deadline:
            raise UnavailableError(f"no instance came up: {_last_line(notes.read_text(errors='replace'))}")
        time.sleep(0.1)


def _last_line(text: str) -> str:
    return "".join(text.strip().splitlines()[-1:]) or "it said nothing"
