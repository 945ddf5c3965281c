"""Finnhub's quotes of three funds that follow the Dow Jones, the S&P 500 and the Nasdaq-100
(https://finnhub.io/docs/api/quote). Each is asked for alone: what it does not have of one it has of the others. All is
zero, and `d` null, for a symbol it does not know.

    {"c": 441.2, "d": -1.3, "dp": -0.2938, "h": 443.0, "l": 440.1, "o": 442.0, "pc": 442.5, "t": 1732222800}
"""

from typing import Final

import msgspec

from actors.overview.fields import INDICES, Quote, index_of
from actors.overview.question import Heard, Question, Readings, get, reader, seconds
from config.overview_settings import FinnhubSettings

NAME: Final = "finnhub"


class _Answer(msgspec.Struct):
    c: float
    d: float | None = None
    dp: float | None = None
    t: float | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def questions(settings: FinnhubSettings, key: str) -> tuple[Question, ...]:
    return tuple(_question(symbol, settings.interval_s, key) for symbol in INDICES)


def _question(symbol: str, interval_s: float, key: str) -> Question:
    def read(answer: _Answer) -> Readings:
        if answer.c <= 0 or answer.d is None or answer.dp is None:
            return {}
        return {index_of(symbol): Heard(Quote(answer.c, answer.d, answer.dp), seconds(answer.t))}

    request = get(f"/api/v1/quote?symbol={symbol}", X_Finnhub_Token=key)
    return Question(f"finnhub_{symbol}", NAME, (index_of(symbol),), interval_s, reader(_decode, read), request)
