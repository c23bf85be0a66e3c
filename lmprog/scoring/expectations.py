"""The checks of a test against the outputs of a run: a line for each that does not hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.spec_tests import Check, Expected

CLOSE = 1e-9
"""Numbers that differ by no more of their size are equal: the rounding of arithmetic."""
SHOWN = 200
"""Most characters of a value in a message."""


def differences(expect: Mapping[str, Expected], outputs: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each output that is not as `expect` (by output) says, one that is missing compared as
    None; outputs that it does not name may be anything."""
    return [line for name, checks in expect.items() for line in _failed(name, checks, outputs.get(name))]


def untrue(asserts: Sequence[Expression], scope: Mapping[str, Any]) -> list[str]:
    """Return a line of text for each expression of `asserts` whose value is not True itself, with the values that it
    reads, and for each that cannot be computed, with the error. `scope` has the values by the first names that
    expressions read: `inputs`, `outputs`, `vars` and `trace`."""
    found = []
    for expression in asserts:
        try:
            if expression.evaluate(scope) is True:
                continue
        except EvaluationError as error:
            found.append(f"assert {expression.text}: {error.__cause__ or error}")
            continue
        read = sorted(name[:2] for name in expression.references if name[0] != "trace")
        read += sorted(name for name in expression.references if name[0] == "trace")
        values = [f"{'.'.join(name)} is {_shown(_read(scope, name))}" for name in dict.fromkeys(read)]
        found.append(f"assert {expression.text}: not true, where {', '.join(values)}")
    return found


def _read(scope: Mapping[str, Any], name: tuple[str, ...]) -> Any:
    value: Any = scope
    for part in name:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _failed(name: str, checks: Expected, value: Any) -> list[str]:
    found = []
    for check in checks:
        if check.kind == "partial":
            found += _fields(name, check, value)
        elif not _HOLDS[check.kind](check, value):
            found.append(f"{name}: expected {_wanted(check)}, got {_shown(value)}")
    return found


def _fields(name: str, check: Check, value: Any) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{name}: expected an object with {', '.join(check.value)}, got {_shown(value)}"]
    return [
        line for field, checks in check.value.items() for line in _failed(f"{name}.{field}", checks, value.get(field))
    ]


def _wanted(check: Check) -> str:
    """Return what a check wants, in words."""
    if check.kind in ("contains", "excludes"):
        parts = ", ".join(map(_shown, check.value))
        return f"{parts} in it" if check.kind == "contains" else f"no {' and no '.join(map(_shown, check.value))} in it"
    if check.kind == "regex":
        return f"a text that matches {check.value}"
    if check.kind == "one_of":
        return f"one of {', '.join(map(_shown, check.value))}"
    if check.kind in ("at_least", "at_most"):
        return f"{check.kind.replace('_', ' ')} {check.value:g}"
    return _shown(check.value) + (f" within {check.within:g}" if check.within is not None else "")


def _equals(check: Check, value: Any) -> bool:
    if check.within is None:
        return equal(check.value, value)
    return _number(value) and (
        abs(value - check.value) <= check.within or math.isclose(abs(value - check.value), check.within, rel_tol=CLOSE)
    )


def _holds(part: Any, value: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    return isinstance(value, list | tuple) and any(equal(part, item) for item in value)


def _excludes(check: Check, value: Any) -> bool:
    return isinstance(value, str | list | tuple) and not any(_holds(part, value) for part in check.value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_HOLDS: dict[str, Callable[[Check, Any], bool]] = {
    "equals": _equals,
    "contains": lambda check, value: all(_holds(part, value) for part in check.value),
    "excludes": _excludes,
    "regex": lambda check, value: isinstance(value, str) and re.search(check.value, value) is not None,
    "one_of": lambda check, value: any(equal(each, value) for each in check.value),
    "at_least": lambda check, value: _number(value) and value >= check.value,
    "at_most": lambda check, value: _number(value) and value <= check.value,
}
"""Functions of a check and a value by the kind of the check, True where the value is as the check says; the kind `partial`
is left out, since `_fields` compares its fields one by one."""


def equal(expected: Any, actual: Any) -> bool:
    """Return whether two plain values are equal, at any depth: texts exactly, numbers up to rounding (CLOSE, 1e-9 of
    their size), so that 1 is 1.0, and True is not 1."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return expected == actual or math.isclose(expected, actual, rel_tol=CLOSE)
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(equal, expected, actual))
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return expected.keys() == actual.keys() and all(equal(value, actual[name]) for name, value in expected.items())
    return bool(expected == actual)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
