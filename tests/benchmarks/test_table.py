import io

from rich.console import Console

from benchmarks.table import Bound, Row, show


def test_the_table_says_which_bounds_held() -> None:
    rows = [
        Row("fast enough", 2_000_000, "frames/s", 1_000_000, "peer", Bound(at_least=1_000_000, ratio_at_least=2)),
        Row("too slow", 1_500_000, "frames/s", 1_000_000, "peer", Bound(ratio_at_least=2)),
        Row("too much", 1, "trades", bound=Bound(at_most=0)),
        Row("for information", 7.25, "MB"),
        Row("elsewhere", None, note="not measured: wrk is missing", bound=Bound(at_least=1)),
    ]
    output = io.StringIO()
    show(rows, Console(file=output, width=160))
    shown = {row.name: next(line for line in output.getvalue().splitlines() if row.name in line) for row in rows}
    assert "2,000,000" in shown["fast enough"]
    assert "≥ 1,000,000, ≥ 2 x" in shown["fast enough"]
    assert " yes " in shown["fast enough"]
    assert "1.5 x" in shown["too slow"]
    assert " NO " in shown["too slow"]
    assert " NO " in shown["too much"]
    assert "not measured: wrk is missing" in shown["elsewhere"]
    assert [row.held for row in rows] == [True, False, False, None, None]
