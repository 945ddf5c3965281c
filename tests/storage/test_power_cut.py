"""A power cut takes any part of what was not synced: what is left is whole batches, and all that was synced."""

import os
import shutil
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import day_commits, file_operations
from storage.column_layout import NANOS_PER_DAY
from storage.column_verify import verify
from storage.column_writer import ColumnWriter
from tests.storage.test_column_files import MIDNIGHT, Model, Row, columns_of, everything


class Power:
    """Remembers what the disk holds, and what was written since."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, durable: Path) -> None:
        self._patch = patch
        self._root = root
        self._durable = durable
        self._written: list[tuple[Path, int, bytes]] = []
        self._starts = 0
        real = os.pwrite

        def pwrite(descriptor: int, content: Any, offset: int) -> int:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self._written.append((path.relative_to(root), offset, memoryview(content).tobytes()))
            return real(descriptor, content, offset)

        def create(path: Any, flags: int, *mode: int, **named: Any) -> int:
            if flags & os.O_CREAT:
                self._written.append((Path(path).relative_to(root), 0, b""))
            return opened(path, flags, *mode, **named)

        opened = os.open
        patch.setattr(os, "open", create)
        patch.setattr(os, "pwrite", pwrite)
        # Whether a call waits for the disk makes no difference here: what is synced by itself was not written since.
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None)
        patch.setattr(file_operations, "sync_filesystem", lambda _: self.sync())
        self._start()

    def sync(self) -> None:
        self._written.clear()
        shutil.rmtree(self._durable, ignore_errors=True)
        if self._root.exists():
            shutil.copytree(self._root, self._durable)

    def cut(self, kept: list[float]) -> None:
        """Of each write since the last sync so much reaches the disk; of those beyond the list nothing, nor the files
        that were made then."""
        shutil.rmtree(self._root, ignore_errors=True)
        if self._durable.exists():
            shutil.copytree(self._durable, self._root)
        for (path, offset, content), part in zip(self._written, kept, strict=False):
            place = self._root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("r+b" if place.exists() else "w+b") as file:
                file.seek(offset)
                file.write(content[: int(len(content) * part)])
        self._written.clear()
        self._start()

    def _start(self) -> None:
        self._starts += 1
        self._patch.setattr(day_commits, "machine_start", lambda start=self._starts: start.to_bytes(16, "big"))


def rows_of_batch(number: int, count: int, day: int) -> list[Row]:
    first = number * 10
    return [(MIDNIGHT + day * NANOS_PER_DAY + i, i, i) for i in range(first, first + count)]


def parts(random: Random) -> list[float]:
    """How much of each write reaches the disk: mostly all of it."""
    return [random.choice([0.0, 0.5, *[1.0] * 20]) for _ in range(random.choice([0, 12, 30, 1000]))]


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 1), st.sampled_from([True, False, False, False])),
        min_size=1,
        max_size=8,
    ),
    random=st.randoms(use_true_random=True),
)
def test_a_power_cut_leaves_whole_batches_and_all_that_was_synced(
    steps: list[tuple[int, int, bool]], random: Random
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder) / "columns"
        power = Power(patch, root, Path(folder) / "durable")
        writer, synced = ColumnWriter(root, 64), Model()
        batches = [rows_of_batch(number, count, day) for number, (count, day, _) in enumerate(steps)]
        told = Model()
        for batch, (_, _, sync) in zip(batches, steps, strict=True):
            writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
            told.append(batch)
            if sync:
                writer.flush()
                synced = Model(dict(told.rows))
        for _ in range(2):
            power.cut(parts(random))
            writer = ColumnWriter(root, 64)
            writer.recover("sim", "BTC-USD")
            left = everything(root)
            whole = [batch for batch in batches if set(batch) <= set(left)]
            assert set(synced.stored()) <= set(left) <= set(told.stored())
            assert left == sorted(row for batch in whole for row in batch), "no part of a batch"
        for batch in batches:
            writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        assert everything(root) == told.stored()
        writer.close()


def test_a_killed_process_loses_nothing_that_was_not_synced(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Power(patch, tmp_path / "columns", tmp_path / "durable")
        batch = rows_of_batch(0, 5, 0)
        ColumnWriter(tmp_path / "columns", 64).append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        writer = ColumnWriter(tmp_path / "columns", 64)
        writer.recover("sim", "BTC-USD")
        assert everything(tmp_path / "columns") == batch


def test_records_that_are_overwritten_by_newer_ones_cost_rows_that_were_not_synced_alone(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        power = Power(patch, tmp_path / "columns", tmp_path / "durable")
        writer = ColumnWriter(tmp_path / "columns", 64)
        batches = [rows_of_batch(number, 1, 0) for number in range(day_commits.SLOTS + 20)]
        for number, batch in enumerate(batches):
            writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
            if number == 9:
                writer.flush()
        power.cut([1.0] * 100_000)
        writer = ColumnWriter(tmp_path / "columns", 64)
        writer.recover("sim", "BTC-USD")
        assert everything(tmp_path / "columns") == [row for batch in batches[:10] for row in batch]
        writer.flush()
        for batch in batches:
            writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        power.cut([1.0] * 100_000)
        ColumnWriter(tmp_path / "columns", 64).recover("sim", "BTC-USD")
        assert len(everything(tmp_path / "columns")) >= 10


def test_a_day_of_another_version_is_taken_as_it_is(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        power = Power(patch, tmp_path / "columns", tmp_path / "durable")
        batch = rows_of_batch(0, 5, 0)
        writer = ColumnWriter(tmp_path / "columns", 64)
        writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        writer.close()
        [commits] = tmp_path.glob("columns/sim/BTC-USD/TRADES/commits.*")
        commits.unlink()
        power.sync()
        power.cut([])
        writer = ColumnWriter(tmp_path / "columns", 64)
        more = rows_of_batch(1, 3, 0)
        writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", more))
        assert everything(tmp_path / "columns") == batch + more


def test_rows_of_which_nothing_says_that_the_disk_held_them_are_set_aside_and_told(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        power = Power(patch, tmp_path / "columns", tmp_path / "durable")
        batch = rows_of_batch(0, 5, 0)
        writer = ColumnWriter(tmp_path / "columns", 64)
        writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        writer.close()
        [commits] = tmp_path.glob("columns/sim/BTC-USD/TRADES/commits.*")
        commits.write_bytes(b"\xff" * 200)
        power.sync()
        power.cut([])
        writer = ColumnWriter(tmp_path / "columns", 64)
        writer.recover("sim", "BTC-USD")
        assert everything(tmp_path / "columns") == []
        [verified] = verify(tmp_path / "columns")
        assert "were set aside" in verified.wrong[0]
        writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", batch))
        assert everything(tmp_path / "columns") == batch
        [aside] = tmp_path.glob("columns/sim/BTC-USD/TRADES/id.*.unproven")
        assert aside.stat().st_size == 40
