"""Actors do not pay for pandas, and whoever wants it has it."""

import subprocess
import sys


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_actors_that_have_the_data_make_arrays_without_pandas() -> None:
    _run(
        "import sys, numpy, pyarrow, actors.collector, actors.symbol_shard, actors.simulator.simulator;"
        "pyarrow.array(numpy.arange(3)), pyarrow.array([1, None]), pyarrow.table({'a': ['b']}).to_pylist();"
        "sys.exit('pandas' in sys.modules)"
    )


def test_it_is_there_as_soon_as_it_is_wanted() -> None:
    _run(
        "import actors, pyarrow;"
        "frame = pyarrow.table({'a': [1, 2]}).to_pandas();"
        "assert list(frame['a']) == [1, 2];"
        "assert pyarrow.Table.from_pandas(frame)['a'].to_pylist() == [1, 2]"
    )


def test_where_it_was_before_arrays_are_made_of_its_series() -> None:
    _run(
        "import pandas, actors, pyarrow;"
        "series = pandas.Series([1.0, float('nan')]);"
        "assert pyarrow.array(series).null_count == 1, 'not a number is null in a Series only'"
    )
