"""The rounds of the benchmarks that play recordings; each asserts that what it measures was done right."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest

from actors.feeds.binance import Binance
from actors.feeds.registry import FEEDS
from benchmarks import books, decode, fuzz
from benchmarks.recorded import EXCHANGES, FRAMES_AT_ONCE, Recorded, read_recordings
from benchmarks.table import UnavailableError


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recorded]:
    try:
        return read_recordings()
    except UnavailableError as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_recording_is_played_whole_each_time(recorded: dict[str, Recorded], exchange: str) -> None:
    workload = recorded[exchange]
    calls = workload.played(times=2).calls
    frames = list(chain.from_iterable(own for own, _ in calls))
    first, second = frames[: len(workload)], frames[len(workload) :]
    assert first == workload.frames
    assert len(second) == len(workload)
    if exchange != "bitfinex":
        assert second == first
    assert all(0 < len(own) == len(ts_recv) <= FRAMES_AT_ONCE for own, ts_recv in calls)
    assert (np.diff(np.concatenate([ts_recv for _, ts_recv in calls])) >= 0).all()


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_recorded_frame_is_decoded_in_a_round(
    recorded: dict[str, Recorded], exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "FRAMES", 2 * len(recorded[exchange]))
    assert decode.our_round(recorded[exchange]) > 0


@pytest.mark.parametrize("exchange", books.CHECKSUMS)
def test_every_recorded_checksum_is_verified_in_a_round(
    recorded: dict[str, Recorded], exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "FRAMES", 2 * len(recorded[exchange]))
    assert books.our_round(recorded[exchange]) > 0


def test_a_rate_is_the_median_of_rounds_in_which_exchanges_weigh_their_frames() -> None:
    slow, fast = [1.0, 9.0, 1.0], [0.5, 9.0, 0.5]
    assert decode.rate([slow, fast], [1, 3]) == pytest.approx(4 / (1 * 1.0 + 3 * 0.5))


def test_all_exchanges_are_fuzzed(recorded: dict[str, Recorded]) -> None:
    subjects = fuzz.subjects()
    assert subjects.keys() == FEEDS.keys()
    for own in subjects.values():
        for feed, frames in own:
            outcome = fuzz.Outcome()
            fuzz.fuzz(feed, frames, 1_000, 1, outcome)
            assert (outcome.frames, outcome.raised) == (1_000, [])


class Broken(Binance):
    """Raises for what it should reject."""

    def decode(self, frames: Sequence[bytes], ts_recv: Any) -> Any:
        decoded = super().decode(frames, ts_recv)
        if decoded.rejected:
            raise RuntimeError(decoded.rejected[0].reason)
        return decoded


def test_what_fuzzing_finds_is_counted() -> None:
    good = [b'{"result":null,"id":1}']
    right, wrong = fuzz.Outcome(), fuzz.Outcome()
    fuzz.fuzz(Binance(["BTCUSDT"], "wss://stream.binance.com"), good, 2_000, 1, right)
    fuzz.fuzz(Broken(["BTCUSDT"], "wss://stream.binance.com"), good, 2_000, 1, wrong)
    assert (right.frames, right.raised) == (2_000, [])
    assert right.rejected > 500
    assert len(right.reasons) > 5
    assert len(wrong.raised) == 2
    assert wrong.raised[0].startswith("RuntimeError")
