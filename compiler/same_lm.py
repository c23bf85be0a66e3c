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
"""Fields in which two declarations of the same LM may differ: the name, and whether its calls wait for batches."""


def same_lm(one: LM, other: LM) -> bool:
    """Return whether two declarations are equal but for `id` and `batch`, so that one object can answer for both.

    LMs that answer in their place are compared in the same way, adapters by their weights, expressions by their text.
    """
    return one is other or (one.model == other.model and _plain(one) == _plain(other))


def twin(lm: LM, among: Mapping[str, LM]) -> str | None:
    """Return the id in `among` (LMs by id) of one that `same_lm` calls the same as `lm`: of several the one with the id
    of `lm`, else the first; None where there is none.
    """
    same = [id for id, each in among.items() if same_lm(lm, each)]
    return lm.id if lm.id in same else next(iter(same), None)


def answers_of(lm: LM) -> Mapping[str, Any]:
    """Return the settings of an LM on which its replies depend, by the name of the field of `LM`, as values to compare:
    model, parameters, address and others, without its adapter, its id, and how it is limited, priced, trusted and cached."""
    return {name: value for name, value in _plain(lm).items() if name not in _HANDLING and name != "adapter"}


def same_tokens(one: LM, other: LM) -> bool:
    """Return whether two LMs have the same token ids: every LM that answers for them has the same local base model.
    False where one has none, as a provider's LM."""
    bases = {each.trained_as for each in (*one.answering, *other.answering)}
    return len(bases) == 1 and None not in bases


def _plain(lm: LM) -> dict[str, Any]:
    return {field.name: _value(getattr(lm, field.name)) for field in fields(lm) if field.name not in _ASIDE}


def _value(value: Any) -> Any:
    """Return a value of a declaration in a form that can be compared: an expression as its text, an adapter as its weights,
    an LM as its fields but `id` and `batch`, a tuple or mapping with its items in this form."""
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
