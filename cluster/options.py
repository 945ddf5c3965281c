"""The options every command of `rayfeed` takes, and who gives it."""

import getpass
import os
from pathlib import Path
from typing import Annotated

import typer

from cluster import completion

Data = Annotated[Path, typer.Option("--data", envvar="RAYFEED_DATA", help="The folder of the instance.")]
Exchange = Annotated[
    str, typer.Argument(help="As in the settings: binance, kraken, ...", autocompletion=completion.exchanges)
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def operator() -> str:
    """The name of the user, or the number of one that has none, as in containers that run as anybody."""
    try:
        return getpass.getuser()
    except KeyError:
        return f"uid {os.getuid()}"
