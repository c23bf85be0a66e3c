"""What is installed: the build map against the folders, and what importing costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import lmprog
from lmprog.extras import EXTRA_OF
from tests.unit.sources import ROOT, trees

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = {"pydantic", "jinja2", "yaml", "aiohttp", "click", "rich", "jsonschema", "dotenv"}
"""As they are imported; pyyaml is yaml, python-dotenv is dotenv."""
OTHERWISE = {"yarl", "pyarrow", "pytest"}
"""yarl comes with aiohttp; the absence of pyarrow has a message of its own; pytest itself loads the plugin for it."""
HOMES = {"lmprog": "lmprog", "compiler": "lmprog.compiler", "optimizers": "lmprog.optimizers"}


def test_the_build_map_names_every_package_folder() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = set()
    for folder, name in HOMES.items():
        for path in (ROOT / folder).rglob("__init__.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *inner)))
    assert set(setuptools["packages"]) == found
    assert setuptools["package-dir"] == {name: folder for folder, name in HOMES.items()}


def test_importing_lmprog_imports_nothing_heavy() -> None:
    code = (
        "import lmprog, sys; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch','litellm','transformers'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_ci_calls_the_test_command_of_the_readme() -> None:
    (command,) = [line for line in (ROOT / "README.md").read_text().splitlines() if "bin/python -m pytest" in line]
    assert "grep -m1 'bin/python -m pytest' README.md" in (ROOT / ".ci/run").read_text()
    assert command.startswith("python3 -m venv .venv")


def test_a_page_names_each_public_error_with_its_exit_status() -> None:
    page = (ROOT / "docs" / "failures.md").read_text()
    raised = [name for name in lmprog.__all__ if isinstance(getattr(lmprog, name), type)]
    errors = {name: getattr(lmprog, name) for name in raised if issubclass(getattr(lmprog, name), Exception)}
    assert {"RunError", "UsageError", "SpecError", "BudgetExceeded"} <= errors.keys()
    for name in errors.keys() - {"LmprogError"}:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        status = "by its kind" if name == "RunError" else str(getattr(errors[name], "exit_status", 1))
        assert row.endswith(f"| {status} |"), row


def test_tests_import_each_other_by_their_place() -> None:
    """A bare name is found only where its folder happens to be in the path of imports."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    bare = re.compile(rf"^ *from ({'|'.join(file.stem for file in files)}) import", re.MULTILINE)
    found = [f"{file.relative_to(ROOT)}: {name}" for file in files for name in bare.findall(file.read_text())]
    assert not found, "write `from tests.functional.NAME import` or the like"


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
    assert {{"pyyaml": "yaml", "python-dotenv": "dotenv"}.get(name, name) for name in names} == CORE
