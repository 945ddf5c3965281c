"""Takes the pictures of the README from a running system:

    python -m tests.pictures http://127.0.0.1:8080

Waits until each page shows what it is for. Needs Chromium and Playwright, as the tests of the pages do.
"""

import argparse
import asyncio
from pathlib import Path
from typing import Final

from playwright.async_api import Page, expect

from tests.browser import visit

WIDTH, HEIGHT = 1440, 900
#: Name of a picture -> where it is taken, and in which theme.
PICTURES: Final = {
    "home": ("/", "light"),
    "chart": ("/chart?symbol=BTCUSDT&exchange=binance", "dark"),
    "operations": ("/operations", "light"),
    "reports": ("/crypto_reports_list", "light"),
}
#: What has to be there, where the page has it; and what must not.
_THERE: Final = (
    "#connection[data-state=live]",
    "tbody#symbols .stroke",
    "#chart[data-close]",
    "#actor-rows tr",
    "#cache div",
)
_GONE: Final = ("#chart[data-loading]", "#book.without", "#tape.without")


async def settled(page: Page) -> None:
    """Waits for what the page shows at first."""
    for there in _THERE:
        name = there.split("[")[0].split(" ")[0]
        if await page.locator(name).count():
            await expect(page.locator(there).first).to_be_attached(timeout=30_000)
    for gone in _GONE:
        await expect(page.locator(gone)).to_have_count(0, timeout=30_000)
    await page.wait_for_timeout(2000)


async def make(base: str, out: Path) -> None:
    """Writes `{name}.png` of all pages that answer."""
    for name, (path, theme) in PICTURES.items():
        async with visit(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme) as here:
            answer = await here.page.goto(base + path)
            if answer is None or not answer.ok:
                print(f"{name}: {path} answers {answer.status if answer else 'nothing'}; left out")
                continue
            await settled(here.page)
            taken = await here.page.screenshot(path=out / f"{name}.png")
            print(f"{out / name}.png: {len(taken) // 1000} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where `rayfeed up` says it is ready")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(given.url.rstrip("/"), given.out))


if __name__ == "__main__":
    main()
