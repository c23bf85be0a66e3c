"""Trials of templates with sample values: what they say of a template, and what they leave to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmprog.compiler.templates import trial as trials
from lmprog.compiler.templates.compiled import parse
from lmprog.compiler.templates.trial import trial
from lmprog.compiler.types.lattice import STR, ListOf

NAMES = {"words": ListOf(STR)}
TEXT = "{{ words | sort | first }}"


def test_a_lack_of_memory_is_no_fault_of_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*values: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(trials._Trials, "count", starved)
    with pytest.raises(MemoryError):
        trial(TEXT, parse(TEXT), NAMES, {})


def test_a_command_without_memory_says_so(
    cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def starved(*values: Any) -> None:
        raise MemoryError

    spec = tmp_path / "p.yaml"
    spec.write_text(
        "lmprog: 1\nname: p\nlms: {student: {model: embedded/smollm2-135m}}\nmodules:\n  sort:\n    lm: student\n"
        f"    inputs: {{words: 'list[str]'}}\n    outputs: {{label: str}}\n    prompt: {{user: '{TEXT}'}}\n"
    )
    assert cli("check", spec)[0] == 0
    monkeypatch.setattr(trials._Trials, "count", starved)
    status, _, err = cli("check", spec)
    assert (status, err.count("\n")) == (3, 1) and "no memory left" in err
