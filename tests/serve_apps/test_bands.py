"""What values of indicators are called."""

import math

import pytest

from serve_apps.bands import BANDS, band


@pytest.mark.parametrize(
    ("indicator", "value", "name"),
    [
        ("fear_greed", 0, "extreme-fear"),
        ("fear_greed", 24.9, "extreme-fear"),
        ("fear_greed", 25, "fear"),
        ("fear_greed", 75, "extreme-greed"),
        ("fear_greed", 100, "extreme-greed"),
        ("rsi", 29.99, "oversold"),
        ("rsi", 30, "neutral"),
        ("rsi", 70, "overbought"),
    ],
)
def test_a_value_has_the_name_of_its_band(indicator: str, value: float, name: str) -> None:
    assert band(indicator, value).name == name


def test_what_is_no_number_has_no_name() -> None:
    with pytest.raises(ValueError, match="nan"):
        band("rsi", math.nan)


def test_every_table_of_bands_ascends_and_leaves_nothing_out() -> None:
    for bands in BANDS.values():
        limits = [one.below for one in bands]
        assert limits.pop() is None
        assert limits == sorted(set(limits), key=lambda limit: limit or 0)
        assert all(one.vi and one.en for one in bands)
