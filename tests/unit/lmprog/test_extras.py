"""Every package that the code imports is of the core, or of an extra that its absence is said with."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

from lmprog.extras import EXTRA_OF, MissingExtra, missing, needed_by, require
from tests.unit.sources import ROOT, trees

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"pydantic", "jinja2", "yaml", "aiohttp", "click", "rich", "jsonschema"}
"""As they are imported; pyyaml is yaml."""
OTHERWISE = {"yarl", "pyarrow"}
"""yarl comes with aiohttp; the absence of pyarrow has a message of its own."""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_every_import_is_of_the_core_or_of_an_extra() -> None:
    known = {*sys.stdlib_module_names, "lmprog", *CORE, *OTHERWISE, *EXTRA_OF}
    unknown = {
        (str(path.relative_to(ROOT)), name)
        for path, tree in trees().items()
        if "starter" not in path.parts
        for name in imported(tree)
        if name.partition(".")[0] not in known
    }
    assert not unknown


def test_the_core_is_what_the_project_depends_on() -> None:
    names = {re.match(r"[\w-]+", written)[0] for written in PROJECT["dependencies"]}
    assert {"yaml" if name == "pyyaml" else name for name in names} == CORE


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
