"""The data folder of a node: the same path everywhere, unless the environment of its Ray says otherwise, as where
several nodes share a machine."""

import os
import uuid
from pathlib import Path
from typing import Final

from config.settings import Settings

VARIABLE: Final = "RAYFEED_NODE_DATA"
_NAME: Final = "disk"


def on_this_node(settings: Settings) -> Settings:
    """The same settings, with the data folder of the node this process is on."""
    folder = os.environ.get(VARIABLE)
    return settings if not folder else settings.model_copy(update={"data": Path(folder).absolute()})


def disk_of(data: Path) -> str:
    """The name of the disk that a data folder is on, made up when it is asked for first: nodes get other addresses and
    names, what is stored stays. OSError."""
    path = data / _NAME
    if not path.exists():
        data.mkdir(parents=True, exist_ok=True)
        new = data / f"{_NAME}.{os.getpid()}"
        new.write_text(uuid.uuid4().hex)
        # Whoever was first has named it.
        try:
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text().strip()
