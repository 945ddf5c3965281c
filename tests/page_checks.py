"""What holds for every page, asked of a page that is open: axe-core finds nothing serious, and no text of another
language is left.
"""

from pathlib import Path
from typing import Any

from playwright.async_api import Page

import serve_apps

AXE = Path(serve_apps.__file__).parent / "web" / "node_modules" / "axe-core" / "axe.min.js"
#: A phone, a tablet, a laptop, a wall.
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "laptop": (1440, 900), "4k": (3840, 2160)}
_SERIOUS = ("serious", "critical")

#: The texts and labels that are seen or heard, without what is data (`translate="no"`).
_TEXTS = """() => {
    const found = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const { parentElement: parent, data } = walker.currentNode;
        if (!parent.closest("[translate=no], script, noscript, option") && /\\p{L}/u.test(data)) found.add(data.trim());
    }
    for (const name of ["aria-label", "placeholder"]) {
        const named = document.querySelectorAll(`[${name}]:not([translate=no] *)`);
        for (const one of named) found.add(one.getAttribute(name));
    }
    return [...found];
}"""


async def serious_violations(page: Page) -> list[str]:
    """What axe-core finds, one line each."""
    # As a script of the tests', not of the page: its Content-Security-Policy stays as it is.
    await page.evaluate(AXE.read_text())
    found: list[dict[str, Any]] = await page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in _SERIOUS
        for node in one["nodes"]
    ]


async def texts(page: Page) -> set[str]:
    """Every text and label that is not data."""
    return set(await page.evaluate(_TEXTS))
