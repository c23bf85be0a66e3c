"""The checks of a whole program, one family a file."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Plan


def run(draft: Draft, plan: Plan) -> None:
    """Report what the families find in a compiled program."""
    from lmprog.compiler.checks import names, termination

    names.check(draft)
    termination.check(draft)
