import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from actors.feeds.symbol_codes import UNKNOWN_SYMBOL, SymbolCodes

names = st.lists(st.sampled_from("ABCDEFG"), max_size=5)


def test_a_code_is_the_place_of_its_name() -> None:
    symbols = SymbolCodes(["X", "Y", "X"])
    assert symbols.names == symbols.active == ("X", "Y")
    assert symbols.names_array.to_pylist() == ["X", "Y"]
    assert symbols.codes(["Y", "Z", "X"]).tolist() == [1, UNKNOWN_SYMBOL, 0]
    assert symbols.codes([]).dtype == np.int32


def test_a_retired_symbol_keeps_its_code_and_comes_back_under_it() -> None:
    symbols = SymbolCodes(["X", "Y", "Z"])
    symbols.retire(["Y", "nobody"])
    assert symbols.any_retired
    assert symbols.active == ("X", "Z")
    assert symbols.code("Y") == 1
    assert symbols.is_retired(np.array([0, 1, UNKNOWN_SYMBOL], np.int32)).tolist() == [False, True, False]
    symbols.add(["Y"])
    assert list(symbols.names) == list(symbols.active) == ["X", "Y", "Z"]
    assert symbols.is_retired(np.array([1], np.int32)).tolist() == [False]


@given(st.lists(st.tuples(st.booleans(), names)))
def test_codes_never_change_whatever_comes_and_goes(steps: list[tuple[bool, list[str]]]) -> None:
    symbols = SymbolCodes()
    codes: dict[str, int] = {}
    active: set[str] = set()
    for adds, own in steps:
        if adds:
            symbols.add(own)
            active |= set(own)
        else:
            symbols.retire(own)
            active -= set(own)
        for name in symbols.names:
            assert codes.setdefault(name, symbols.code(name)) == symbols.code(name)
        assert set(symbols.active) == active
    assert symbols.names_array.to_pylist() == list(symbols.names)
    assert sorted(codes.values()) == list(range(len(symbols.names)))
