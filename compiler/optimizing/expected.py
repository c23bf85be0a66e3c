"""The `expect:` of a test: the values and checks for an output, read against the output's type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import shown_value, suggestion
from lmprog.compiler.fitting import fit
from lmprog.compiler.optimizing.language import CHECKS
from lmprog.compiler.spec_tests import Check, Expected
from lmprog.compiler.types.lattice import (
    FLOAT,
    INT,
    JSON,
    STR,
    UNKNOWN,
    Enum,
    ListOf,
    Object,
    Type,
    mismatch,
    without_none,
)
from lmprog.compiler.types.meant import meant
from lmprog.compiler.yaml.source import Mapping, Node

_ANY = (JSON, UNKNOWN)
"""Types whose values may be of any kind."""


def read_expected(draft: Draft, node: Node, kind: Type, what: str) -> Expected:
    """Return the checks that `node`, below a test's `expect`, makes of an output or field of type `kind`: those that it
    writes by their names, or equality with a plain value. It is empty, with a finding, for a value that cannot be of the
    type. `what` names the place in messages."""
    inner = without_none(kind)
    if isinstance(node, Mapping) and not _is_value(node, inner):
        return _checks(draft, node, kind, what)
    if wrong := mismatch(node.plain(), kind):
        draft.report.add("LMP203", node.place, f"{what}: {wrong}", fix=meant(node.plain(), kind))
        return ()
    return (Check("equals", node.plain()),)


def _is_value(node: Mapping, kind: Type) -> bool:
    """Return whether a mapping is a value that an output of type `kind` shall equal, and not checks by their names."""
    checks = bool(node.entries) and node.entries.keys() <= CHECKS.keys.keys()
    if isinstance(kind, Object):
        return not checks or node.entries.keys() <= dict(kind.fields).keys()
    return kind in _ANY and not checks


def _checks(draft: Draft, node: Mapping, kind: Type, what: str) -> Expected:
    """Return the checks that a mapping writes by their names; those that cannot stand at a value of the type get findings."""
    fitted = fit(CHECKS, node, draft.report, what)
    if not isinstance(fitted, Mapping):
        return ()
    if not fitted.entries:
        if not fitted.dropped:
            fix = f"write one of {', '.join(CHECKS.keys)}"
            draft.report.add("LMP101", node.place, f"{what} has no check", fix=fix)
        return ()
    found = []
    for key, value in fitted.entries.items():
        if key == "partial" and isinstance(value, Mapping):
            found += _partial(draft, value, without_none(kind), what)
        elif key == "within":
            _tolerance(draft, fitted, kind, what)
        elif (wrong := _RULES[key](value.plain(), kind)) is not None:
            draft.report.add("LMP203", value.place, f"`{key}` of {what}: {wrong}")
        else:
            plain = value.plain()
            within = fitted.value("within") if key == "equals" else None
            listed = key in ("contains", "excludes") and not _is_list(plain, kind)
            found.append(Check(key, [plain] if listed else plain, within))
    _never_or_always(draft, fitted, without_none(kind), what)
    return tuple(found)


def _partial(draft: Draft, node: Mapping, kind: Type, what: str) -> list[Check]:
    """Return the check of some fields of an object, in a list; empty, with a finding, where the type has no fields."""
    fields = dict(kind.fields) if isinstance(kind, Object) else {}
    if not isinstance(kind, Object) and kind not in _ANY:
        draft.report.add("LMP203", node.place, f"`partial` of {what}: it names fields, and this is {_an(kind)}")
        return []
    wanted = {}
    for name, value in node.entries.items():
        field = fields.get(name) if isinstance(kind, Object) else JSON
        if field is None:
            fix = suggestion(name, fields, "fields")
            draft.report.add("LMP203", node.key_place(name), f"{what} has no field `{name}`", fix=fix)
        else:
            wanted[name] = read_expected(draft, value, field, f"field `{name}` of {what}")
    return [Check("partial", wanted)]


def _tolerance(draft: Draft, node: Mapping, kind: Type, what: str) -> None:
    """Report a `within` that stands beside no `equals`, or beside a value that is no number."""
    value = node.value("equals")
    if "equals" not in node.entries:
        if "equals" not in node.dropped:
            message, fix = f"`within` of {what} has no number to be near", "write equals: beside it"
            draft.report.add("LMP101", node.key_place("within"), message, fix=fix)
    elif without_none(kind) not in (INT, FLOAT, *_ANY) or not isinstance(value, int | float) or isinstance(value, bool):
        of = f"this is {_an(kind)}" if without_none(kind) not in _ANY else f"{shown_value(value)} is none"
        draft.report.add(
            "LMP203", node.key_place("within"), f"`within` of {what}: a tolerance is for numbers, and {of}"
        )


def _never_or_always(draft: Draft, node: Mapping, kind: Type, what: str) -> None:
    """Report bounds between which there is no number, and a `one_of` with all values of an enum."""
    low, high = node.value("at_least"), node.value("at_most")
    if low is not None and high is not None and low > high:
        message = f"{what} cannot be at least {low:g} and at most {high:g}"
        draft.report.add("LMP203", node.entries["at_least"].place, message)
    listed = node.value("one_of", ())
    if isinstance(kind, Enum) and kind.members <= {value for value in listed if isinstance(value, str)}:
        message = f"`one_of` of {what} always holds: these are all its values"
        draft.report.add("LMP206", node.entries["one_of"].place, message, fix="leave it out, or name fewer")


def _is_list(value: Any, kind: Type) -> bool:
    """Return whether `contains` lists several texts or items, rather than one item that is a list."""
    inner = without_none(kind)
    return isinstance(value, list) and not (isinstance(inner, ListOf) and isinstance(without_none(inner.item), ListOf))


def _an(kind: Type) -> str:
    return f"{'an' if str(kind)[:1] in 'aeiou' else 'a'} {kind}"


def _equals(value: Any, kind: Type) -> str | None:
    return mismatch(value, kind)


def _one_of(value: Any, kind: Type) -> str | None:
    return next((wrong for each in value if (wrong := mismatch(each, kind))), None)


def _holding(value: Any, kind: Type) -> str | None:
    """Return why a text or list of the type cannot hold the value of `contains` or `excludes`, or None where it can."""
    inner = without_none(kind)
    parts = value if _is_list(value, kind) else [value]
    if isinstance(inner, ListOf):
        return next((wrong for part in parts if (wrong := mismatch(part, inner.item))), None)
    if inner in _ANY:
        return None
    if inner != STR and not isinstance(inner, Enum):
        return f"it is for texts and lists, and this is {_an(inner)}"
    strange = next((part for part in parts if not isinstance(part, str)), None)
    if strange is not None:
        return f"a text holds texts, and {shown_value(strange)} is none"
    if isinstance(inner, Enum):
        return next(
            (f"{shown_value(part)} is in none of its values" for part in parts if not _in_any(part, inner)), None
        )
    return None


def _in_any(part: str, kind: Enum) -> bool:
    return any(part in value for value in kind.values)


def _regex(value: Any, kind: Type) -> str | None:
    inner = without_none(kind)
    try:
        pattern = re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        return f"this is no regular expression: {error}"
    if inner != STR and inner not in _ANY and not isinstance(inner, Enum):
        return f"it is for texts, and this is {_an(inner)}"
    if isinstance(inner, Enum) and not any(map(pattern.search, inner.values)):
        return "none of its values matches"
    return None


def _bound(value: Any, kind: Type) -> str | None:
    inner = without_none(kind)
    return None if inner in (INT, FLOAT, *_ANY) else f"it is for numbers, and this is {_an(inner)}"


_RULES: dict[str, Callable[[Any, Type], str | None]] = {
    "equals": _equals,
    "contains": _holding,
    "excludes": _holding,
    "regex": _regex,
    "one_of": _one_of,
    "at_least": _bound,
    "at_most": _bound,
}
"""Functions that return why a check cannot stand at a value of the type, or None; `within` and `partial` are read apart."""
