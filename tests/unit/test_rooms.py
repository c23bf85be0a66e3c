"""No file imports in a circle, and imports between rooms go one way, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.unit.sources import ROOT, trees

PACKAGES = {"compiler": "lmprog.compiler", "optimizers": "lmprog.optimizers", "lmprog": "lmprog"}
ORDER = (
    ("compiler",),
    ("errors", "seeds", "version", "blame", "failure", "extras"),
    ("aio", "boundary"),
    ("state",),
    ("lms",),
    ("tools", "spending"),
    ("traces",),
    ("runtime",),
    ("runners",),
    ("scoring",),
    ("credit",),
    ("optimizers",),
    ("reports",),
    ("imports", "exporting", "serving", "starter", "playground", "doctor", "editing"),
    ("lsp",),
    ("cli", "pytest_plugin"),
)
"""Rooms from the bottom up; each may import what stands before it here. `lmprog/__init__.py` may import all."""


def module_of(file: Path) -> str:
    """Return the name by which a file is imported."""
    folder, *parts = (part for part in file.relative_to(ROOT).with_suffix("").parts if part != "__init__")
    return ".".join([PACKAGES[folder], *parts])


def imported(tree: ast.Module, modules: Collection[str]) -> Iterator[str]:
    """Yield the files of the project that a file imports: at its top, in functions, and for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in modules else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """Return the modules of the project that each of its modules imports."""
    modules = {module_of(file): tree for file, tree in trees().items()}
    return {
        name: {other for other in imported(tree, modules) if other in modules} - {name}
        for name, tree in modules.items()
    }


LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room(name: str) -> str:
    return name.split(".")[1]


def test_no_file_imports_in_a_circle() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError, with the circle


def test_imports_go_one_way() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, others in imports().items()
        for other in others
        if name != "lmprog" and (other == "lmprog" or not may_import(room(name), room(other)))
    ]
    assert not wrong


def may_import(above: str, below: str) -> bool:
    return above == below or LEVELS[above] > LEVELS[below] or {above, below} <= {*ORDER[1]}


def test_the_page_has_the_order_of_the_rooms() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    lines = [line.split() for line in page.split("```rooms\n")[1].split("```")[0].splitlines()]
    assert [tuple(line) for line in reversed(lines)] == list(ORDER)
