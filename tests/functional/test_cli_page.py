"""docs/cli.md says what the command line says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from lmprog.cli.main import VERBS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = (DOCS / "cli.md").read_text()
    assert generate.page() == written, "a verb has changed: run .venv/bin/python docs/generate_cli.py"
    assert [verb for verb in VERBS if f"\n## lmprog {verb}\n" not in written] == []


def test_the_page_shows_what_is_printed(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = (DOCS / "cli.md").read_text()
    for arguments in ([], ["check"], ["import", "prompty"]):
        status, out, _ = cli(*arguments, "--help")
        assert status == 0
        assert f"```text\n{out}```\n" in page
