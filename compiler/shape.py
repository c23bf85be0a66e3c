"""Shapes: what a part of a spec may look like. They validate nodes (`fitting.py`), say what goes where one mapping is laid over
another (`yaml/laying.py`), and the JSON schema is made from them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace

from lmprog.compiler.plugins import PluginFailed

IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
WRAPPED = re.compile(r"^\s*\$\{\{(.*)\}\}\s*$", re.DOTALL)


@dataclass(frozen=True, eq=False, repr=False)
class Shape:
    """The base of all shapes; editors and docs/reference/ show what is said of a key and one value as a spec writes it."""

    about: str = field(default="", kw_only=True)
    default: str = field(default="", kw_only=True)  # what holds where the key is left out
    example: str = field(default="", kw_only=True)
    instead: str | None = field(default=None, kw_only=True)
    """Advice for a value of another kind: how to write what was probably meant."""


@dataclass(frozen=True, eq=False, repr=False)
class Text(Shape):
    """Any string. `pattern` and its meaning `must` may narrow it."""

    pattern: str | None = None
    must: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Number(Shape):
    """A number, or an int where `whole`; `least` and `most` are inclusive, `above` is not."""

    whole: bool = False
    least: float | None = None
    most: float | None = None
    above: float | None = None
    words: tuple[str, ...] = ()
    """Words that may stand in place of a number."""


@dataclass(frozen=True, eq=False, repr=False)
class Boolean(Shape):
    """`true` or `false`."""


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Shape):
    """A choice between a few words."""

    words: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Expr(Shape):
    """An expression, bare or as `${{ }}`; a number or boolean is a constant."""


@dataclass(frozen=True, eq=False, repr=False)
class Anything(Shape):
    """Any value; what it means is decided later, also where a mapping has the keys of `known`."""

    known: Shape | None = None
    """Keys that mean something else than a value, for editors and docs/reference/."""


@dataclass(frozen=True, eq=False, repr=False)
class ListOf(Shape):
    """A list; `least` is the smallest number of items."""

    item: Shape
    least: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class MapOf(Shape):
    """A mapping from names of the author's choice, which are identifiers unless `free`."""

    value: Shape
    what: str = "entry"
    free: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Record(Shape):
    """A mapping with known keys; `one_of` names keys of which exactly one must stand.

    `only` names the keys that have a meaning beside some of `one_of` alone. `forms` are groups of keys of which one
    stands whole, for the JSON schema: what reads the mapping says so in its own words.
    """

    keys: Map[str, Shape]
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    only: Map[str, tuple[str, ...]] = field(default_factory=dict)
    forms: tuple[tuple[str, ...], ...] = ()
    name: str = ""
    others: Others | None = None
    """The keys that other packages add, each an alternative to `one_of`, or to the required keys where that is empty."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the keys of which exactly one stands, where other packages may add to them."""
        return self.one_of or (self.required if self.others is not None else ())

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the groups of keys of which one stands: the forms, or the choices one by one."""
        return self.forms or tuple((key,) for key in self.choices)

    def beside(self, key: str, group: tuple[str, ...]) -> bool:
        """Return whether a key has a meaning where a group stands."""
        deciding = any(key in each for each in self.groups)
        return key in group or group[0] in self.only.get(key, () if deciding else group)

    def having(
        self, keys: Iterable[str], broken: Callable[[str, PluginFailed], None] = lambda key, error: None
    ) -> Record:
        """Return the record with those of `keys` that other packages add; `broken` is called for a record with an error."""
        found = {}
        for key in keys if self.others is not None else ():
            try:
                shape = self.others.find(key) if key not in self.keys else None  # type: ignore[union-attr]
            except PluginFailed as error:
                broken(key, error)
                shape = Anything()
            if shape is not None:
                found[key] = shape
        if not found:
            return self
        required = self.required if self.one_of else ()
        return replace(self, keys={**self.keys, **found}, one_of=(*self.choices, *found), required=required)


@dataclass(frozen=True)
class Others:
    """Keys that other packages add to a record."""

    find: Callable[[str], Shape | None]
    """Returns the shape of a key, or None; raises PluginFailed where its package has an error."""
    names: Callable[[], Iterable[str]]
    """Returns all keys that can be used."""


@dataclass(frozen=True, eq=False, repr=False)
class Either(Shape):
    """A shape for a scalar, one for a list and one for a mapping; a kind whose shape is None is refused."""

    scalar: Shape | None = None
    sequence: Shape | None = None
    mapping: Shape | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Nullable(Shape):
    """The shape, or null."""

    shape: Shape


@dataclass(frozen=True, eq=False, repr=False)
class Lazy(Shape):
    """A shape that is defined later, for shapes that hold themselves."""

    shape: Callable[[], Shape]
    name: str
