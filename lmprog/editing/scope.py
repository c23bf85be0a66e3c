"""The types of what can be read at a place of a program, as the last check found them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lmprog.compiler.bounds import bounds
from lmprog.compiler.draft import Draft
from lmprog.compiler.optimizing.trace_types import runs_type, trace_type
from lmprog.compiler.plan import Module, Plan, Repeat, Step
from lmprog.compiler.rows.splits import row_type
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.steps.scope import LOOP
from lmprog.compiler.types.lattice import FLOAT, STR, UNKNOWN, ListOf, Object, Optional, Type

DEMOS = ListOf(UNKNOWN)


def steps_by_path(draft: Draft) -> dict[str, Step]:
    """Return all steps of a program, those inside loops included, by their paths (`loop.answer`), as far as they could be
    read."""
    return {step.path: step for step in walk(draft.steps)}


def visible_steps(draft: Draft, level: str) -> dict[str, Step]:
    """Return the steps, by id, whose outputs an expression can read inside the loops `level` (`outer.inner.`; empty: at the
    top): those of the innermost loop and those around it."""
    found = {}
    for path, step in steps_by_path(draft).items():
        around = path.rpartition(".")[0]
        if not around or f"{around}." == level or level.startswith(f"{around}."):
            found[step.id] = step
    return found


def roots(draft: Draft, at: tuple[str, ...], level: str, owner: tuple[str, ...]) -> dict[str, Type]:
    """Return the first names that an expression can read at a place (`at`: its keys, with `*` for the author's names), with
    their types: `env` alone below `lms`, `tools` and `export`, `vars` alone in other sections than `steps`, `outputs`,
    `tests` and `metrics`. A step with `foreach` has `item` and `loop` too, a step in a loop `state` and `loop`.

    `level` are the ids of the loops around it, each with a dot (empty: none), `owner` its section and id, such as
    ("steps", path) (empty: it is in no such section).
    """
    section = at[0] if at else ""
    if section in ("lms", "tools", "export"):
        return {"env": Object(())}
    known: dict[str, Type] = {
        "inputs": Object(tuple((name, field.type) for name, field in draft.inputs.items())),
        "vars": draft.var_types,
    }
    if section == "tests":
        return known | _of_a_run(draft)
    if section == "metrics":
        return known | {
            **_of_a_run(draft),
            "row": row_type(draft),
            "metrics": Object(tuple((id, FLOAT) for id in draft.metrics)),
            "runs": runs_type(draft.output_types, True),
        }
    if section not in ("steps", "outputs"):
        return {"vars": draft.var_types}
    steps = visible_steps(draft, level)
    known["steps"] = Object(tuple((id, Object(tuple(step.outputs.items()))) for id, step in steps.items()))
    every = steps_by_path(draft)
    loop = every.get(level[:-1])
    if loop is not None and isinstance(loop.action, Repeat):
        known |= {"state": Object(tuple((name, one.type) for name, one in loop.action.state.items())), "loop": LOOP}
    own = every.get(owner[1]) if len(owner) == 2 and owner[0] == "steps" else None
    if own is not None and own.foreach is not None and at[-1:] != ("foreach",):
        items = own.foreach.items.type
        known |= {"item": items.item if isinstance(items, ListOf) else UNKNOWN, "loop": LOOP}
    return known


def _of_a_run(draft: Draft) -> dict[str, Type]:
    """Return the types of the first names with which metrics and tests read a run that has ended: `outputs` and `trace`."""
    return {"outputs": Object(tuple(draft.output_types.items())), "trace": trace_type(draft.modules)}


def layout_names(draft: Draft, module: str, role: str) -> dict[str, Type]:
    """Return the names that the template of a module for `role` (`system`, `user`, `assistant`) can read, with their types:
    of the assistant's the outputs too. Without inputs and outputs for an id that is no module."""
    found = draft.modules.get(module)
    known: dict[str, Type] = {"vars": draft.var_types, "instructions": STR, "demos": DEMOS}
    if found is not None:
        known |= {name: one.type for name, one in found.inputs.items()}
        if role == "assistant":
            known |= {name: one.type for name, one in found.outputs.items()}
    return known


def fields(known: Mapping[str, Type], names: Sequence[str]) -> dict[str, Type]:
    """Return the fields of the value that the dotted name `names` reads, with their types; empty where it is no object or not
    known. T? counts as T on the way. For no names they are the first names themselves.

    `known` has the types of the first names.
    """
    if not names:
        return dict(known)
    kind = known.get(names[0])
    for name in names[1:]:
        kind = without_absence(kind)
        kind = kind.get(name) if isinstance(kind, Object) else None
    kind = without_absence(kind)
    return dict(kind.fields) if isinstance(kind, Object) else {}


def without_absence(kind: Type | None) -> Type | None:
    """Return T for T?, and any other type as it is; None, an unknown type, gives None."""
    return kind.inner if isinstance(kind, Optional) else kind


def signature(module: Module) -> str:
    """Return a module as one line, `id(input: type, ...) -> {output: type, ...}`."""
    takes = ", ".join(f"{name}: {one.type}" for name, one in module.inputs.items())
    gives = ", ".join(f"{name}: {one.type}" for name, one in module.outputs.items())
    return f"{module.id}({takes}) -> {{{gives}}}"


def counted(calls: int) -> str:
    """Return a number of LM calls as words, such as "3 LM calls"."""
    return f"{calls:,} LM call{'' if calls == 1 else 's'}"


def most_calls(plan: Plan) -> dict[str, int]:
    """Return the most LM calls of one run by the path of the step, those in loops for all turns; a loop has the sum of its
    steps, a step that runs a sub-program its calls. Steps without LM calls are left out."""
    found: dict[str, int] = {}
    known = bounds(plan)
    own = {id(step.action): step.path for step in walk(plan.steps) if step.action is not None}
    for site in known.sites:
        path = own.get(id(site.call))
        if path is None:
            continue
        found[path] = found.get(path, 0) + site.times
        while path := path.rpartition(".")[0]:
            found[path] = found.get(path, 0) + site.times
    for path in own.values():
        below = sum(count for name, count in known.calls.items() if name.startswith(f"{path}."))
        if below:
            found[path] = found.get(path, 0) + below
    return found
