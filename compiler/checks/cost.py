"""Prompts that cannot fit (501), budgets that do not suffice (502), prefixes that cannot be shared (503), and replies that
cannot fit (504)."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes

from lmprog.compiler.bounds import (
    MOST,
    argument_characters,
    bounds,
    calls,
    demo_lengths,
    dev_split,
    longest_inputs,
    static_characters,
)
from lmprog.compiler.checks.stages import options_of
from lmprog.compiler.draft import Draft
from lmprog.compiler.fine_tuning import trained_by_providers
from lmprog.compiler.model_table import limits
from lmprog.compiler.optimizing.contract import facts_of
from lmprog.compiler.plan import Module, ModuleCall, Plan, Stage
from lmprog.compiler.prompts.messages import instructions_of, tool_words
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.templates.compiled import Template, mentions, parse
from lmprog.compiler.tokens import MAX_CHARACTERS_PER_TOKEN, reply_limit_of
from lmprog.compiler.types.lattice import Object, Optional, Type

LONG_TEXT = 200
"""The fewest characters of constant text after varying text that are worth a warning."""


def check(draft: Draft, plan: Plan) -> None:
    """Report prompts that do not fit the context of their model (LMP501), budgets of `optimize` that may not last (LMP502),
    prompts with an input before much constant text, which rows could share (LMP503), and limits of a reply's tokens below
    what its fields take (LMP504).

    Budgets are compared where rows were read, and lengths of inputs are those of the rows. Modules whose templates have
    findings are passed over.
    """
    _context(draft, plan)
    _replies(draft, plan)
    for module in plan.modules.values():
        if module.id not in draft.unsure:
            _shared_prefix(draft, module)
    if draft.options.evaluation and plan.optimize is not None:
        _budget(draft, plan)


def _context(draft: Draft, plan: Plan) -> None:
    longest = longest_inputs(row for rows in draft.rows.values() for row in rows)
    for step in walk(plan.steps):
        if not isinstance(step.action, ModuleCall) or step.action.module not in plan.modules:
            continue
        module = plan.modules[step.action.module]
        lm = plan.lms.get(module.lm)
        if lm is None or module.id in draft.unsure:
            continue
        static = static_characters(module) + len(tool_words(plan, module))
        used = [name for name in step.action.arguments if name in _user_variables(module)]
        varying = {name: argument_characters(step.action.arguments[name], longest) or 0 for name in used}
        least = int((static + sum(varying.values())) / MAX_CHARACTERS_PER_TOKEN)
        if least < 500:
            continue
        context = limits(lm).context
        if context is not None and least > context:
            parts = [f"{static} characters are fixed"]
            parts += [f"`{name}` has up to {length}" for name, length in varying.items() if length]
            message = f"the prompt of module `{module.id}` has at least {least} tokens, and {lm.id} takes {context}"
            fix = f"{', '.join(parts)}: shorten it, use fewer demos, or a model with a longer context"
            draft.report.add("LMP501", draft.key("modules", module.id), message, fix=fix)


def _user_variables(module: Module) -> frozenset[str]:
    system = module.layout.system.variables if module.layout.system is not None else frozenset()
    return module.layout.user.variables | system


# the reply

FIELD_TOKENS = 3
"""The fewest tokens of a field in a reply: its name, the marks around it, and its value."""


def _replies(draft: Draft, plan: Plan) -> None:
    for id, module in plan.modules.items():
        lm = plan.lms.get(module.lm)
        most = reply_limit_of(lm) if lm is not None else None
        shown = Object(tuple((name, field.type) for name, field in module.outputs.items()))
        kinds: list[Type] = [shown] if module.format != "text" else [field.type for field in module.outputs.values()]
        fields = sum(map(_fields, kinds))
        least = 1 + FIELD_TOKENS * fields
        if lm is None or most is None or most >= least or not fields:
            continue
        message = (
            f"a reply of module `{id}` has at least {least} tokens, for {fields} fields and the marks around them, "
        )
        message += f"and {lm.id} ends it after {most}"
        place = draft.place("lms", lm.id, "params", "max_tokens")
        draft.report.add("LMP504", place, message, fix="raise max_tokens: a reply that is cut cannot be read")


def _fields(kind: Type) -> int:
    """Return the fewest fields that a value of a type has in a reply, those of objects in objects included; 0 for a value that
    is no object, or may be null."""
    if not isinstance(kind, Object):
        return 0
    return sum(max(1, _fields(inner)) for _, inner in kind.fields if not isinstance(inner, Optional))


# the shared prefix


def _shared_prefix(draft: Draft, module: Module) -> None:
    if draft.node("modules", module.id, "prompt") is None:
        return
    varying = frozenset({*module.inputs, *(["demos"] if module.nearest is not None else [])})
    seen: str | None = None
    after = 0
    for role, template in (("system", module.layout.system), ("user", module.layout.user)):
        if template is None:
            continue
        if role == "user" and seen is not None and not module.layout.demos_inline:
            after += LONG_TEXT if _demos_tuned(draft, module) else 0
            after += sum(demo_lengths(module)) if module.nearest is None else 0
        for part, text in _parts(template, module, varying):
            if part is not None:
                seen = seen or part
            elif seen is not None:
                after += text
    if seen is not None and after >= LONG_TEXT:
        place = draft.key("modules", module.id, "prompt")
        message = (
            f"in the prompt of module `{module.id}`, `{seen}` varies before {after} characters that do not: "
            "no row can share them"
        )
        draft.report.add("LMP503", place, message, fix=f"move `{seen}` behind the constant text")


def _demos_tuned(draft: Draft, module: Module) -> bool:
    """Return whether `optimize` tunes the demos of a module, so that they are not known yet."""
    return draft.optimize is not None and "demos" in draft.optimize.tune.get(module.id, ())


def _parts(template: Template, module: Module, varying: frozenset[str]) -> list[tuple[str | None, int]]:
    """Return the parts of a template in order: a name for a varying part, None and a length for a constant part."""
    found: list[tuple[str | None, int]] = []
    for node in parse(template.text).body:
        parts: list[Any] = node.nodes if isinstance(node, nodes.Output) else [node]
        for part in parts:
            if mentions(part, varying):
                names = [name.name for name in part.find_all(nodes.Name) if name.name in varying]
                found.append((part.name if isinstance(part, nodes.Name) else names[0], 0))
            elif isinstance(part, nodes.TemplateData):
                found.append((None, len(part.data)))
            elif mentions(part, frozenset({"instructions"})):
                found.append((None, len(instructions_of(module))))
            elif mentions(part, frozenset({"demos"})):
                found.append((None, sum(demo_lengths(module))))
            else:
                found.append((None, sum(len(text.data) for text in part.find_all(nodes.TemplateData))))
    return found


# budgets


def _budget(draft: Draft, plan: Plan) -> None:
    optimize = plan.optimize
    assert optimize is not None
    if not optimize.budget or not draft.rows:
        return
    train, validate = draft.rows.get(optimize.train, []), draft.rows.get(optimize.validate, [])
    one = bounds(plan, [*train, *validate])
    choosing, _ = dev_split(len(validate), optimize.accept)
    runs = min(MOST, sum(_runs(draft, plan, stage, len(train), choosing) for stage in optimize.stages))
    of_stages = float(
        min(
            MOST,
            sum(
                facts_of(draft, stage.optimizer).most_calls(plan, options_of(draft, stage), len(train), choosing)
                for stage in optimize.stages
            ),
        )
    )
    spent = {
        "lm_calls": float(calls(plan)),
        "prompt_tokens": float(one.prompt_tokens),
        "completion_tokens": float(one.completion_tokens),
        "tokens": float(one.prompt_tokens + one.completion_tokens),
        "usd": one.usd,
    }
    for key, cost in spent.items():
        limit = optimize.budget.get(key)
        if limit is None or cost is None or not cost:
            continue
        place = draft.place("optimize", "budget", key)
        least, most = cost * choosing, of_stages if key == "lm_calls" else cost * runs
        if limit < least and validate:
            message = f"one evaluation on {choosing} {optimize.validate} rows can take {_shown(least, key)}, and "
            message += f"the budget is {_shown(limit, key)}: not even the first stage can start"
            draft.report.add("LMP502", place, message, severity="error", fix=f"raise it to {_shown(most, key)}")
        elif limit < most:
            message = f"the stages can take up to {_shown(most, key)}, and the budget is {_shown(limit, key)}"
            fix = "raise it, or ask the stages for less; a stage ends where the budget does"
            draft.report.add("LMP502", place, message, severity="warning", fix=fix)


def _runs(draft: Draft, plan: Plan, stage: Stage, train: int, choosing: int) -> int:
    facts, options = facts_of(draft, stage.optimizer), options_of(draft, stage)
    if facts.finetunes and trained_by_providers(plan):
        options = {**options, "steps": 1, "evaluate_every": 1}  # what a provider's job comes to is scored once
    return facts.most_runs(options, train, choosing)


def _shown(value: float, key: str) -> str:
    unit = {"usd": "USD", "lm_calls": "LM calls"}.get(key, key.replace("_", " "))
    return f"{value:.2f} {unit}" if key == "usd" else f"{value:.0f} {unit}"
