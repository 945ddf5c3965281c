"""How `make docs` makes pages of docs/: pages that are not there are left out of the menu, and links to files of the
checkout, which no page can open, become their names; a file that is not there fails the build.
"""

import logging
import re
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.plugins.rayfeed")

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)\)")


def on_config(config: Any) -> Any:
    docs = Path(config["docs_dir"])
    config["nav"] = _there(config["nav"], docs)
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    docs = Path(config["docs_dir"])

    def name(found: re.Match[str]) -> str:
        if not (docs / found[2]).exists():
            log.warning("%s: there is no file %s", page.file.src_uri, found[2])
        return found[1]

    return _LINK.sub(name, markdown)


def _there(entries: Any, docs: Path) -> list[Any]:
    kept = []
    for entry in entries:
        [(title, target)] = entry.items()
        if isinstance(target, list):
            target = _there(target, docs)
        elif not (docs / target).is_file():
            continue
        if target:
            kept.append({title: target})
    return kept
