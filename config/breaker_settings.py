"""When somebody who fails is left alone for a while."""

from typing import Annotated

from pydantic import Field

from config.part import Part, Positive

_Seconds = Annotated[float, Field(gt=0, le=86400)]


class BreakerSettings(Part):
    """After so many failures in a row nothing is asked for `first_wait_s`, then twice as long, up to `longest_wait_s`;
    so many successes end that."""

    failures: Positive = 5
    successes: Positive = 2
    first_wait_s: _Seconds = 60
    longest_wait_s: _Seconds = 300
