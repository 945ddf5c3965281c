"""Where spans go, if anywhere."""

from typing import Annotated

from pydantic import Field

from config.part import Part


class TracingSettings(Part):
    """`endpoint` takes spans by OTLP over HTTP (http://127.0.0.1:4318/v1/traces); of requests and batches `sample` (a
    part) are told."""

    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    sample: Annotated[float, Field(gt=0, le=1)] = 0.01
