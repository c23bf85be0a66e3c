"""Scopes: the names that an expression may read at its place in the spec, with their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace

from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.types.lattice import BOOL, INT, Object, Type

LOOP = Object((("index0", INT), ("first", BOOL), ("last", BOOL)))
"""The type of `loop`, in a turn of a loop or for an item of `foreach`."""


class StepTypes:
    """The steps that are visible at a place, with the types of their outputs: those of its level (`own`, by id, filled by
    the compiler of steps), and those of the levels around it (`outer`, None: there is none).

    `own` has functions that return types, since a `value` step has the type of its expression, which may read others.
    """

    def __init__(self, outer: StepTypes | None = None) -> None:
        self.outer = outer
        self.own: dict[str, Callable[[], Type]] = {}
        self.inner: dict[str, str] = {}
        """The ids of the steps inside loops of this level, each with the id of its loop, for messages."""

    def find(self, id: str) -> Type | None:
        """Return the type of a visible step's outputs; None where there is no such step."""
        own = self.own.get(id)
        if own is not None:
            return own()
        return self.outer.find(id) if self.outer else None

    def has(self, id: str) -> bool:
        """Return whether a step with this id is visible."""
        return id in self.own or (self.outer is not None and self.outer.has(id))

    def ids(self) -> list[str]:
        """Return the ids of all visible steps, those of the innermost level first."""
        return [*self.own, *(self.outer.ids() if self.outer else [])]

    def loop_around(self, id: str) -> str | None:
        """Return the id of the loop, of this level or one around it, among whose own steps the step `id` is, for the message
        about a step that cannot be read from here; None where it is in no such loop."""
        found = self.inner.get(id)
        return found if found or self.outer is None else self.outer.loop_around(id)


@dataclass(frozen=True)
class Scope:
    """The names that an expression may read, with their types: `roots` (`inputs`, `vars`, ...), and the outputs of
    visible steps (`steps` None: none).

    `where` describes the place in messages, as "in a metric", and `present` are names known not to be null.
    """

    roots: Mapping[str, Type] = field(default_factory=dict)
    steps: StepTypes | None = None
    where: str = "here"
    count_known: bool = True
    """True if the number of turns of the innermost loop is known before its last."""
    present: frozenset[tuple[str, ...]] = frozenset()
    """Optional values that are known to be there, because of a guard around."""

    lenient: bool = False
    """True if a guard around the place could not be read, so that it is unknown which values are present."""
    conditions: tuple[Expression, ...] = ()
    """Conditions that hold wherever the place is reached: the `when` and the list of `foreach` around it."""
    together: tuple[Set[str], ...] = ()
    """Steps that run whenever the reader runs, because they have the same `when`."""

    def is_present(self, name: tuple[str, ...], guarded: frozenset[tuple[str, ...]]) -> bool:
        """Return whether the optional value `name`, a path such as `("steps", "a", "b")`, is taken not to be null: it
        is among the `guarded` names (those of `present` count only if they are among them), a field of a step that runs
        whenever the reader does, or guards could not be read."""
        if self.lenient or name in guarded:
            return True
        return len(name) == 3 and name[0] == "steps" and any(name[1] in ids for ids in self.together)

    def having(self, **roots: Type) -> Scope:
        """Return the scope with further roots, or with another type of a root, by name."""
        return replace(self, roots={**self.roots, **roots})

    def given(self, present: frozenset[tuple[str, ...]]) -> Scope:
        """Return the scope in which the names `present` are known not to be null too."""
        return replace(self, present=self.present | present) if present else self

    def where_holds(self, condition: Expression | None) -> Scope:
        """Return the scope for code that runs only if the condition is true, such as a step under `when`: the condition
        is added to `conditions`, and `present` stays as it is (see `given`). None changes nothing."""
        return self if condition is None else replace(self, conditions=(*self.conditions, condition))

    def names(self) -> list[str]:
        """Return the names of the roots that may be read, `steps` among them where steps are visible."""
        return [*self.roots, *(["steps"] if self.steps is not None else [])]
