"""Writes docs/images/view-*.png, of an exported page of `lmprog view`, and dev-*.png, of `lmprog dev`, in Debian's chromium.

pip install -c constraints.txt -e '.[browser]'
python docs/generate_images.py page.html      # view-*.png
python docs/generate_images.py                # dev-*.png
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).with_name("images")
PROGRAM = Path(__file__).parents[1] / "specs" / "gallery" / "rag"
SHOTS = {
    "view-1280.png": (1280, 1010, "light", None),
    "view-1280-stage.png": (1280, 720, "dark", "#stage-2"),
    "view-360.png": (360, 900, "light", None),
    "view-360-rows.png": (360, 900, "light", "#rows"),
}
"""Width, height, colour scheme, and the section that is scrolled to."""
DEV = {"dev-1280.png": (1280, 960, "light"), "dev-390.png": (390, 900, "dark")}
"""Width, height and colour scheme."""


def main(page: Path | None) -> None:
    """Take the pictures of a page of `lmprog view`; without one those of `lmprog dev`."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if page is not None:
            view(browser, page)
        else:
            dev(browser)
        browser.close()


def opened(browser: Any, width: int, height: int, scheme: str) -> Any:
    """Return an empty page of a size and colour scheme."""
    return browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce")


def view(browser: Any, page: Path) -> None:
    """Take each of SHOTS, with the first changed row opened."""
    for name, (width, height, scheme, place) in SHOTS.items():
        shown = opened(browser, width, height, scheme)
        shown.goto(page.resolve().as_uri())
        shown.locator("details.row summary").first.click()
        shown.evaluate("place => place ? document.querySelector(place).scrollIntoView() : scrollTo(0, 0)", place)
        shown.screenshot(path=IMAGES / name)


def dev(browser: Any) -> None:
    """Take each of DEV: at a desk's width after two runs with fakes, at a phone's while the file is broken."""
    with tempfile.TemporaryDirectory() as folder:
        spec = shutil.copytree(PROGRAM, Path(folder) / PROGRAM.name) / f"{PROGRAM.name}.yaml"
        command = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "dev", spec.name]
        with subprocess.Popen(command, cwd=spec.parent, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            found = re.search(r"http://\S+/", process.stderr.readline())
            assert found
            for name, (width, height, scheme) in DEV.items():
                shown = opened(browser, width, height, scheme)
                shown.goto(found.group())
                if width > 1000:
                    run_twice(shown)
                else:
                    spec.write_text(spec.read_text().replace("steps.", "step.", 1))
                    shown.locator("header", has_text="broken").wait_for()
                shown.evaluate("scrollTo(0, 0)")
                shown.screenshot(path=IMAGES / name)
            process.terminate()


def run_twice(shown: Any) -> None:
    """Run row 0 and row 1 with fakes."""
    for words in ("step by step", "against run"):
        shown.get_by_role("button", name="Run with fakes").click()
        shown.locator("#runs", has_text=words).wait_for()
        shown.get_by_role("button", name="the next row").click()
        shown.wait_for_timeout(500)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
