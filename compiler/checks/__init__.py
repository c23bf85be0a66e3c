"""The checks of a whole program, one family a file."""

from __future__ import annotations

from lmprog.compiler.checks import flow, names, outside, termination
from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Plan


def run(draft: Draft, plan: Plan) -> None:
    """Report what the families find in a compiled program."""
    names.check(draft)
    termination.check(draft)
    outside.check(draft, plan)
    if draft.options.evaluation:
        flow.check(draft, plan)
