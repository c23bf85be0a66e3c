"""The mentions of names in one file: definitions, and keys, values, expressions and templates that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lmprog.compiler.rows.splits import SPLITS
from lmprog.compiler.shape import WRAPPED, MapOf
from lmprog.compiler.yaml.source import Mapping, Node, Place, Scalar, Sequence
from lmprog.editing.chains import Chain, in_expression, in_template
from lmprog.editing.grammar import BARE, KEYS, LAYOUTS, NAMED, SECTIONS, Spot
from lmprog.editing.structure import Structure, Symbol, Target, program_path

_FIELDS = (("modules", "*", "inputs"), ("modules", "*", "outputs"), ("tools", "*", "http", "inputs"))
_DEMOS = (
    ("modules", "*", "demos", "*"),
    ("modules", "*", "demos", "of", "*"),
    ("ensemble", "members", "*", "*", "demos", "*"),
)


@dataclass(frozen=True)
class Mention:
    """A name in a file: what it stands for (`symbol`), and its place; `defines` is True where it is defined there.

    `program` is the file of the sub-program that the symbol belongs to (None: the program that the file is).
    """

    symbol: Symbol
    place: Place
    defines: bool = False
    program: Path | None = None
    """The file of the sub-program that the symbol is of; None for the program that the file is."""

    @property
    def exact(self) -> bool:
        """True if the file has the name letter by letter at the place, so that an edit there can replace it; False where it
        is escaped or goes over lines."""
        line = self.place.source.line(self.place.line) or ""
        start = self.place.column - 1
        return line[start : start + self.place.length] == self.name

    @property
    def name(self) -> str:
        """The name alone, as expressions write it: of a step its id, without the loops around it."""
        last = self.symbol[-1]
        return last.rpartition(".")[2] if self.symbol[0] == "steps" and len(self.symbol) == 2 else last


def mentions(root: Mapping, structure: Structure) -> list[Mention]:
    """Return all names in a file whose YAML tree is `root`, in the order of the file; `structure` is that of the whole
    program, with the file that it extends. Fields of values are left out."""
    found = [*_Walker(structure).mapping(root, Spot(), _Around())]
    return sorted(found, key=lambda mention: (mention.place.line, mention.place.column))


@dataclass(frozen=True)
class _Around:
    """The surroundings of a place: the level of its steps, and the module, step, tool or metric that it is in."""

    level: str = ""
    owner: Symbol = ()

    @property
    def inside(self) -> _Around:
        """The surroundings of places in the body of the loop step that is the owner here: the same owner, and as level
        the path of that step with a dot (`outer.`), under which the steps of the body are named.
        """
        return _Around(f"{self.owner[1]}.", self.owner)


class _Walker:
    """Goes through the tree of a file and yields its names; `around` are the surroundings of each place."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure

    def node(self, node: Node, spot: Spot, around: _Around) -> Iterator[Mention]:
        if isinstance(node, Mapping):
            yield from self.mapping(node, spot, around)
        elif isinstance(node, Sequence):
            for index, item in enumerate(node.items):
                yield from self.node(item, spot.into(index), around)
        elif isinstance(node, Scalar) and isinstance(node.value, str):
            yield from self.scalar(node, spot, around)

    def mapping(self, node: Mapping, spot: Spot, around: _Around) -> Iterator[Mention]:
        for key, value in node.entries.items():
            target = self.key(node, key, spot, around)
            if target is not None:
                defines = len(target.symbol) > 1 and self._defines(spot)
                yield Mention(target.symbol, inner_place(node.keys[key]), defines, target.program)
            yield from self.node(value, spot.into(key), self.around(key, spot, around))

    def _defines(self, spot: Spot) -> bool:
        return len(spot.at) == 1 or spot.at in (
            *_FIELDS,
            ("data", "fractions"),
            ("steps", "*", "state"),
            ("steps", "*"),
        )

    def around(self, key: str, spot: Spot, around: _Around) -> _Around:
        if spot.at == ("steps",):
            return _Around(around.level, ("steps", f"{around.level}{key}"))
        if spot.at in (("modules",), ("tools",), ("metrics",), ("ensemble", "members", "*")):
            return _Around("", ("modules" if spot.at[0] == "ensemble" else spot.at[0], key))
        in_body = (spot.at == ("steps", "*") and key in ("steps", "next")) or (
            spot.at == ("steps", "*", "repeat") and key == "until"
        )
        return around.inside if in_body else around

    def key(self, node: Mapping, key: str, spot: Spot, around: _Around) -> Target | None:
        """Return the symbol that a key of a mapping at the place `spot` stands for; None where it is a key of the language,
        or stands for nothing known."""
        at, owner = spot.at, around.owner
        if len(at) == 1 and at[0] in SECTIONS:
            if at[0] == "steps":
                return Target(("steps", f"{around.level}{key}"))
            return Target((at[0], key)) if at[0] != "data" or key in SPLITS else None
        if at in KEYS:
            return Target((KEYS[at], key))
        if at == ("data", "fractions") and key in SPLITS:
            return Target(("data", key))
        if at in _FIELDS:
            return Target((*owner, at[-1], key))
        if at in _DEMOS:
            return self.field(owner[1], key)
        if at == ("steps", "*") and key == "value":
            return Target((*owner, "value"))
        if at[:2] == ("steps", "*") and len(at) == 3:
            if at[2] == "with":
                return self.structure.argument(owner[1], key)
            if at[2] in ("else", "on_error"):
                return self.structure.output(owner[1], key)
            if at[2] in ("state", "next"):
                return Target((*owner, "state", key))
        if at == ("metrics", "*", "with"):
            program = self._program(owner)
            return Target(("inputs", key), program) if program is not None else None
        if at in (("steps", "*", "lms"), ("metrics", "*", "lms")):
            program = self._program(owner)
            return Target(("lms", key), program) if program is not None else None
        if at[:2] == ("optimize", "stages") and isinstance(spot.chosen(Mapping), MapOf):
            return Target(("modules", key)) if self.structure.has("modules", key) else None
        if at in (("tests", "*", "inputs"), ("tests", "*", "expect")):
            return Target(self.structure.program_field("inputs" if at[2] == "inputs" else "outputs", key))
        return None

    def _program(self, owner: Symbol) -> Path | None:
        """Return the file of the program that a step runs, or that judges for a metric (`owner`); None where there is none."""
        metrics = self.structure.root.map("metrics")
        judge = metrics.map(owner[1]) if metrics is not None else None
        node = self.structure.step_node(owner[1]) if owner[0] == "steps" else judge
        return program_path(node) if node is not None else None

    def field(self, module: str, name: str) -> Target | None:
        """Return the symbol of the input, else the output, of a module that has this name; None where it has none."""
        modules = self.structure.root.map("modules")
        node = modules.map(module) if modules is not None else None
        for section in ("inputs", "outputs"):
            fields = node.map(section) if node is not None else None
            if fields is not None and name in fields.entries:
                return Target(("modules", module, section, name))
        return None

    def scalar(self, node: Scalar, spot: Spot, around: _Around) -> Iterator[Mention]:
        text: str = node.value
        section = NAMED.get(spot.at)
        if section is not None:
            path = self.structure.step(around.level, text) if section == "steps" else text
            place = inner_place(node)
            if (
                section == "tools" and "." in text
            ):  # a tool of an MCP server, as `files.read_file`: the name is the server's
                path = text.partition(".")[0]
                place = replace(place, length=len(path))
            if path is not None:
                yield Mention((section, path), place)
        elif spot.at[:-1] in LAYOUTS:
            for chain in in_template(text):
                yield from self.in_layout(chain, node, around)
        elif spot.at == ("tools", "*", "result"):
            yield Mention((*around.owner, "result", text), inner_place(node), True)
        elif spot.at in BARE or "${{" in text:
            wrapped = WRAPPED.match(text)
            start, end = wrapped.span(1) if wrapped else (0, len(text))
            for chain in in_expression(text, start, end):
                yield from self.in_expression(chain, node, around)

    def in_layout(self, chain: Chain, node: Scalar, around: _Around) -> Iterator[Mention]:
        root = chain[0]
        if root.name == "vars" and len(chain) > 1:
            yield Mention(("vars", chain[1].name), node.at(chain[1].offset, len(chain[1].name)))
        elif len(around.owner) == 2 and (target := self.field(around.owner[1], root.name)) is not None:
            yield Mention(target.symbol, node.at(root.offset, len(root.name)))

    def in_expression(self, chain: Chain, node: Scalar, around: _Around) -> Iterator[Mention]:
        for part, target in zip(chain[1:], resolved(chain, self.structure, around.level), strict=False):
            if target is not None:
                yield Mention(target.symbol, node.at(part.offset, len(part.name)), program=target.program)


def resolved(chain: Chain, structure: Structure, level: str) -> list[Target | None]:
    """Return the symbols of the program that the names of a dotted name stand for, after its first and in their order: None
    for a name that stands for nothing. Names behind the last symbol, which are fields of a value, have no entry.

    `structure` has the program's steps, modules and tools; `level` is the path of the loops around the place, as
    `outer.inner.`, and empty outside of any.
    """
    root, *names = [part.name for part in chain]
    if not names:
        return []
    first = names[0]
    if root == "steps":
        path = structure.step(level, first)
        if path is None:
            module = structure.only_module
            path = module if module == first else None
        if path is None:
            return [None]
        own = Target(("steps", path)) if structure.step_node(path) is not None else Target(("modules", path))
        return [own, structure.output(path, names[1])] if len(names) > 1 else [own]
    if root in ("inputs", "outputs"):
        return [Target(structure.program_field(root, first))]
    if root in ("vars", "metrics"):
        return [Target((root, first))]
    if root == "state" and level:
        return [Target(("steps", level[:-1], "state", first))]
    return [None]


def inner_place(node: Scalar) -> Place:
    """Return the place of a scalar's text in its line, without its quotes; of a text over several lines it is not exact."""
    quote = 1 if node.style in ("'", '"') else 0
    return Place(node.source, node.line, node.column + quote, len(node.text))
