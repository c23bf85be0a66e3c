"""Private values: where they enter a program, and where they lose the mark."""

from __future__ import annotations

from collections.abc import Callable

from lmprog.compiler.plan import Module, ModuleCall, Plan, Split, Step
from lmprog.compiler.steps.parts import programs
from lmprog.compiler.trust.flow import Arrival, Flow, Name, Policy, Trail


def private_columns(plan: Plan, split: Split) -> frozenset[str]:
    """Return the private columns of a split of the program, by the names that its rows have in the program.

    They are the columns that the split calls private, those that fill a private input, and others that are renamed from
    the same column of the file.
    """
    named = split.private | {name for name, field in plan.inputs.items() if field.private}
    files = {split.columns.get(name, name) for name in named}
    return frozenset(
        {name for name in named if name in split.columns or name not in split.columns.values()}
        | {name for name, column in split.columns.items() if column in files}
    )


def private_inputs(plan: Plan) -> dict[Name, Trail]:
    """Return the private inputs of a program as `("inputs", name)`, each with a trail that names its source: those that are
    declared private, and those that a private column of a split fills."""
    marks: dict[Name, Trail] = {}
    for name, field in plan.inputs.items():
        holders = (split.name for split in plan.data.values() if name in private_columns(plan, split))
        if field.private:
            marks["inputs", name] = (f"inputs.{name} (private)",)
        elif (split := next(holders, None)) is not None:
            marks["inputs", name] = (f"data.{split}.{name} (private)",)
    return marks


def private_rows(plan: Plan) -> dict[Name, Trail]:
    """Return the columns that are private in any split or fill a private input, as `("row", name)` in the order of their
    names, each with a trail that names it."""
    named = {name for split in plan.data.values() for name in private_columns(plan, split)}
    named |= {name[1] for name in private_inputs(plan)}
    return {("row", name): (f"row.{name} (private)",) for name in sorted(named)}


def private_names(plan: Plan) -> tuple[frozenset[str], frozenset[str]]:
    """Return two sets of names: of the inputs and columns of a program that are declared private, or share a column of
    the data with one that is; and of the outputs that values of these, or of private fields of its modules and
    sub-programs, reach through the steps, unless `declassify` ends that. What such a value only decides (by `when`, say)
    does not count.
    """
    reached = Flow(plan, private_policy(lambda arrival: None), private_inputs(plan)).run()
    return frozenset(name for _, name in private_rows(plan)), frozenset(reached)


def private_policy(
    arrives: Callable[[Arrival], None],
    *,
    by_choice: bool = False,
    instructions: Callable[[Plan, Module], Trail | None] = lambda plan, module: None,
) -> Policy:
    """Return the flow rules for private values: fields with `private: true` begin a mark, `declassify` ends it.

    `arrives` is called for each private value that reaches a module or tool, trusted or not. With `by_choice`, a value also
    counts as marked where a private one decides whether it is computed; `instructions` returns the trail of a private
    value in a module's instructions (None: there is none).
    """
    return Policy(arrives, _source, _stops, marked_inputs=True, instructions=instructions, by_choice=by_choice)


def holds_private(plan: Plan) -> bool:
    """Return whether a field or column of the program is declared private, or one of its sub-programs, judges or teachers
    has such."""
    modules = [
        field for module in plan.modules.values() for field in (*module.inputs.values(), *module.outputs.values())
    ]
    return (
        any(field.private for field in (*plan.inputs.values(), *modules))
        or any(split.private for split in plan.data.values())
        or any(holds_private(inner) for inner in programs(plan.steps))
        or any(metric.judge is not None and holds_private(metric.judge) for metric in plan.metrics.values())
        or (plan.optimize is not None and any(map(holds_private, plan.optimize.teachers.values())))
    )


def _source(plan: Plan, step: Step, output: str) -> str | None:
    module = plan.modules.get(step.action.module) if isinstance(step.action, ModuleCall) else None
    return f"{module.id}.{output} (private)" if module is not None and module.outputs[output].private else None


def _stops(module: Module, output: str) -> bool:
    return bool(module.outputs[output].declassify)
