"""Shapes: descriptions of what a part of a spec may look like.

They validate nodes (`fitting.py`), say what goes where one mapping is laid over another (`yaml/laying.py`), and the JSON schema
is made from them.
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
    """The base class of shapes: a shape says which value may stand at a place of a spec.

    `about`, `default` and `example` are shown by editors and docs/reference; `instead` is the fix for what is often written
    there by mistake.
    """

    about: str = field(default="", kw_only=True)
    default: str = field(default="", kw_only=True)  # what holds where the key is left out
    example: str = field(default="", kw_only=True)
    instead: str | None = field(default=None, kw_only=True)
    """Advice for a value of another kind: how to write what was probably meant."""


@dataclass(frozen=True, eq=False, repr=False)
class Text(Shape):
    """A string; the regular expression `pattern`, searched in it, narrows it (None: any string), and `must` says in
    words how."""

    pattern: str | None = None
    must: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Number(Shape):
    """A finite number, no boolean (an int if `whole`); `least` and `most` are inclusive bounds, `above` is exclusive (each
    None: no bound), and `words` may stand in its place."""

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
    """Any value, which is examined later by other code; `known` describes keys that a mapping may have."""

    known: Shape | None = None
    """Keys that mean something else than a value, for editors and docs/reference/."""


@dataclass(frozen=True, eq=False, repr=False)
class ListOf(Shape):
    """A list whose items have one shape; `least` is the smallest number of items."""

    item: Shape
    least: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class MapOf(Shape):
    """A mapping whose keys are the author's names (identifiers unless `free`) and whose values have one shape.

    `what` is the word for such a key in messages.
    """

    value: Shape
    what: str = "entry"
    free: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Record(Shape):
    """A mapping with known keys, of which `required` must stand and of `one_of` exactly one.

    `only` names, for some keys, those of `one_of` beside which they have a meaning. `forms` are groups of keys of which
    exactly one must be written whole. `name` names a shape that contains itself, and `others` are keys that other packages
    add.
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
        """The keys of which exactly one must stand: `one_of`, or, where that is empty and other packages may add keys,
        the required ones; none else."""
        return self.one_of or (self.required if self.others is not None else ())

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The groups of keys of which exactly one must be written: `forms`, or each key of `one_of` alone."""
        return self.forms or tuple((key,) for key in self.choices)

    def beside(self, key: str, group: tuple[str, ...]) -> bool:
        """Return whether a key may be written together with `group`, one of `groups`: a key of the group, one that `only`
        ties to the group's first key, or one of no group that `only` does not name."""
        deciding = any(key in each for each in self.groups)
        return key in group or group[0] in self.only.get(key, () if deciding else group)

    def having(
        self, keys: Iterable[str], broken: Callable[[str, PluginFailed], None] = lambda key, error: None
    ) -> Record:
        """Return the record with those of `keys` added that other packages add to the language, each an alternative of
        `one_of`; the record itself where there are none.

        `broken(key, error)` is called for a key whose package's record cannot be used, which then takes anything.
        """
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
    """The keys that other packages may add to a record of the language: `find` returns the shape of a key (None: there
    is none; it raises PluginFailed where the package has an error), `names` all keys that can be used.
    """

    find: Callable[[str], Shape | None]
    """Returns the shape of a key, or None; raises PluginFailed where its package has an error."""
    names: Callable[[], Iterable[str]]
    """Returns all keys that can be used."""


@dataclass(frozen=True, eq=False, repr=False)
class Either(Shape):
    """A shape for a scalar (`scalar`), one for a list (`sequence`) and one for a mapping (`mapping`); a kind whose
    shape is None is refused."""

    scalar: Shape | None = None
    sequence: Shape | None = None
    mapping: Shape | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Nullable(Shape):
    """A value of the shape, or null."""

    shape: Shape


@dataclass(frozen=True, eq=False, repr=False)
class Lazy(Shape):
    """A shape that is made when it is first needed, for shapes that contain themselves; `name` is its name in the JSON
    schema.
    """

    shape: Callable[[], Shape]
    name: str
