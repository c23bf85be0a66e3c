"""The program that the README shows is the one that it optimizes; test_docs_blocks.py runs its commands.

The optimization that its first command runs is in test_optimize.py; the second command is how these tests are called.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lmprog.compiler import compile_file

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_program_on_the_first_screen_is_the_quickstart(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "specs" / "quickstart", tmp_path / "quickstart")
    (tmp_path / "shown.yaml").write_text(README.split('```yaml title="specs/quickstart.yaml"\n')[1].split("```")[0])
    shown, kept = compile_file(tmp_path / "shown.yaml"), compile_file(ROOT / "specs" / "quickstart.yaml")
    assert shown.findings == kept.findings == ()
    assert shown.plan is not None and kept.plan is not None
    assert shown.plan.digest == kept.plan.digest
    assert shown.plan.optimize is not None and kept.plan.optimize is not None
    assert list(map(vars, shown.plan.optimize.stages)) == list(map(vars, kept.plan.optimize.stages))
