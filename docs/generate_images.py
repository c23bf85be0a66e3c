"""Writes docs/images/view-*.png: an exported page of `lmprog view`, in Debian's chromium, at two widths.

pip install -c constraints.txt -e '.[browser]'
python docs/generate_images.py page.html
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).with_name("images")
SHOTS = {
    "view-1280.png": (1280, 1010, "light", None),
    "view-1280-stage.png": (1280, 720, "dark", "#stage-2"),
    "view-360.png": (360, 900, "light", None),
    "view-360-rows.png": (360, 900, "light", "#rows"),
}
"""Width, height, colour scheme, and the section that is scrolled to."""


def main(page: Path) -> None:
    """Take each of SHOTS of a page, with its first changed row opened."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height, scheme, place) in SHOTS.items():
            shown = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
            )
            shown.goto(page.resolve().as_uri())
            shown.locator("details.row summary").first.click()
            shown.evaluate("place => place ? document.querySelector(place).scrollIntoView() : scrollTo(0, 0)", place)
            shown.screenshot(path=IMAGES / name)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
