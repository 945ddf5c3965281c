"""The recordings, and an independent plain reading of them to compare with."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

FOLDER = Path(os.environ.get("RAYFEED_RECORDINGS") or Path(__file__).parents[4] / "shared" / "recordings")


@dataclass(frozen=True)
class Recording:
    frames: list[bytes]
    ts_recv: npt.NDArray[np.int64]
    messages: list[Any]


def read_recording(exchange: str) -> Recording:
    path = FOLDER / f"{exchange}.jsonl"
    if not path.is_file():
        pytest.skip(f"no recording {path}: set RAYFEED_RECORDINGS to the folder that holds it")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    received = [line for line in lines if line["kind"] == "recv"]
    return Recording(
        frames=[line["data"].encode() for line in received],
        ts_recv=np.array([line["t_ns"] for line in received], np.int64),
        messages=[json.loads(line["data"]) for line in received],
    )


@pytest.fixture(scope="session")
def binance_recording() -> Recording:
    return read_recording("binance")


@pytest.fixture(scope="session")
def coinbase_recording() -> Recording:
    return read_recording("coinbase")
