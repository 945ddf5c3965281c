"""Where symbols are, see docs/scaling.md."""

from typing import Annotated

from pydantic import Field

from config.part import Part


class PlacementSettings(Part):
    """A node that is away for `lost_after_s` is lost: others have its symbols from then on."""

    lost_after_s: Annotated[float, Field(ge=1, le=86400)] = 30
