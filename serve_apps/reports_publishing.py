"""Where reports are published, what a program may show instead of a token, and how large a body may be there."""

from typing import Final

REPORTS: Final = "/api/v1/reports"
KEY_HEADER: Final = b"x-auto-update-key"
#: JSON may take more than the pages in it.
MOST_BODY_BYTES: Final = 8 << 20
