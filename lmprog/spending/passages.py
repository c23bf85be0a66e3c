"""The longest that a search can return, by its corpus, so that a prompt with its passages has a bound before it runs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.plan import Plan, Step, ToolCall
from lmprog.compiler.rows.files import RowsError, read_file
from lmprog.compiler.yaml.files import state_of

MAX_BYTES = 20_000_000
"""The size of the largest corpus that is read for a forecast."""
MAX_ENTRIES = 100
"""The most entries of one search that are laid into a prompt."""
_GROWING = frozenset({"pluck", "join", "json", "str"})
"""Functions whose result is longer where their argument is; `unique` is none, as the entries that stand in are equal."""
_PLAIN = (ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.Load)


def results(plan: Plan, *, longest: bool) -> dict[str, dict[str, Any]]:
    """Return, for each step at the top of a plan that searches a corpus in a file, its output by name: as many entries as it
    returns, each with the longest value of every column, or, without `longest`, one of the length in the middle.

    Steps under `foreach` or with values that stand in are left out, and so are searches of an unknown `k` or of a corpus that
    is too large or cannot be read.
    """
    return {step.id: found for step in plan.steps if (found := _result(plan, step, int(longest))) is not None}


def is_known(found: Mapping[str, Mapping[str, Any]], values: Iterable[Expression]) -> bool:
    """Return whether expressions read nothing but inputs, vars and the results of searches that `results` has `found`, the
    latter in no other way than as they are, or in functions whose result grows with them."""
    for value in values:
        for name in value.references:
            if name[0] == "steps" and (len(name) < 3 or name[2] not in found.get(name[1], {})):
                return False
            if name[0] not in ("inputs", "vars", "steps"):
                return False
        if any(name[0] == "steps" for name in value.references) and not _grows(value):
            return False
    return True


def _grows(value: Expression) -> bool:
    if value.tree is None:
        return False
    calls = {
        node.func.id for node in ast.walk(value.tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return calls <= _GROWING and all(isinstance(node, _PLAIN) for node in ast.walk(value.tree))


def _result(plan: Plan, step: Step, which: int) -> dict[str, Any] | None:
    """Return the output of a step that searches; None for another, and where its length is not known. `which` is 1 for the
    longest entries, 0 for usual ones."""
    tool = plan.tools.get(step.action.tool) if isinstance(step.action, ToolCall) else None
    if tool is None or not isinstance(step.action, ToolCall) or tool.kind != "search":
        return None
    corpus, k = tool.settings.get("corpus"), step.action.arguments.get("k")
    try:
        count = tool.parameters["k"].default if k is None else k.evaluate({"vars": plan.vars})
    except EvaluationError:
        return None
    stands_in = step.foreach is not None or step.otherwise or step.on_error
    if stands_in or not isinstance(corpus, Path) or not isinstance(count, int) or count > MAX_ENTRIES:
        return None
    columns = tool.settings.get("columns") or [tool.settings["key"]]
    values = _values(corpus, state_of(corpus), tuple(map(str, columns)))
    if values is None:
        return None
    entry = {name: both[which] for name, both in values.items()}
    shown = entry if "columns" in tool.settings else str(entry[str(tool.settings["key"])])
    return {tool.result: [shown] * max(count, 0)}


@lru_cache(maxsize=16)
def _values(corpus: Path, state: object, columns: tuple[str, ...]) -> dict[str, tuple[Any, Any]] | None:
    """Return two values of each column of a corpus: one of the length in the middle, as JSON, and one as long as the longest.
    None where the corpus is too large, empty or cannot be read, or lacks a column. `state` is that of the file, so that a
    changed one is read again."""
    try:
        if corpus.stat().st_size > MAX_BYTES:
            return None
        rows = [[row[name] for name in columns] for row in read_file(corpus, columns)]
    except (RowsError, OSError, KeyError):
        return None
    if not rows:
        return None
    sized = (sorted(values, key=_bytes) for values in zip(*rows, strict=True))
    return {name: (values[len(values) // 2], _as_long(values)) for name, values in zip(columns, sized, strict=True)}


def _as_long(values: list[Any]) -> Any:
    """Return a value that is no shorter in a prompt than any of these, sorted by their length as JSON: of texts alone a text,
    since which is the longest depends on whether a prompt holds it plainly or as JSON."""
    if not all(isinstance(value, str) for value in values):
        return values[-1]
    return "x" * max(_bytes(values[-1]), *(len(value.encode(errors="replace")) for value in values))


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace"))
