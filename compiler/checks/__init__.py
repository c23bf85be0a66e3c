"""The checks that need the whole program, one family a file. Errors of a single block are found where it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lmprog.compiler import lm_routes
from lmprog.compiler.checks import (
    agents,
    arguments,
    conditions,
    cost,
    declassified,
    flow,
    labels,
    names,
    optimizing,
    outside,
    places,
    reply_format,
    rows,
    stages,
    termination,
    timeouts,
)
from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Plan


def run(draft: Draft, plan: Plan, base_digest: Callable[[Path], str | None]) -> None:
    """Run all families of checks on a compiled program; on a sub-program or a member of an ensemble (compiled without
    `evaluation`) not those of private values, rows and optimizing, which need the whole program.

    Findings are added to the draft's report. `base_digest` returns the digest of the program that an overlay extends, by
    its file (None: it cannot be compiled).
    """
    places.check(draft)
    names.check(draft)
    labels.check(draft)
    reply_format.check(draft)
    agents.check(draft)
    arguments.check(draft, plan)
    timeouts.check(draft, plan)
    termination.check(draft)
    conditions.check(draft, plan)
    outside.check(draft, plan)
    lm_routes.check(draft, plan)
    declassified.reasons(draft, plan)
    cost.check(draft, plan)
    if draft.options.evaluation:
        flow.check(draft, plan)
        rows.check(draft, plan)
        stages.check(draft, plan)
        optimizing.check(draft, plan, base_digest)
