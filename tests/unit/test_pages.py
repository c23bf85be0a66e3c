"""The pages for contributors name files that are there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "lmprog", "optimizers", "tests", "docs", "specs", "benchmarks", ".ci")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/extending.md"])
def test_paths_of_the_page_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if path.split("/")[0] in FOLDERS}
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert named and not missing


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/extending.md"])
def test_links_of_the_page_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text())
    assert not [link for link in links if "://" not in link and not ((ROOT / page).parent / link).exists()]


def pages_of(navigation: Any) -> Iterator[str]:
    """Yield the paths below `nav` of zensical.toml."""
    for entry in navigation if isinstance(navigation, list) else [navigation]:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from pages_of(below)


def test_every_page_of_docs_is_in_the_navigation_once() -> None:
    named = list(pages_of(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert written - set(named) == set(), "name these pages under nav in zensical.toml"
    assert set(named) - written == set()
    assert len(named) == len(set(named))


def test_the_map_has_each_code_with_files_that_make_it() -> None:
    """Each code of a page has a row in docs/architecture.md, and each file of a row makes one of its codes."""
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| ((?:LMP\d{3}, )+)(.*)$", text, flags=re.MULTILINE)
    assert [page.stem for page in sorted((ROOT / "compiler/pages").glob("LMP*.md"))] == re.findall(
        r"LMP\d{3}", " ".join(codes for codes, _ in rows)
    )
    for codes, cells in rows:
        files = re.findall(r"`(compiler/[\w/]+\.py)`", cells)
        assert files
        for file in files:
            made = set(re.findall(r"LMP\d{3}", (ROOT / file).read_text()))
            assert made & set(re.findall(r"LMP\d{3}", codes)), f"{file} makes none of {codes}"
