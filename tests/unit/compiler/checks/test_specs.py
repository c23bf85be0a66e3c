"""Every code has its golden pair in tests/specs/bad, and every spec in tests/specs/good is silent.

`LMPROG_UPDATE_GOLDEN=1 pytest tests/unit/compiler/checks/test_specs.py` writes the expected texts anew; read the diff then.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmprog.compiler import compile_file

SPECS = Path(__file__).parents[3] / "specs"
BAD = sorted((SPECS / "bad").glob("*.yaml"))
GOOD = sorted((SPECS / "good").glob("*.yaml"))


def ids(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.mark.parametrize("path", BAD, ids=ids(BAD))
def test_bad(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SPECS / "bad")
    found = compile_file(path.name).findings
    text = "".join(f"{finding}\n" for finding in found)
    expected = path.with_suffix(".expected")
    if os.environ.get("LMPROG_UPDATE_GOLDEN"):
        expected.write_text(text)
    assert text == expected.read_text()
    assert path.stem[:6] in {finding.code for finding in found}


@pytest.mark.parametrize("path", GOOD, ids=ids(GOOD))
def test_good(path: Path) -> None:
    compilation = compile_file(path)
    assert compilation.findings == ()
    assert compilation.plan is not None


@pytest.mark.parametrize("path", [*BAD, *GOOD], ids=ids([*BAD, *GOOD]))
def test_no_import_and_no_data_never_find_more(path: Path) -> None:
    whole = {(f.code, f.line, f.column) for f in compile_file(path).findings}
    part = {(f.code, f.line, f.column) for f in compile_file(path, imports=False, data=False).findings}
    assert part <= whole


def test_every_code_has_a_page_and_a_bad_spec() -> None:
    pages = SPECS.parents[1] / "compiler" / "pages"
    assert {path.stem[:6] for path in BAD} == {page.stem for page in pages.glob("*.md")}
