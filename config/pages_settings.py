"""What the pages of reports say of themselves, and how many there may be."""

from typing import Annotated

from pydantic import Field

from config.part import Part, Positive


class PagesSettings(Part):
    """See docs/reports.md."""

    #: Where readers find this site, as in https://example.org: for canonical addresses, feeds and the sitemap. None:
    #: this machine.
    base_url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]{1,255}$")] | None = None
    max_reports: Positive = 100_000
    #: Of all reports together.
    max_bytes: Positive = 4 << 30
    #: A link to what a report shows in its frame is good for at least so long.
    frame_s: Annotated[int, Field(ge=60, le=86400)] = 3600
