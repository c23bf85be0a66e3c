"""A guard for tools that change something outside: commands that run a program many times call them only if the
user allows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lmprog.errors import UsageError

if TYPE_CHECKING:
    from lmprog.compiler.plan import Plan


_SEVERAL = " (more where a turn of an agent holds several calls)"


def refuse_writes(planned: Iterable[tuple[Plan, int | None]], allowed: bool) -> None:
    """Raise UsageError where programs have tools that write, naming each tool and the most calls of it, unless `allowed`.

    `planned` has each program with the number of its runs, None where that number is not known.
    """
    if allowed:
        return
    said, several = [], False
    for plan, runs in planned:
        for tool, times in writes(plan).items():
            each = f"{tool} at most {times:,} times in a run" if times > 1 else f"{tool} once in a run"
            several = several or any(tool in module.tools for module in plan.modules.values())
            said.append(f"{each} of {plan.name}" + (f", {times * runs:,} in all" if runs is not None else ""))
    if said:
        raise UsageError(
            f"this would write: {'; '.join(dict.fromkeys(said))}{_SEVERAL * several}. Add --allow-writes (in Python "
            "allow_writes=True) to let it, or say effects: read of a tool that only reads (a Python tool of an agent "
            "counts as writing until it says so)"
        )


def writes(plan: Plan) -> dict[str, int]:
    """Return the most calls, by the id of each tool that writes (equal ids of several programs are added up), that one
    run and its scoring can make; sub-programs and judges are included. Empty where no tool writes."""
    from lmprog.compiler.bounds import bounds

    judges = [metric.judge for metric in plan.metrics.values() if metric.judge is not None]
    found: dict[str, int] = {}
    for part in (plan, *judges):
        for tool, times in bounds(part).writes.items():
            found[tool] = found.get(tool, 0) + times
    return found
