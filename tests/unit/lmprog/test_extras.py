"""The extra that a missing package belongs to, and the error that names it."""

from __future__ import annotations

import tomllib

import pytest

from lmprog.extras import EXTRA_OF, MissingExtra, missing, needed_by, require
from tests.unit.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_extra_that_is_named_is_there() -> None:
    assert {*EXTRA_OF.values()} <= {*PROJECT["optional-dependencies"]}


def test_what_is_missing_is_named_with_its_extra() -> None:
    error = ModuleNotFoundError("No module named 'optuna'", name="optuna.samplers")
    said = "the stage 'a' needs the extra 'optimize' (optuna is missing): pip install 'lmprog[optimize]'"
    assert str(missing(error, "the stage 'a'")) == said
    assert missing(ModuleNotFoundError("", name="json5"), "it") is None
    with pytest.raises(MissingExtra, match="needs the extra 'optimize'"), needed_by("it"):
        raise error
    with pytest.raises(ModuleNotFoundError, match="json5"), needed_by("it"):
        raise ModuleNotFoundError("json5", name="json5")


def test_requiring_imports_nothing(monkeypatch) -> None:
    monkeypatch.setattr("lmprog.extras.find_spec", lambda package: None if package == "trl" else object())
    require(("torch", "peft"), "it")
    with pytest.raises(MissingExtra, match=r"^it needs the extra 'train' \(trl is missing\)"):
        require(("torch", "trl"), "it")
