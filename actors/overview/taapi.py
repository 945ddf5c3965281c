"""TAAPI's RSI(14) of bitcoin's days, where ours are too few (https://taapi.io/indicators/relative-strength-index/): a
number and nothing else. It takes its secret in the address alone.

    {"value": 55.123}
"""

from typing import Final
from urllib.parse import quote

import msgspec

from actors.overview.fields import RSI
from actors.overview.question import Heard, Question, Readings, get, reader
from config.overview_settings import TaapiSettings

NAME: Final = "taapi"


class _Answer(msgspec.Struct):
    value: float


_decode: Final = msgspec.json.Decoder(_Answer).decode


def questions(settings: TaapiSettings, secret: str) -> tuple[Question, ...]:
    path = f"/rsi?secret={quote(secret, safe='')}&exchange=binance&symbol=BTC%2FUSDT&interval=1d"
    return (Question(NAME, NAME, (RSI,), settings.interval_s, reader(_decode, _read), get(path)),)


def _read(answer: _Answer) -> Readings:
    return {RSI: Heard(answer.value)}
