"""The inputs of a program as fields of a form: what a row gives, what a person types, and what is private."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmprog.compiler.plan import Field, Plan
from lmprog.compiler.types.lattice import BOOL, STR, Enum, Optional, Type
from lmprog.compiler.yaml.reader import value_of
from lmprog.errors import UsageError
from lmprog.lms.fake import placeholder

PRIVATE = "(private)"


@dataclass(frozen=True)
class InputField:
    """An input of the program in the page's form: its name, its type as the language writes it, and the `text` that is shown in
    it (empty for null and for a value that is not shown).

    `about` describes it, `choices` are its values if they are labels or a bool (with an empty one where it may be null, or has
    none of them), `private` says that its value is not shown, and `long` that the text needs a larger field.
    """

    name: str
    type: str
    text: str
    about: str
    choices: tuple[str, ...] = ()
    private: bool = False
    long: bool = False


def fields_of(plan: Plan, values: Mapping[str, Any], hidden: frozenset[str]) -> list[InputField]:
    """Return a field of the form for each input of the program, in order, with its value in `values`, the inputs of a
    row by name, else its default; the fields of inputs in `hidden` are left empty, and marked private.
    """
    return [_field(name, declared, values, name in hidden) for name, declared in plan.inputs.items()]


def _field(name: str, declared: Field, values: Mapping[str, Any], hidden: bool) -> InputField:
    value = values.get(name, declared.default)
    text = "" if hidden or value is None else as_typed(value)
    kind = declared.type
    choices: tuple[str, ...] = ()
    inner = kind.inner if isinstance(kind, Optional) else kind
    if isinstance(inner, Enum) or inner == BOOL:
        choices = inner.values if isinstance(inner, Enum) else ("true", "false")
        choices = ("", *choices) if isinstance(kind, Optional) or text not in choices else choices
    long = len(text) > 60 or "\n" in text
    return InputField(name, str(kind), text, (declared.about or "").strip(), choices, hidden, long)


def as_typed(value: Any) -> str:
    """Return a value as a person would type it: a text unchanged, anything else as JSON (None: `null`)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def with_typed(plan: Plan, values: Mapping[str, Any], typed: Mapping[str, str]) -> dict[str, Any]:
    """Return, as a new mapping, a row's inputs (`values`, by name) with those that were typed in their place: texts as
    they are, others read as YAML. An empty text leaves out an optional input, and is the value of a text or label; a
    name that is no input of the program is ignored.

    Raises UsageError for a text that is no YAML, or empty where the input is neither optional, a text nor a label;
    whether a value has the input's type is not checked.
    """
    found = dict(values)
    for name, text in typed.items():
        declared = plan.inputs.get(name)
        if declared is None:
            continue  # an input that the program has no more
        if isinstance(declared.type, Optional) and not text.strip():
            found.pop(name, None)
        else:
            found[name] = _read(name, declared.type, text)
    return found


def _read(name: str, kind: Type, text: str) -> Any:
    inner = kind.inner if isinstance(kind, Optional) else kind
    if inner == STR or isinstance(inner, Enum):
        return text
    try:
        return value_of(text, f"the input {name}")
    except ValueError as error:
        raise UsageError(f"the input {name!r} ({kind}): {error}") from None


def without_private(plan: Plan, values: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    """Return the inputs `values` (by name) of `plan` with the value of each that is in `hidden` replaced by a made-up one of
    its type."""
    return {
        name: placeholder(f"{name}, private", plan.inputs[name].type) if name in hidden else value
        for name, value in values.items()
    }
