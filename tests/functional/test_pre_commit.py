"""The hook for pre-commit, installed by pre-commit itself from a repository of these files, and run at commits of another."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.repositories import ROOT, git, published, run, skip_without_index
from tests.functional.test_check_command import MISSPELT, SPEC, WARNED
from tests.functional.test_docs_blocks import blocks

pytestmark = pytest.mark.slow
CONFIGURATION = ".pre-commit-config.yaml"


@pytest.mark.skipif(
    importlib.util.find_spec("pre_commit") is None, reason="needs the client of pre-commit: pip install pre-commit"
)
def test_commits_of_bad_programs_are_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    """The configuration is the one of docs/howto/ci.md, and the hook's environment has the core alone."""
    (shown,) = (block.text for block in blocks(ROOT / "docs/howto/ci.md") if block.file == CONFIGURATION)
    hooks = published(tmp_path / "lmprog", "v0.1.0")
    write(shown.replace("URL", str(hooks)), f"shop/{CONFIGURATION}")
    write("on: [push]\n", "shop/ci.yml")
    write(SPEC, "shop/good.yaml")
    shop = tmp_path / "shop"
    assert git(shop, "init", "-q").returncode == 0
    home = {"PRE_COMMIT_HOME": str(tmp_path / "environments")}
    done = run([sys.executable, "-m", "pre_commit", "install", "--install-hooks"], shop, **home)
    skip_without_index(done.stdout)
    assert done.returncode == 0, done.stdout

    def committed(*names: str) -> tuple[int, str]:
        assert git(shop, "add", *names).returncode == 0
        done = git(shop, "commit", "--message=Change a program", **home)
        return done.returncode, done.stdout

    status, said = committed(CONFIGURATION, "ci.yml", "good.yaml")
    assert status == 0 and "Passed" in said, said
    for text, finding in (
        (MISSPELT, "good.yaml:9:5: error: module `sort` has no key `instruction` [LMP101]"),
        (WARNED, "good.yaml:"),
    ):
        write(text, "shop/good.yaml")
        status, said = committed("good.yaml")
        assert status == 1 and "Failed" in said and finding in said, said
    assert "ci.yml" not in said
    assert git(shop, "rev-list", "--count", "HEAD").stdout == "1\n"
