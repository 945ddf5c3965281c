"""Where commands write what people read."""

from rich.console import Console


def terminal(stderr: bool = False) -> Console:
    """Shows texts as they are: what exchanges, servers and users said may hold brackets and colons."""
    return Console(stderr=stderr, markup=False, emoji=False)
