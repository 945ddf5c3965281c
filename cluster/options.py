"""The options every command of `rayfeed` takes."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", envvar="RAYFEED_DATA", help="The folder of the instance.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
