"""The places of the language at which names, expressions and templates stand, and the shape at each place.

A place is the path of its keys, with `*` for keys of the author's choice and for items of lists. `steps` in a loop is the
place `steps` again. `tests/unit/lmprog/editing/test_grammar.py` compares the places with the language.
"""

from __future__ import annotations

from dataclasses import dataclass

from lmprog.compiler.language import PROGRAM
from lmprog.compiler.optimizing.contract import built_in
from lmprog.compiler.schema.option_schema import shape_of
from lmprog.compiler.shape import Anything, Either, Lazy, ListOf, MapOf, Nullable, Record, Shape
from lmprog.compiler.types.shapes import LONG_FORM, TYPE
from lmprog.compiler.yaml.source import Mapping, Node, Sequence

At = tuple[str, ...]

SECTIONS = ("inputs", "outputs", "vars", "lms", "tools", "modules", "steps", "data", "metrics")
"""The keys at the top whose own keys are names of the program."""

NAMED: dict[At, str] = {
    ("modules", "*", "lm"): "lms",
    ("modules", "*", "tools", "*"): "tools",
    ("steps", "*", "module"): "modules",
    ("steps", "*", "tool"): "tools",
    ("steps", "*", "needs", "*"): "steps",
    ("steps", "*", "lms", "*"): "lms",
    ("metrics", "*", "lms", "*"): "lms",
    ("ensemble", "judge"): "lms",
    ("ensemble", "vote"): "outputs",
    ("optimize", "metric"): "metrics",
    ("optimize", "reward"): "metrics",
    ("optimize", "reward", "*"): "metrics",
    ("optimize", "train"): "data",
    ("optimize", "validate"): "data",
    ("optimize", "proposer"): "lms",
    ("optimize", "stages", "*", "ensemble", "judge"): "lms",
    ("tests", "*", "data"): "data",
    ("tests", "*", "metric"): "metrics",
}
"""The places of texts that are a name, with the section that defines it."""

KEYS: dict[At, str] = {
    ("optimize", "tune"): "modules",
    ("optimize", "reward"): "modules",
    ("optimize", "instructions"): "modules",
    ("ensemble", "members", "*"): "modules",
}
"""The places of mappings whose keys are names, with the section that defines them."""

BARE: frozenset[At] = frozenset(
    {
        ("steps", "*", "when"),
        ("steps", "*", "value"),
        ("steps", "*", "foreach"),
        ("steps", "*", "repeat"),
        ("steps", "*", "repeat", "until"),
        ("steps", "*", "repeat", "at_most"),
        ("metrics", "*", "value"),
        ("tests", "*", "assert"),
        ("tests", "*", "assert", "*"),
    }
)
"""Places of expressions that need no `${{ }}` around them."""

LAYOUTS: tuple[At, ...] = (("modules", "*", "prompt"), ("ensemble", "members", "*", "*", "prompt"))
"""The places of mappings from a role to a template."""

PROGRAMS: frozenset[At] = frozenset({("steps", "*", "program"), ("metrics", "*", "program"), ("extends",)})
"""Places of texts that name another program."""

_STEPS = "steps"
"""The name of the shape of steps, which holds itself."""
_STAGES = ("optimize", "stages", "*")
_ANYTHING = Anything()


@dataclass(frozen=True)
class Spot:
    """A place in a program: its keys, the same with `*` for names that the author chose (`at`), and the shape that the
    language has there.
    """

    at: At = ()
    shape: Shape = PROGRAM
    keys: tuple[str | int, ...] = ()

    def chosen(self, kind: type[Node]) -> Shape:
        """Return the shape that the language has here for a node of a kind (Scalar, Sequence, Mapping), where the place may
        hold several kinds; Anything where it holds no node of this kind."""
        shape = self.shape
        while isinstance(shape, Lazy | Either | Nullable):
            if is_type(shape) and issubclass(kind, Mapping):
                return LONG_FORM
            if isinstance(shape, Lazy):
                shape = shape.shape()
            elif isinstance(shape, Nullable):
                shape = shape.shape
            elif issubclass(kind, Mapping):
                shape = shape.mapping or _ANYTHING
            else:
                shape = (shape.sequence if issubclass(kind, Sequence) else shape.scalar) or _ANYTHING
        return shape

    def into(self, key: str | int) -> Spot:
        """Return the place of the value at a key or index below this place; its shape is Anything where the language has no
        such key."""
        keys = (*self.keys, key)
        if isinstance(key, int):
            shape = self.chosen(Sequence)
            return Spot((*self.at, "*"), shape.item if isinstance(shape, ListOf) else _ANYTHING, keys)
        if self.at == _STAGES:
            return _stage(key, keys)
        if self.at == (*_STAGES, "alternate") and key == "of":
            return Spot(_STAGES[:-1], PROGRAM.keys["optimize"].keys["stages"], keys)  # type: ignore[attr-defined]
        shape = self.chosen(Mapping)
        if isinstance(shape, Record):
            inner = shape.having([key]).keys.get(key, TYPE if shape is LONG_FORM else _ANYTHING)
            steps = isinstance(inner, Lazy) and inner.name == _STEPS
            return Spot(("steps",) if steps else (*self.at, key), inner, keys)
        if isinstance(shape, MapOf):
            return Spot((*self.at, "*"), shape.value, keys)
        return Spot((*self.at, key), _ANYTHING, keys)


def is_type(shape: Shape) -> bool:
    """Return whether the shape is that of a type, such as `list[str]`."""
    return isinstance(shape, Lazy) and shape.name == TYPE.name


def spot_of(keys: tuple[str | int, ...]) -> Spot:
    """Return the place in the language at the end of a path of keys and indices from the top of a program."""
    spot = Spot()
    for key in keys:
        spot = spot.into(key)
    return spot


def _stage(name: str, keys: tuple[str | int, ...]) -> Spot:
    """Return the place of the options of a stage by the optimizer's name; its shape is Anything for one of another package."""
    facts = built_in().get(name)
    shape = shape_of(facts.options) if facts is not None else _ANYTHING
    return Spot((*_STAGES, name), shape, keys)
