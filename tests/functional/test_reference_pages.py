"""docs/reference/ and docs/checks/ say what the grammar and the pages of findings say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from lmprog.compiler.schema.keys import keys

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_up_to_date(generate: ModuleType) -> None:
    old = [path.name for path, text in generate.pages() if not path.exists() or path.read_text() != text]
    assert old == [], "the grammar or a finding has changed: run .venv/bin/python docs/generate_reference.py"


def test_every_key_is_in_the_reference_with_type_default_meaning_and_example(generate: ModuleType) -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    for key in keys():
        if key.section.startswith("optimize.stages[]"):
            assert f"`{key.name}: {key.example}` |" in text, key.path
        else:
            assert f"\n### `{key.path}`\n" in text, key.path
            assert key.same_as or f"```yaml\n{key.name}: {key.example}\n```" in text, key.path


def test_every_finding_has_a_page() -> None:
    pages = {path.name for path in (DOCS / "checks").glob("LMP*.md")}
    assert pages == {path.name for path in (DOCS.parent / "compiler" / "pages").glob("LMP*.md")}
