"""alternative.me's index of fear and greed, a whole number for each day
(https://alternative.me/crypto/fear-and-greed-index/#api):

{"name": "Fear and Greed Index", "data": [{"value": "40", "value_classification": "Fear",
  "timestamp": "1732233600", "time_until_update": "49600"}], "metadata": {"error": null}}
"""

from typing import Final

import msgspec

from actors.overview.fields import FEAR_GREED
from actors.overview.question import Heard, Question, Readings, get, reader, seconds
from config.overview_settings import FearGreedSettings

NAME: Final = "alternative.me"


class _Day(msgspec.Struct):
    value: int
    timestamp: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Day]


_decode: Final = msgspec.json.Decoder(_Answer, strict=False).decode


def questions(settings: FearGreedSettings) -> tuple[Question, ...]:
    return (Question(NAME, NAME, (FEAR_GREED,), settings.interval_s, reader(_decode, _read), get("/fng/?limit=1")),)


def _read(answer: _Answer) -> Readings:
    if not answer.data:
        return {}
    day = answer.data[0]
    return {FEAR_GREED: Heard(float(day.value), seconds(day.timestamp))}
