"""How many replicas of each part of the site there may be, and what makes Serve start or stop one."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from config.part import Part, Positive

Target = Annotated[float, Field(gt=0, le=1e6)]


class DeploymentScaling(Part):
    """As many replicas as keep each below all of its targets. None: that does not matter."""

    min_replicas: Positive = 1
    max_replicas: Positive = 2
    #: Requests that are being answered.
    ongoing: Target | None = 100
    #: Seconds of processor time a second; a replica has one event loop, so 1 is all it can do.
    busy: Annotated[float, Field(gt=0, le=1)] | None = 0.7
    #: Open WebSockets and event streams.
    streams: Target | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError("max_replicas is less than min_replicas")
        return self


class ScalingSettings(Part):
    """See docs/front_door.md."""

    data: DeploymentScaling = DeploymentScaling(ongoing=None)
    market: DeploymentScaling = DeploymentScaling()
    pages: DeploymentScaling = DeploymentScaling()
    live: DeploymentScaling = DeploymentScaling(ongoing=None, streams=2000)
    #: The data API and the live feed have replicas on the other hosts too, `min_replicas` on each.
    on_all_hosts: bool = False
    #: The need must last so long before a replica is started or stopped.
    up_after_s: Annotated[float, Field(ge=0, le=3600)] = 10
    down_after_s: Annotated[float, Field(ge=0, le=86400)] = 120
    #: The need is the mean over this time.
    mean_over_s: Annotated[float, Field(ge=1, le=3600)] = 10
    #: A replica that stops has so long to finish its answers.
    drain_s: Annotated[float, Field(ge=0.5, le=600)] = 5
