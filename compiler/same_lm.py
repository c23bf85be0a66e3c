"""The rule by which two declarations are of the same LM, whatever their ids and wherever they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.plan import LM, AdapterReference, Fleet

_HANDLING = frozenset({
    "trusted", "context", "price", "speed", "limits", "cache", "adapter_store",
})  # fmt: skip
"""Fields that say how an LM is handled here, and nothing of its replies."""

_ASIDE = frozenset({"id", "batch"})
"""Fields that a program is run with, or called by, and that make no other LM of it."""


def same_lm(one: LM, other: LM) -> bool:
    """Return whether two declarations are equal but for their ids, so that one object can answer for both."""
    return one is other or (one.model == other.model and _plain(one) == _plain(other))


def twin(lm: LM, among: Mapping[str, LM]) -> str | None:
    """Return the id in `among` of an LM that is declared with the same settings as `lm`, the same id first; None where there is
    none.
    """
    same = [id for id, each in among.items() if same_lm(lm, each)]
    return lm.id if lm.id in same else next(iter(same), None)


def answers_of(lm: LM) -> Mapping[str, Any]:
    """Return the settings of an LM on which its replies depend, by the name of the field of `LM`, without its adapter,
    as plain values to compare."""
    return {name: value for name, value in _plain(lm).items() if name not in _HANDLING and name != "adapter"}


def same_tokens(one: LM, other: LM) -> bool:
    """Return whether two LMs have the same token ids: every LM that answers for them has the same local base model."""
    bases = {each.trained_as for each in (*one.answering, *other.answering)}
    return len(bases) == 1 and None not in bases


def _plain(lm: LM) -> dict[str, Any]:
    return {field.name: _value(getattr(lm, field.name)) for field in fields(lm) if field.name not in _ASIDE}


def _value(value: Any) -> Any:
    """Return what a value says: an expression by its text, an adapter by its weights, an LM by all but its id."""
    if isinstance(value, Expression):
        return "expression", value.text
    if isinstance(value, AdapterReference):
        return value.weights
    if isinstance(value, Fleet):
        return "fleet", _value(value.addresses), value.discover
    if isinstance(value, LM):
        return _plain(value)
    if isinstance(value, tuple):
        return tuple(map(_value, value))
    return {name: _value(each) for name, each in value.items()} if isinstance(value, Mapping) else value
