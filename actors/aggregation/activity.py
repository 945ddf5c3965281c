"""What bars by activity are called: `tick:1000`, `volume:12.5`, `dollar:1000000`. Apart from the making of them, which
needs numba: who only looks at a name should not wait for that.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from storage.timeframes import TIMEFRAMES

Kind = Literal["tick", "volume", "dollar"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Activity:
    """Bars end when this many trades, this much size, or this much price times size has traded."""

    kind: Kind
    amount: float

    @property
    def name(self) -> str:
        return f"{self.kind}:{repr(self.amount).removesuffix('.0')}"


def activity(timeframe: str) -> Activity | None:
    """None for a timeframe of bars by time; ValueError, with what there is, for what is none of either."""
    if timeframe in TIMEFRAMES:
        return None
    for kind in KINDS:
        if timeframe.startswith(f"{kind}:") and len(timeframe) < 40:
            text = timeframe.removeprefix(f"{kind}:")
            try:
                amount = float(text) if text.isascii() and "_" not in text else math.nan
            except ValueError:
                amount = math.nan
            if 0 < amount < math.inf and (kind != "tick" or amount == int(amount)):
                return Activity(kind, amount)
            whole = "a whole number" if kind == "tick" else "a number"
            raise ValueError(f"{timeframe!r} is no timeframe: after {kind}: comes {whole} above 0.")
    raise ValueError(f"timeframe must be one of: {', '.join(TIMEFRAMES)}, tick:N, volume:SIZE, dollar:AMOUNT.")
