"""The structure of a program by which its names are resolved: the levels of its steps, what each calls, and its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lmprog.compiler.yaml.source import Mapping, Scalar

Symbol = tuple[str, ...]
"""The thing that a name stands for: `("lms", id)`, `("steps", "research.query")`, `("modules", id, "outputs", name)`."""


@dataclass(frozen=True)
class Target:
    """The meaning of a name: a symbol, and the file of the sub-program that it is in (None: the program itself)."""

    symbol: Symbol
    program: Path | None = None


@dataclass
class Structure:
    """The steps of a program by level and id, and its other sections in `root`, its YAML tree with the file that it extends
    laid under it; half-typed parts are absent.

    A level is named by the ids of the loops around it (`outer.inner.`; empty at the top).
    """

    root: Mapping
    levels: dict[str, dict[str, Mapping]] = field(default_factory=dict)
    """The steps that stand side by side, by the path of the loop around them with a dot, or an empty text at the top."""

    def __post_init__(self) -> None:
        self._level(self.root.map("steps"), "")

    def _level(self, node: Mapping | None, level: str) -> None:
        own = self.levels.setdefault(level, {})
        for id, step in node.entries.items() if node is not None else ():
            if isinstance(step, Mapping):
                own[id] = step
                if step.map("steps") is not None:
                    self._level(step.map("steps"), f"{level}{id}.")

    @property
    def only_module(self) -> str | None:
        """The id of the module that is the whole program, if it has no steps; else None."""
        modules = self.root.map("modules")
        single = self.root.get("steps") is None and modules is not None and len(modules.entries) == 1
        return next(iter(modules.entries)) if single and modules is not None else None

    def step(self, level: str, id: str) -> str | None:
        """Return the path of the step that `steps.<id>` means inside the loops `level`; None where there is none."""
        while True:
            if id in self.levels.get(level, ()):
                return f"{level}{id}"
            if not level:
                return None
            level = level[:-1].rpartition(".")[0]
            level = f"{level}." if level else ""

    def visible(self, level: str) -> list[str]:
        """Return the ids of the steps that an expression inside the loops `level` can read, each once, those of the innermost
        loop first."""
        found = dict.fromkeys(self.levels.get(level, ()))
        while level:
            level = level[:-1].rpartition(".")[0]
            level = f"{level}." if level else ""
            found |= dict.fromkeys(self.levels.get(level, ()))
        return list(found)

    def step_node(self, path: str) -> Mapping | None:
        """Return the YAML node of a step by its path (`loop.answer`); None where there is no such step."""
        level, _, id = path.rpartition(".")
        return self.levels.get(f"{level}." if level else "", {}).get(id)

    def has(self, section: str, id: str) -> bool:
        """Return whether a section of the program defines a name; of `steps` only the top level is looked at."""
        found = self.root.map(section)
        return found is not None and id in found.entries

    def program_field(self, section: str, name: str) -> Symbol:
        """Return the symbol of an input or output (`section`) of the program, which need not have it; in a program without
        steps it is that of its only module.
        """
        if self.root.get(section) is None and self.only_module is not None:
            return ("modules", self.only_module, section, name)
        return (section, name)

    def output(self, path: str, name: str) -> Target | None:
        """Return what the output `name` of the step `path` stands for, such as an output of the module that it calls; None
        where that is not known.
        """
        if path == self.only_module and self.root.get("steps") is None:
            return Target(("modules", path, "outputs", name))
        node = self.step_node(path)
        if node is None:
            return None
        if "repeat" in node.entries:
            return Target(("steps", path, "state", name))
        if "value" in node.entries:
            return Target(("steps", path, "value"))
        return self._called(node, "outputs", name)

    def argument(self, path: str, name: str) -> Target | None:
        """Return what the key `name` under `with` of the step `path` stands for, such as an input of the module that it
        calls; None where that is not known.
        """
        node = self.step_node(path)
        return self._called(node, "inputs", name) if node is not None else None

    def _called(self, node: Mapping, section: str, name: str) -> Target | None:
        module, tool = node.value("module"), node.value("tool")
        if isinstance(module, str):
            return Target(("modules", module, section, name))
        if isinstance(tool, str):
            return Target(("tools", tool, "result" if section == "outputs" else "inputs", name))
        program = program_path(node)
        return Target((section, name), program) if program is not None else None


def program_path(node: Mapping) -> Path | None:
    """Return the file that `program:` of a step or metric names, from the folder of its own file; None where it names none.
    The file need not exist."""
    written = node.get("program")
    if not isinstance(written, Scalar) or not isinstance(written.value, str):
        return None
    return (written.source.folder / written.value).resolve()
