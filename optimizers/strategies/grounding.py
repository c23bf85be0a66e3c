"""Texts for a proposer's prompt: the program, the module's place in it, the data, and earlier attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from lmprog.compiler.plan import Module, ModuleCall, Plan, ProgramCall, Step, ToolCall
from lmprog.compiler.steps.parts import bound, inner

SHOWN_ROWS = 4
SHOWN_VALUES = 30
SHOWN_CHARACTERS = 600
Tried = Sequence[tuple[str, float]]
"""Instructions that were tried, with the mean score of the candidates that have them."""


def program(plan: Plan) -> str:
    """Return a description of the program for a proposer's prompt: its name, description and inputs, then its steps
    with their arguments, a line each (those of a loop indented below it, those of a sub-program left out), then its
    outputs."""
    said = [f"A program named {plan.name!r} is made of language-model calls. {plan.description or ''}".strip()]
    said += [f"Its inputs: {', '.join(f'{name} ({field.type})' for name, field in plan.inputs.items())}. Its steps:"]
    said += _steps(plan.steps, "- ")
    said += [f"It gives back: {', '.join(f'{name} = {value.text}' for name, value in plan.outputs.items())}"]
    return "\n".join(said)


def module(module: Module) -> str:
    """Return a description of a module's inputs, outputs and present instructions, for a proposer's prompt."""
    signature = {
        "inputs": {name: _field(field.type, field.about) for name, field in module.inputs.items()},
        "outputs": {name: _field(field.type, field.about) for name, field in module.outputs.items()},
    }
    return "\n".join(
        [
            f"The module {module.id!r} has this signature: {json.dumps(signature, ensure_ascii=False)}",
            f"Its instructions now: {module.instructions or '(none)'}",
        ]
    )


def data(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a description of the columns of `rows` (values that repeat, lengths, ranges), and the first 4 rows as JSON cut
    after 600 characters each, for a proposer's prompt.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    said = [f"The program's data has {len(rows)} rows with these columns:"]
    said += [f"- {name}: {_column([row[name] for row in rows if row.get(name) is not None])}" for name in columns]
    said += ["Some rows:"]
    return "\n".join([*said, *(_short(row) for row in rows[:SHOWN_ROWS])])


def scores(tried: Tried) -> str:
    """Return the instructions tried so far with their scores, the worst first, for a proposer's prompt; a heading alone
    where there are none."""
    ordered = sorted(tried, key=lambda entry: entry[1])
    return "\n".join(["Instructions that were tried, with their mean scores:", *(f"{s:.3f}: {t}" for t, s in ordered)])


def _steps(steps: Sequence[Step], before: str) -> Iterator[str]:
    for step in steps:
        action = step.action
        if (most := bound(step)) is not None:
            yield f"{before}{step.id}: over and over, at most {most.text} times:"
            yield from _steps(inner(step), "  " + before)
            continue
        what = "a value"
        given: Mapping[str, Any] = {}
        if isinstance(action, ModuleCall):
            what, given = f"the module {action.module!r}", action.arguments
        elif isinstance(action, ToolCall):
            what, given = f"the tool {action.tool!r}", action.arguments
        elif isinstance(action, ProgramCall):
            what, given = f"the program {action.plan.name!r}", action.arguments
        arguments = ", ".join(f"{name} = {value.text}" for name, value in given.items())
        each = f", for each of {step.foreach.items.text}" if step.foreach is not None else ""
        yield f"{before}{step.id}: {what} with {arguments or 'nothing'}{each}"


def _field(kind: Any, about: str | None) -> str:
    return f"{kind}: {about.strip()}" if about else str(kind)


def _column(values: Sequence[Any]) -> str:
    if not values:
        return "always empty"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return f"numbers from {min(values)} to {max(values)}"
    texts = [
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str) for value in values
    ]
    counts = Counter(texts)
    if len(counts) <= min(SHOWN_VALUES, len(texts) // 2):
        return "one of " + ", ".join(f"{text!r} ({count})" for text, count in counts.most_common())
    words = [len(text.split()) for text in texts]
    kinds = ", ".join(sorted({type(value).__name__ for value in values}))
    return f"{kinds}, {min(words)} to {max(words)} words, half of them at most {median(words):.0f}; {len(counts)} different"


def _short(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)[:SHOWN_CHARACTERS]
