"""What is logged, and how much of it is kept."""

from typing import Annotated, Literal

from pydantic import Field

from config.part import Part


class LogSettings(Part):
    """Of each process: lines from `level` on; of lines that say the same no more than `alike` in `window_s`, then how
    many more there were. A file is followed by another one at `file_bytes`; so many old ones are kept."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    alike: Annotated[int, Field(ge=1, le=1000)] = 5
    window_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    file_bytes: Annotated[int, Field(ge=2**16)] = 2**24
    old_files: Annotated[int, Field(ge=1, le=100)] = 2
