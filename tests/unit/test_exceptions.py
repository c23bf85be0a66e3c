"""Every exception of ours stands below one root, by which the command line shows it and chooses the exit status."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lmprog.boundary.plain_values import Unfit
from lmprog.cli import main as command_line
from lmprog.compiler.errors import Handled, LmprogError
from lmprog.compiler.findings.finding import Report, SpecError
from lmprog.compiler.rows.files import RowsError
from lmprog.compiler.types.python_reference import ImportFailed
from lmprog.compiler.yaml.source import Place, Source
from lmprog.errors import BudgetExceeded, InfrastructureError, ProviderError, UsageError
from lmprog.failure import StepFailed
from tests.unit.sources import ROOT, trees

BUILT_IN = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}


def classes() -> Iterator[tuple[str, str, list[str]]]:
    """Yield the place, name and bases of every class, those in functions too."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).split("[")[0].rpartition(".")[2] for base in node.bases]
                yield f"{file.relative_to(ROOT)}:{node.name}", node.name, bases


@cache
def bases_of() -> dict[str, set[str]]:
    """Return the names of the bases of each class, by its name."""
    found: dict[str, set[str]] = {}
    for _, name, bases in classes():
        found.setdefault(name, set()).update(bases)
    return found


def above(names: set[str]) -> set[str]:
    """Return the classes of these names, and all that they are derived from, by name."""
    found: set[str] = set()
    while names:
        found |= names
        names = set().union(*(bases_of().get(name, set()) for name in names)) - found
    return found


def is_exception(names: set[str]) -> bool:
    return any(name in BUILT_IN or name.endswith(("Error", "Exception")) for name in names)


@pytest.mark.slow
def test_every_exception_of_ours_is_below_the_root() -> None:
    ours = [(place, above(set(bases))) for place, name, bases in classes() if is_exception(above(set(bases)))]
    assert len(ours) > 30
    assert [place for place, over in ours if "LmprogError" not in over] == ["compiler/errors.py:LmprogError"]


def spec_error() -> SpecError:
    report = Report()
    report.add("LMP101", Place(Source(Path("a.yaml"), "a.yaml", "x: 1\n", Path()), 1, 1), "it is wrong")
    return SpecError(report.settle(False))


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (LmprogError("a cause"), 1, "lmprog: a cause\n"),
        (UsageError("a cause"), 2, "lmprog: a cause\n"),
        (InfrastructureError("a cause"), 3, "lmprog: a cause\n"),
        (ProviderError("a cause"), 3, "lmprog: a cause\n"),
        (BudgetExceeded("a cause"), 1, "lmprog: a cause\n"),
        (ImportFailed("cannot import a.py"), 1, "lmprog: cannot import a.py\n"),
        (RowsError("no such file"), 1, "lmprog: no such file\n"),
        (RowsError("no JSON", "rows.jsonl:3"), 1, "rows.jsonl:3: no JSON\n"),
        (Unfit("a cause"), 1, "lmprog: a cause\n"),
        (StepFailed("tool", "it raised", "find"), 1, "find: it raised\n"),
        (spec_error(), 1, "a.yaml:1:1: error: it is wrong [LMP101]\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_command_line_maps_by_the_root(monkeypatch, capsys, error: LmprogError, status: int, shown: str) -> None:
    def ends(**how: object) -> None:
        raise error

    monkeypatch.setattr(command_line.lmprog, "main", ends)
    with pytest.raises(SystemExit) as ended:
        command_line.main([])
    assert ended.value.code == status == error.exit_status
    said = capsys.readouterr().err
    assert said.startswith(shown) and "Traceback" not in said
    if error.place is not None:
        assert said.startswith(error.place)


def test_what_lmprog_handles_is_no_reason_to_end_a_command() -> None:
    assert issubclass(StepFailed, Handled) and not issubclass(UsageError, Handled)
