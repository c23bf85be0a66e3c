"""The one rule for what makes two declarations those of one LM, whatever they are called and wherever they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import LM, AdapterReference

_HANDLING = frozenset({
    "trusted", "context", "price", "speed", "limits", "cache",
})  # fmt: skip
"""Fields that say how an LM is handled here, and nothing of its replies."""


def same_lm(one: LM, other: LM) -> bool:
    """Return whether two declarations are of one LM, so that one object answers for both: they differ in their ids alone."""
    return one is other or (one.model == other.model and _plain(one) == _plain(other))


def twin(lm: LM, among: Mapping[str, LM]) -> str | None:
    """Return the id of a declaration of the same LM: the one with the same id, else the first; None where there is none."""
    same = [id for id, each in among.items() if same_lm(lm, each)]
    return lm.id if lm.id in same else next(iter(same), None)


def answers_of(lm: LM) -> Mapping[str, Any]:
    """Return what the replies of an LM depend on, but for its adapter, as values that are equal where replies may be."""
    return {name: value for name, value in _plain(lm).items() if name not in _HANDLING and name != "adapter"}


def same_tokens(one: LM, other: LM) -> bool:
    """Return whether the token ids of one LM are those of the other: all that answer have the same base model here."""
    bases = {each.trained_as for each in (*one.answering, *other.answering)}
    return len(bases) == 1 and None not in bases


def _plain(lm: LM) -> dict[str, Any]:
    return {field.name: _value(getattr(lm, field.name)) for field in fields(lm) if field.name != "id"}


def _value(value: Any) -> Any:
    """Return what a value says: an expression by its text, an adapter by its weights, an LM by all but its id."""
    if isinstance(value, Expression):
        return "expression", value.text
    if isinstance(value, AdapterReference):
        return value.weights
    if isinstance(value, LM):
        return _plain(value)
    if isinstance(value, tuple):
        return tuple(map(_value, value))
    return {name: _value(each) for name, each in value.items()} if isinstance(value, Mapping) else value
