"""Descriptions of the word at a place: its type and meaning, what it costs at most, and the prompt that is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.functions import FUNCTIONS
from lmprog.compiler.findings.finding import shown_value
from lmprog.compiler.model_table import limits
from lmprog.compiler.plan import (
    LM,
    Field,
    Metric,
    Module,
    ModuleCall,
    Plan,
    ProgramCall,
    Repeat,
    Split,
    Step,
    Tool,
    ToolCall,
)
from lmprog.compiler.tools import protocol
from lmprog.compiler.yaml.source import Mapping, Node, Scalar, Sequence
from lmprog.editing.completion import about_of
from lmprog.editing.cursor import cursor_at
from lmprog.editing.grammar import Spot
from lmprog.editing.names import Mention, inner_place
from lmprog.editing.navigation import Location, mention_at
from lmprog.editing.prompts import shown
from lmprog.editing.scope import counted, most_calls, signature, steps_by_path
from lmprog.editing.session import Session

PROMPTED = frozenset({"prompt", "system", "user", "assistant", "instructions", "demos", "format"})
"""Keys of a module at which its prompt is shown."""
_WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Hover:
    """A text in Markdown that the editor shows for a stretch of a file (`at`), while the mouse is over it."""

    text: str
    at: Location


def hover(session: Session, path: Path, line: int, column: int) -> Hover | None:
    """Return the text that the editor shows while the mouse is over a line and column (from 1) of a file: of a name of
    the program, by its last check (a sub-program without one is checked now), of a key of the language, or of a
    function of an expression.

    A module, a step and a key of a module's prompt are shown with the prompt of their first call, which a dry run
    makes, or with the reason why it failed. None where there is nothing to show.
    """
    found = mention_at(session, path, line, column)
    parts: list[str] = []
    if found is not None:
        parts = _of_mention(session, path, found)
        at = Location(path, found.place.line, found.place.column, found.place.length)
    if not parts:
        key = _key_at(session.parsed(path), Spot(), line, column)
        if key is None:
            return _function(session, path, line, column)
        node, spot = key
        place = inner_place(node)
        at = Location(path, place.line, place.column, place.length)
        parts = _of_key(spot)
        if str(spot.keys[-1]) in PROMPTED and spot.at[:1] == ("modules",):
            parts += _prompt(session, path, module=str(spot.keys[1]))
    return Hover("\n\n".join(parts), at) if parts else None


def _of_key(spot: Spot) -> list[str]:
    """Return the description, default and example of a key as Markdown, as far as the language has them."""
    about, shape = about_of(spot.shape), spot.shape
    parts = [f"`{spot.keys[-1]}`: {about}" if about else ""]
    parts.append(f"Default: {shape.default}." if shape.default else "")
    parts.append(f"```yaml\n{spot.keys[-1]}: {shape.example}\n```" if shape.example else "")
    return [part for part in parts if part]


def _key_at(node: Node | None, spot: Spot, line: int, column: int) -> tuple[Scalar, Spot] | None:
    """Return the key at a line and column below a node at the place `spot`, with its place; None where there is no key."""
    if isinstance(node, Mapping):
        for key, value in node.entries.items():
            place, inner = inner_place(node.keys[key]), spot.into(key)
            if place.line == line and place.column <= column <= place.column + place.length:
                return node.keys[key], inner
            if (found := _key_at(value, inner, line, column)) is not None:
                return found
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if (found := _key_at(item, spot.into(index), line, column)) is not None:
                return found
    return None


def _function(session: Session, path: Path, line: int, column: int) -> Hover | None:
    """Return the description of the function of the expression language at a line and column; None where there is none."""
    text = session.text(path)
    cursor = cursor_at(text, line, column)
    if cursor is None or cursor.expression is None:
        return None
    for word in _WORD.finditer(text.line(line)):
        if word.start() < column <= word.end() + 1 and word[0] in FUNCTIONS:
            return Hover(FUNCTIONS[word[0]].about, Location(path, line, word.start() + 1, len(word[0])))
    return None


def _of_mention(session: Session, path: Path, mention: Mention) -> list[str]:
    """Return the description of a name as parts in Markdown, by the last check of its program; empty where it is not known.
    A sub-program that was never checked is checked."""
    program = mention.program or path
    if mention.program is not None and session.draft(program) is None:
        session.check(program)
    draft = session.draft(program)
    if draft is None:
        return []
    plan = session.plan(program)
    symbol = mention.symbol
    section, name = symbol[0], symbol[1]
    if len(symbol) > 2:
        return _of_part(draft, mention)
    if section == "steps":
        step = steps_by_path(draft).get(name)
        return [] if step is None else [*_step(draft, plan, step), *_prompt(session, program, step=step.path)]
    if section == "modules" and name in draft.modules:
        return [*_module(draft, plan, draft.modules[name]), *_prompt(session, program, module=name)]
    if section == "inputs" and name in draft.inputs:
        return _field(f"inputs.{name}", draft.inputs[name])
    if section == "outputs" and name in draft.output_types:
        return [_code(f"outputs.{name}: {draft.output_types[name]}")]
    if section == "vars" and name in draft.vars:
        kind = draft.var_types.get(name)
        return [_code(f"vars.{name}: {kind}"), f"Value: `{shown_value(draft.vars[name])}`"]
    if section == "tools" and name in draft.servers:
        return [_code(protocol.signature(draft.tools[id], id)) for id in draft.servers[name] or ()]
    known: dict[str, Any] = getattr(draft, section, {})
    describe = _DESCRIBED.get(section)
    if describe is None or name not in known:
        return []
    parts = describe(known[name])
    if section == "data" and name in draft.rows:
        parts.append(f"{len(draft.rows[name])} rows")
    return parts


def _of_part(draft: Draft, mention: Mention) -> list[str]:
    """Return the description of a name with an owner as parts in Markdown: an input or output of a module or tool, a state
    variable of a loop, an output of a step; empty where it is not known."""
    section, owner, *rest = mention.symbol
    last = rest[-1]
    if section == "modules" and owner in draft.modules:
        module = draft.modules[owner]
        found = (module.inputs if rest[0] == "inputs" else module.outputs).get(last)
        return _field(f"{owner}.{last}", found) if found is not None else []
    if section == "tools" and owner in draft.tools:
        tool = draft.tools[owner]
        if rest[0] == "result":
            return [_code(f"{owner}.{tool.result}: {tool.type}")]
        return _field(f"{owner}.{last}", tool.parameters[last]) if last in tool.parameters else []
    step = steps_by_path(draft).get(owner) if section == "steps" else None
    kind = step.outputs.get(last) if step is not None else None
    return [_code(f"steps.{step.id}.{last}: {kind}")] if step is not None and kind is not None else []


def _code(text: str) -> str:
    return f"```text\n{text}\n```"


def _field(name: str, field: Field) -> list[str]:
    marks = [
        "private" if field.private else "",
        f"default {shown_value(field.default)}" if field.has_default else "",
        f"declassified: {field.declassify}" if field.declassify else "",
    ]
    parts = [_code(f"{name}: {field.type}"), field.about or "", ", ".join(mark for mark in marks if mark)]
    return [part for part in parts if part]


def _step(draft: Draft, plan: Plan | None, step: Step) -> list[str]:
    fields = ", ".join(f"{name}: {kind}" for name, kind in step.outputs.items())
    parts = [_code(f"steps.{step.id}: {{{fields}}}")]
    action = step.action
    if isinstance(action, ModuleCall) and action.module in draft.modules:
        parts.append(f"Calls the module `{action.module}` with `{draft.modules[action.module].lm}`.")
    elif isinstance(action, ToolCall):
        parts.append(f"Calls the tool `{action.tool}`.")
    elif isinstance(action, ProgramCall):
        parts.append(f"Runs the program `{action.plan.name}`.")
    elif isinstance(action, Repeat):
        parts.append(f"Repeats {len(action.steps)} steps, at most `{action.at_most.text}` times.")
    if step.when is not None:
        parts.append(f"Runs only when `{step.when.text}`.")
    calls = most_calls(plan).get(step.path) if plan is not None else None
    return [*parts, f"At most {counted(calls)} a run."] if calls else parts


def _module(draft: Draft, plan: Plan | None, module: Module) -> list[str]:
    lm = draft.lms.get(module.lm)
    parts = [_code(signature(module)), f"Asks `{module.lm}` ({lm.model})." if lm is not None else ""]
    if module.tools:
        parts.append(
            f"An agent with {', '.join(f'`{tool}`' for tool in module.tools)}, {module.max_turns} turns at most."
        )
    tuned = plan.optimize.tune.get(module.id) if plan is not None and plan.optimize is not None else None
    parts.append(f"`optimize` may change its {', '.join(sorted(tuned))}." if tuned else "")
    return [part for part in parts if part]


def _lm(lm: LM) -> list[str]:
    known = limits(lm)
    parts = [_code(f"{lm.id}: {lm.model}"), "trusted" if lm.trusted else "not trusted: no private value may reach it"]
    if known.context:
        parts.append(f"Context window: {known.context:,} tokens.")
    if known.prompt_usd is not None and known.completion_usd is not None and not lm.runs_here:
        parts.append(
            f"${known.prompt_usd * 1e6:g} and ${known.completion_usd * 1e6:g} for a million tokens in and out."
        )
    return parts


def _tool(tool: Tool) -> list[str]:
    takes = ", ".join(f"{name}: {one.type}" for name, one in tool.parameters.items())
    own = f"A {tool.kind} tool that {'writes' if tool.effects == 'write' else 'only reads'}."
    return [
        part for part in (_code(f"{tool.id}({takes}) -> {tool.result}: {tool.type}"), tool.about or "", own) if part
    ]


def _metric(metric: Metric) -> list[str]:
    low, high = metric.range
    return [_code(f"metrics.{metric.id}: float from {low:g} to {high:g}"), f"A {metric.kind} metric."]


def _split(split: Split) -> list[str]:
    return [f"Data split `{split.name}`: {split.source.name if isinstance(split.source, Path) else split.source.hf}"]


_DESCRIBED: dict[str, Callable[[Any], list[str]]] = {"lms": _lm, "tools": _tool, "metrics": _metric, "data": _split}


def _prompt(session: Session, path: Path, *, module: str | None = None, step: str | None = None) -> list[str]:
    """Return the prompt of the first call of a module (by id) or step (by path; None: not by this) for row 0 as one part in
    Markdown, or the reason why it cannot be made; empty where a run makes no such call."""
    try:
        made = session.prompts(path)
    except Exception as error:  # a dry run may fail as a run may, and a hover is then without a prompt
        return [f"The prompt cannot be shown: {error or type(error).__name__}"]
    named = [one for one in made if one.module == module or re.sub(r"\[\d+\]", "", one.step) == step]
    return [shown(named[0])] if named else []
