"""Where commands write what people read."""

from typing import Final

from rich.console import Console

#: Who reads lines from a pipe or a file reads whole ones.
_WHOLE: Final = 1000


def terminal(stderr: bool = False) -> Console:
    """Shows texts as they are: what exchanges, servers and users said may hold brackets and colons."""
    console = Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WHOLE
    return console
