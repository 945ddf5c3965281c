"""A reader against every moment of a merge, one file operation of the writer at a time."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.column_reader import BeingRewritten, ColumnReader
from storage.column_writer import ColumnWriter
from storage.schema import COLUMNS
from tests.storage.test_column_files import MIDNIGHT, Row, columns_of, everything, rows_of

BEFORE: list[Row] = [(MIDNIGHT + i * 100, i, i) for i in range(10, 20)]
LATE: list[Row] = [(MIDNIGHT + i * 100, i, i) for i in range(3)]


def write(root: Path, rows: list[Row]) -> None:
    writer = ColumnWriter(root, 64)
    writer.append("sim", "BTC-USD", "TRADES", columns_of("TRADES", rows))
    writer.close()


Operation = tuple[str, tuple[Path, ...]]


@pytest.fixture
def merge(tmp_path: Path) -> tuple[Path, list[Operation]]:
    """A root as it is when the merged files are complete, and what the writer does from there."""
    root, ready = tmp_path / "writer", tmp_path / "ready"
    write(root, BEFORE)
    operations: list[Operation] = []
    with pytest.MonkeyPatch.context() as patch:

        def record(name: str) -> None:
            real = getattr(os, name)

            def operation(*arguments: Any, **named: Any) -> Any:
                starts = name == "open" and Path(arguments[0]).name.startswith("merging")
                if starts:
                    shutil.copytree(root, ready)
                if starts or (name != "open" and ready.exists()):
                    paths = tuple(Path(path).relative_to(root) for path in arguments if isinstance(path, str | Path))
                    operations.append((name, paths))
                return real(*arguments, **named)

            patch.setattr(os, name, operation)

        for name in ("open", "replace", "unlink"):
            record(name)
        write(root, LATE)
    assert len(operations) == len(COLUMNS["TRADES"]) + 3
    return ready, operations


def perform(root: Path, operations: list[Operation]) -> None:
    for name, paths in operations:
        if name == "open":
            (root / paths[0]).touch()
        elif name == "replace":
            (root / paths[0]).replace(root / paths[1])
        else:
            (root / paths[0]).unlink()


def between(patch: pytest.MonkeyPatch, moment: int, act: Callable[[], None]) -> Callable[[], int]:
    """Call `act` before the `moment`th file operation from now; says how many there were."""
    count = 0

    def watch(name: str) -> None:
        real = getattr(os, name)

        def operation(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                act()
            return real(*arguments, **named)

        patch.setattr(os, name, operation)

    for name in ("open", "stat", "fstat", "scandir"):
        watch(name)
    return lambda: count


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("done", [0, 6, 12])
def test_a_select_sees_one_state_whatever_a_merge_does_meanwhile(
    tmp_path: Path, merge: tuple[Path, list[Operation]], monkeypatch: pytest.MonkeyPatch, done: int, warm: bool
) -> None:
    ready, operations = merge
    monkeypatch.setattr("storage.column_reader._SECONDS_BETWEEN_ATTEMPTS", 0)
    monkeypatch.setattr("storage.column_reader._ATTEMPTS", 2)
    after = sorted(BEFORE + LATE)
    columns = list(COLUMNS["TRADES"])
    for more in (1, len(operations)):
        moment, reached = 0, True
        while reached:
            moment += 1
            root = tmp_path / "copy"
            shutil.copytree(ready, root)
            reader = ColumnReader(root)
            if warm:
                assert reader.select("sim", "BTC-USD", "TRADES", 0, 2**63, columns[:5]).rows == len(BEFORE)
            perform(root, operations[:done])
            with pytest.MonkeyPatch.context() as patch:
                rest = operations[done : done + more]
                count = between(patch, moment, lambda root=root, rest=rest: perform(root, rest))  # type: ignore[misc]
                try:
                    selection = reader.select("sim", "BTC-USD", "TRADES", 0, 2**63, columns)
                except BeingRewritten:
                    assert done or more < len(operations)
                else:
                    assert rows_of("TRADES", selection) in (BEFORE, after)
                reached = count() >= moment
            shutil.rmtree(root)


def test_a_reader_started_after_any_step_sees_a_state_or_says_so(
    tmp_path: Path, merge: tuple[Path, list[Operation]]
) -> None:
    ready, operations = merge
    states = []
    for done in range(len(operations) + 1):
        root = tmp_path / str(done)
        shutil.copytree(ready, root)
        perform(root, operations[:done])
        try:
            states.append(everything(root))
        except BeingRewritten:
            states.append([])
    assert states == [BEFORE, *[[]] * (len(operations) - 1), sorted(BEFORE + LATE)]
