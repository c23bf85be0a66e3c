"""References to the Hub: their form, and models that are named by them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.hub import HubReference, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hf://acme/desk", HubReference("acme/desk")),
        ("hf://acme/desk@0123abc", HubReference("acme/desk", "0123abc")),
        ("hf://acme/desk@refs/pr/1", HubReference("acme/desk", "refs/pr/1")),
        ("gpt2", HubReference("gpt2")),
        ("hf://acme/desk@", None),
        ("hf://acme/desk/part", None),
        ("hf://acme/../desk", None),
        ("hf://", None),
        ("hf:///desk", None),
        ("hf://acme/de sk", None),
    ],
)
def test_a_reference_is_a_repository_and_a_revision(text: str, found: HubReference | None) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("bound", [{}, {"lm": "hf://acme/other@v2"}])
def test_a_model_may_be_named_by_a_reference(bound: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "lmprog: 1\nlms: {lm: {model: 'hf://acme/tiny@v1'}}\nmodules: {say: {inputs: {text: str}, outputs: {said: str}}}\n"
    )
    plan = compile_file(tmp_path / "p.yaml", lms=bound).plan
    assert plan is not None
    assert plan.lms["lm"].model == ("hf/acme/other@v2" if bound else "hf/acme/tiny@v1")
    assert plan.lms["lm"].runs_here and plan.lms["lm"].trusted
