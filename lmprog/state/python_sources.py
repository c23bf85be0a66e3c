"""The source files of a Python file: itself, and the files in its folder that it imports."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path


def module_file(name: str) -> Path | None:
    """Return the source file of an importable module by its name, as `shop.tools`; None where it cannot be found or is
    not a `.py` file. The packages around the module are imported; where that fails, it is None too."""
    try:
        found = importlib.util.find_spec(name)
    except Exception:  # the code of a package around it may raise anything
        return None
    return Path(found.origin) if found is not None and found.origin and found.origin.endswith(".py") else None


def sources(file: Path) -> list[Path]:
    """Return `file` and all Python files in its folder, or below, that it imports, directly or through others; `file`
    first, even where it does not exist, the rest by name. Nothing is imported; a file that is no Python imports
    nothing.
    """
    root = file.parent
    found: list[Path] = [file]
    for path in found:
        for module in _imported(path, root):
            for beside in (root / f"{module}.py", root / module / "__init__.py"):
                if beside.is_file() and beside not in found:
                    found.append(beside)
    return [file, *sorted(found[1:])]


def _imported(path: Path, root: Path) -> Iterator[str]:
    """Yield the modules that the file `path` may import from the folder `root`, as paths below it without an ending
    (`shop/tools`), whether they exist or not."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    here = path.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` starts at the folder of the file, each further dot one above.
            start = here[: len(here) - (node.level - 1)] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from _with_parents(module)
            for alias in node.names:
                yield "/".join((*module, alias.name))


def _with_parents(module: tuple[str, ...]) -> Iterator[str]:
    """Yield a module and the packages around it, as paths, the outermost first."""
    for length in range(1, len(module) + 1):
        yield "/".join(module[:length])
