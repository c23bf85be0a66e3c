"""The values of the names `trace` and `runs` in a metric's expressions; `compiler/optimizing/trace_types.py`
has their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.replies.ending import ending
from lmprog.runtime.result import Result
from lmprog.traces.record import Invocation, Record, ToolInvocation


def trace_of(plan: Plan, records: Sequence[Record]) -> dict[str, Any]:
    """Return the value that a metric reads as `trace`: the counts of a run's LM calls (`calls`, `prompt_tokens`,
    `reply_tokens`, `cut`, `forgiven`), `tools` (the ids of the tools called, in order), and under `modules`, by id,
    each module's counts (0 without calls) with its `replies` and `outputs`. Tokens that a provider did not report count
    0.

    `records` are the run's. Calls of sub-programs count in the totals; `modules` has the program's own modules alone,
    of an ensemble those of its members together.
    """
    calls = [record for record in records if isinstance(record, Invocation)]
    # The program of an ensemble is each of its members.
    parents = {step.path for step in plan.steps} if plan.members else {None}
    own = [made for made in calls if made.parent in parents]
    return {
        **_counts(calls),
        "tools": [record.tool for record in records if isinstance(record, ToolInvocation)],
        "modules": {id: _module(each, id, own) for each in plan.members[:1] or (plan,) for id in each.modules},
    }


def _module(plan: Plan, id: str, calls: Sequence[Invocation]) -> dict[str, Any]:
    own = [made for made in calls if made.module == id]
    read = [made.outputs for made in own if made.outputs is not None]
    return {
        **_counts(own),
        "replies": [made.text for made in own if made.text is not None],
        "outputs": {name: [values[name] for values in read if name in values] for name in plan.modules[id].outputs},
    }


def _counts(calls: Sequence[Invocation]) -> dict[str, int]:
    """Return the number of LM calls, their tokens, and how many replies were cut at their limit or repaired."""
    usages = [made.usage for made in calls if made.usage is not None]
    return {
        "calls": len(calls),
        "prompt_tokens": sum(usage.prompt_tokens for usage in usages),
        "reply_tokens": sum(usage.completion_tokens for usage in usages),
        "cut": sum(ending(made.finish_reason) == "cut" for made in calls),
        "forgiven": sum(bool(made.forgiven) for made in calls),
    }


def runs_of(plan: Plan, results: Sequence[Result], place: int) -> dict[str, Any]:
    """Return the value that a metric reads as `runs`, for the run at `place` (from 0) in `results`: `index0` (that
    place), and lists over the `results`, None for the outputs of a run that failed by itself: `reply_tokens`, and in
    `outputs` each output by name.

    `results` are those runs of the row that ended without an outage.
    """
    outputs: list[Mapping[str, Any]] = [result.outputs or {} for result in results]
    return {
        "index0": place,
        "reply_tokens": [_counts(result.trace)["reply_tokens"] for result in results],
        "outputs": {name: [values.get(name) for values in outputs] for name in plan.output_types},
    }
