"""What a value of an indicator is called, in both languages: one table, which pages and browsers read too."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Band:
    """Values under `below`, and not under that of the band before; None: all that is left."""

    below: float | None
    name: str
    vi: str
    en: str


BANDS: Final = {
    indicator: tuple(Band(**band) for band in bands)
    for indicator, bands in json.loads((Path(__file__).parent / "bands.json").read_text("utf-8")).items()
}


def band(indicator: str, value: float) -> Band:
    """Raises `KeyError` for an indicator without bands, `ValueError` for NaN."""
    if math.isnan(value):
        raise ValueError("nan is in no band")
    return next(one for one in BANDS[indicator] if one.below is None or value < one.below)
