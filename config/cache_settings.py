"""How much the replicas keep of what they have answered."""

from typing import Annotated

from pydantic import Field

from config.part import Part


class CacheSettings(Part):
    """See docs/front_door.md."""

    #: In the memory of each replica that has a cache.
    memory_bytes: Annotated[int, Field(ge=2**16)] = 64 * 2**20
    #: What is larger is given, but not kept.
    entry_bytes: Annotated[int, Field(ge=1, le=2**26)] = 4 * 2**20
    #: One who makes an answer for all and is not heard of for so long has died: the next takes over.
    lease_s: Annotated[float, Field(ge=0.1, le=60)] = 2
    #: Answers are made anew up to this part of their time earlier, or many would be in the same moment.
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.1
