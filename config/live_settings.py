"""What the live feed allows its clients, and how far back they can resume."""

from typing import Annotated

from pydantic import Field

from config.part import Part, Positive


class LiveFeedSettings(Part):
    """See docs/live.md. Limits of connections are those of one replica; the others of one connection."""

    #: Updates that a client which was away can have again: none older than this, and no more bytes.
    history_s: Annotated[float, Field(ge=1, le=3600)]
    history_bytes: Annotated[int, Field(ge=2**20)]
    max_connections: Positive
    max_subscriptions: Positive
    #: Of what a client sends; a longer message closes the connection (1009).
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**20)]
    #: Messages a client may send at once, and then each second.
    max_burst: Positive
    max_messages_per_s: Positive
    #: Of what waits for a client; who reads so slowly that there would be more is disconnected (1013).
    queue_messages: Positive
    queue_bytes: Annotated[int, Field(ge=2**16)]
    #: A client that takes nothing for this long is disconnected likewise.
    stalled_s: Annotated[float, Field(gt=0, le=300)]
    heartbeat_s: Annotated[float, Field(gt=0, le=300)]
