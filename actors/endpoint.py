"""Where an exchange is, real or simulated."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one exchange is and which symbols it has. Scheme, host and port; the path of `websocket` says
    which protocol is spoken there, as in the settings of a live exchange."""

    websocket: str
    rest: str
    symbols: tuple[str, ...]
