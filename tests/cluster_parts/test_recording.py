import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.recorder import Recorder
from cluster.instance import Instance, InstanceError
from cluster.recording import Recording, _record, _report, _signalled
from config import SettingsError
from storage.journal import journal_files, read_journal
from tests.polling import wait_until

FRAMES = [b'{"a":%d}' % number for number in range(100)]


class Running:
    """The journals of an instance, as its supervisor offers them; `setting` is the setting `journal`."""

    def __init__(self, folder: Path, exchanges: list[str], setting: bool = False) -> None:
        self.folder = folder
        self.setting = setting
        self.recorders = {name: self._recorder(name) for name in exchanges}

    def __call__(self, method: str, *arguments: Any) -> dict[str, dict[str, Any]]:
        said: dict[str, dict[str, Any]] = getattr(self, method)(*arguments)
        return said

    def record(self, on: bool, exchanges: list[str]) -> dict[str, dict[str, Any]]:
        said = {name: self.recorders[name].status() for name in exchanges}
        for name in exchanges:
            self.recorders[name].switch(on or self.setting)
        return {name: {**said[name], "on": self.recorders[name].on} for name in exchanges}

    def journals(self) -> dict[str, dict[str, Any]]:
        return {name: recorder.status() for name, recorder in self.recorders.items()}

    def receive(self, exchange: str, count: int) -> None:
        self.recorders[exchange].frames("ws-1", "wss://host", FRAMES[:count], np.arange(count))

    def restart(self, exchange: str) -> None:
        self.recorders[exchange].close()
        self.recorders[exchange] = self._recorder(exchange)

    def _recorder(self, exchange: str) -> Recorder:
        return Recorder(self.folder, exchange, 1 << 20, self.setting)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(*exchanges: str, setting: bool = False) -> Running:
        made.append(Running(tmp_path / "journal", list(exchanges), setting))
        return made[-1]

    yield start
    for one in made:
        for recorder in one.recorders.values():
            recorder.close()


def recorded(folder: Path) -> list[tuple[str, bytes]]:
    return [(event.exchange, event.data) for path in journal_files(folder) for event in read_journal(path)]


def test_what_is_received_between_beginning_and_end_is_written_and_counted(running: Callable[..., Running]) -> None:
    instance = running("okx", "binance")
    instance.receive("okx", 5)
    recording = Recording(instance, None)
    assert list(recording.taken) == ["binance", "okx"]
    instance.receive("okx", 10)
    instance.receive("binance", 20)
    recording.look()
    assert [(name, taken.frames, taken.on) for name, taken in recording.taken.items()] == [
        ("binance", 20, True),
        ("okx", 10, True),
    ]
    instance.receive("okx", 3)
    recording.end()
    instance.receive("okx", 7)
    assert [(taken.frames, taken.on) for taken in recording.taken.values()] == [(20, False), (13, False)]
    assert sorted(recorded(instance.folder)) == sorted(
        [("okx", data) for data in FRAMES[:10] + FRAMES[:3]] + [("binance", data) for data in FRAMES[:20]]
    )


def test_only_the_chosen_exchanges_are_recorded(running: Callable[..., Running]) -> None:
    instance = running("okx", "binance")
    times = iter([0.0, 1.0, 4.0])
    recording = Recording(instance, ["okx"], lambda: next(times))
    instance.receive("okx", 2)
    instance.receive("binance", 2)
    recording.look()
    assert (recording.seconds, recording.taken["okx"].frames_per_second) == (1.0, 2.0)
    recording.end()
    assert (recording.seconds, recording.taken["okx"].frames_per_second) == (4.0, 0.5)
    assert {exchange for exchange, _ in recorded(instance.folder)} == {"okx"}
    assert list(recording.taken) == ["okx"]


def test_an_unknown_exchange_is_named_with_those_there_are_and_nothing_is_switched_on(
    running: Callable[..., Running],
) -> None:
    instance = running("okx", "binance")
    with pytest.raises(SettingsError) as caught:
        Recording(instance, ["okx", "mtgox"])
    assert str(caught.value) == "--exchanges: no exchange called mtgox runs here; there are binance, okx"
    assert not any(recorder.on for recorder in instance.recorders.values())


def test_a_journal_that_the_setting_keeps_on_counts_from_the_beginning_of_the_recording(
    running: Callable[..., Running],
) -> None:
    instance = running("okx", setting=True)
    instance.receive("okx", 50)
    recording = Recording(instance, None)
    instance.receive("okx", 4)
    recording.look()
    instance.receive("okx", 4)
    recording.end()
    assert (recording.taken["okx"].frames, recording.taken["okx"].on) == (8, True)
    assert instance.recorders["okx"].on


def test_a_collector_that_was_started_again_is_told_again_and_its_frames_add_up(
    running: Callable[..., Running],
) -> None:
    instance = running("okx")
    recording = Recording(instance, None)
    instance.receive("okx", 10)
    recording.look()
    instance.restart("okx")
    instance.receive("okx", 99)
    recording.look()
    instance.receive("okx", 5)
    recording.look()
    instance.receive("okx", 1)
    recording.end()
    assert (recording.taken["okx"].frames, recording.taken["okx"].interruptions) == (16, 1)
    assert len(recorded(instance.folder)) == 16


def test_a_full_disk_is_counted_and_said(running: Callable[..., Running], tmp_path: Path) -> None:
    instance = running("okx")
    (tmp_path / "journal").write_text("a file where the folder should be")
    recording = Recording(instance, None)
    instance.receive("okx", 100)
    instance.recorders["okx"]._do(lambda writer: writer.flush())
    recording.look()
    taken = recording.taken["okx"]
    assert (taken.lost, taken.failure) == (100, "File exists")
    (tmp_path / "journal").unlink()
    recording.end()


def test_the_journals_are_switched_off_after_the_time_and_by_a_signal(running: Callable[..., Running]) -> None:
    instance = running("okx")
    assert _record(instance, None, 0.05, threading.Event()).seconds >= 0.05
    assert not instance.recorders["okx"].on
    for number in (signal.SIGINT, signal.SIGTERM):
        with _signalled() as stop:

            def send(number: int = number) -> None:
                wait_until(lambda: instance.recorders["okx"].on)
                os.kill(os.getpid(), number)

            sender = threading.Thread(target=send)
            sender.start()
            _record(instance, None, None, stop)
            sender.join()
        assert not instance.recorders["okx"].on


def test_the_journals_are_switched_off_when_the_recording_fails(running: Callable[..., Running]) -> None:
    instance = running("okx", "kraken")
    answers = iter([instance.journals])

    def failing(method: str, *arguments: Any) -> dict[str, dict[str, Any]]:
        if method == "journals" and next(answers, None) is None:
            raise InstanceError("does not answer")
        return instance(method, *arguments)

    with pytest.raises(InstanceError, match="does not answer"):
        _record(failing, None, 5.0, threading.Event())
    assert not any(recorder.on for recorder in instance.recorders.values())


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_without_an_instance_the_command_says_how_to_start_one(tmp_path: Path, extra: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "record", "--data", str(tmp_path), *extra], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"rayfeed: nothing runs on {tmp_path}; start it with: rayfeed up --data {tmp_path}\n"


def test_an_instance_that_still_starts_is_asked_again_later(tmp_path: Path) -> None:
    instance = Instance.claim(tmp_path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cluster.cli", "record", "--data", str(tmp_path)], capture_output=True, text=True
        )
    finally:
        instance.release()
    assert done.returncode == 1
    assert done.stderr == f"rayfeed: rayfeed pid {os.getpid()} (still starting); ask again in a moment\n"


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.cli", "record", "--data", str(tmp_path), "--exchanges", " ,"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "rayfeed: --exchanges: expected names separated by commas\n")


def test_the_report_is_json_with_numbers(running: Callable[..., Running]) -> None:
    instance = running("okx")
    recording = Recording(instance, None)
    instance.receive("okx", 3)
    recording.end()
    report = json.loads(json.dumps(_report(recording, {"a.journal": 12})))
    assert report["files"] == {"a.journal": 12}
    told = report["exchanges"]["okx"]
    assert (told["frames"], told["lost"], told["on"], told["path"]) == (3, 0, False, str(instance.folder))
