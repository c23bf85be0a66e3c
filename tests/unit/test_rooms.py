"""No file imports in a circle, and imports between rooms go one way, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {"lmprog.compiler": "compiler", "lmprog.optimizers": "optimizers", "lmprog": "lmprog"}
ORDER = (
    ("compiler",),
    ("errors", "seeds", "version", "blame", "failure", "extras"),
    ("aio", "boundary"),
    ("state",),
    ("lms",),
    ("tools", "spending"),
    ("traces",),
    ("runtime",),
    ("scoring",),
    ("credit",),
    ("optimizers",),
    ("reports",),
    ("imports", "serving", "starter", "playground"),
    ("cli",),
)
"""Rooms from the bottom up; each may import what stands before it here. `lmprog/__init__.py` may import all."""


def files() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = [part for part in file.relative_to(ROOT / folder).with_suffix("").parts if part != "__init__"]
            yield ".".join([package, *parts]), file


FILES = dict(files())


def imported(file: Path) -> Iterator[str]:
    """Yield the files of the project that a file imports: at its top, in functions, and for types alone."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in FILES else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


IMPORTS = {name: {other for other in imported(file) if other in FILES} - {name} for name, file in FILES.items()}
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room(name: str) -> str:
    return name.split(".")[1]


def test_no_file_imports_in_a_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError, with the circle


def test_imports_go_one_way() -> None:
    wrong = [
        f"{name} -> {other}"
        for name, others in IMPORTS.items()
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
