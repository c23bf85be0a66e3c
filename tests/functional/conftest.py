"""The fixtures that several tests share: a program to optimize, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.adding import sums

__all__ = ["sums"]


@pytest.fixture
def browser() -> Iterator[Any]:
    """Debian's Chromium, or a skip that says what is missing."""
    api = pytest.importorskip(
        "playwright.sync_api",
        reason="no page is opened in a browser: playwright is not installed",
    )
    names = [os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome"]
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no page is opened in a browser: there is no chromium; apt-get install chromium")
    with api.sync_playwright() as play:
        # Without a sandbox: containers seldom have what it needs, and the page is our own.
        started = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
