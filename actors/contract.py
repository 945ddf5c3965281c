"""What parts of an instance agree on, to know whether they still do when some of them run newer code: what actors can
be asked, what they are made with, and what is in the values that go between them; and which code is installed.
"""

import dataclasses
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("actors", "cluster", "config", "serve_apps", "storage")
#: Neither what tools leave behind, nor what the pages are built from.
_NOT_CODE: Final = {"__pycache__", "node_modules", "src", "tests"}


def contract(actors: Iterable[type]) -> dict[str, str]:
    """By `Class.method` its signature, of what others can ask, and by `Class` the fields of what is sent."""
    agreed: dict[str, str] = {}
    for actor in actors:
        for name, method in inspect.getmembers(actor, inspect.isfunction):
            if name == "__init__" or (inspect.iscoroutinefunction(method) and not name.startswith("_")):
                agreed[f"{actor.__name__}.{name}"] = _signature(method)
                for sent in _structures(get_type_hints(method).values()):
                    agreed[sent.__name__] = ", ".join(_fields(sent))
    return agreed


def difference(running: dict[str, str], installed: dict[str, str]) -> str:
    """The first thing that is not as it was, in words; "" when nothing is."""
    for name in sorted(running.keys() | installed.keys()):
        if name not in running:
            return f"{name} is new"
        if name not in installed:
            return f"{name} is gone"
        if running[name] != installed[name]:
            return f"{name} was {running[name]}, and is {installed[name]}"
    return ""


def code() -> str:
    """A name of the code that is installed here: of what all its files say."""
    told = hashlib.sha256()
    for package in PACKAGES:
        for folder, folders, files in os.walk(ROOT / package):
            folders[:] = sorted(set(folders) - _NOT_CODE)
            for file in sorted(files):
                path = Path(folder, file)
                told.update(f"{path.relative_to(ROOT)}\0".encode())
                told.update(path.read_bytes())
    return told.hexdigest()[:12]


def _signature(method: Callable[..., Any]) -> str:
    """Which default something has is its own business."""
    whole = inspect.signature(method)
    left = [one if one.default is one.empty else one.replace(default=...) for one in whole.parameters.values()]
    return str(whole.replace(parameters=left))


def _structures(kinds: Iterable[Any], known: set[type] | None = None) -> Iterator[type]:
    known = set() if known is None else known
    for kind in kinds:
        yield from _structures(get_args(kind), known)
        if isinstance(kind, type) and kind not in known and _fields(kind):
            known.add(kind)
            yield kind
            yield from _structures(get_type_hints(kind).values(), known)


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    return tuple(one.name for one in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()
