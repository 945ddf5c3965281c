"""What is measured and who may read it."""

from typing import Annotated

from pydantic import Field

from config.edge_settings import LOOPBACK, Network
from config.part import Part


class MetricsSettings(Part):
    """How often processes are asked, how many symbols have series of their own, and from where `/metrics` may be read
    without saying who asks."""

    interval_s: Annotated[float, Field(ge=0.5, le=60)] = 2.0
    symbols: Annotated[int, Field(ge=0, le=1000)] = 100
    #: Also told to Ray, every few seconds, for who watches Ray's own metrics.
    to_ray: bool = True
    networks: list[Network] = Field(default=[*LOOPBACK], max_length=1000)
