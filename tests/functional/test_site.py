"""The site of docs/ builds without a warning, and all its links lead somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("zensical", reason="the extra `docs` brings what builds the site")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from check_links import check  # noqa: E402


def test_the_site_builds_and_its_links_lead_somewhere() -> None:
    done = subprocess.run(
        [sys.executable, "docs/build_site.py"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "build" / "site"
    python = (site / "python.html").read_text()
    for name in ("lmprog.load", "lmprog.Program", "lmprog.evaluate", "lmprog.optimize", "lmprog.RunError"):
        assert f'id="{name}"' in python, f"the page of the Python interface lacks {name}"
    assert "lmslmlimitstimeout" in (site / "reference" / "lms.html").read_text()


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">b</a><a href="https://example.com/">c</a>'
    )
    (tmp_path / "b.html").write_text(
        '<h1 id="here">B</h1><a href="none.html">x</a><img src="a.png"><a href="a.html#top">a</a>'
    )
    wrong, others = check(tmp_path)
    assert wrong == [
        "a.html: b.html#there names an anchor that is not there",
        "b.html: none.html is not there",
        "b.html: a.png is not there",
    ]
    assert list(others) == ["https://example.com/"]
