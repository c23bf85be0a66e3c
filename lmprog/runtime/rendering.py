"""The requests that a program would send for a row. No LM is asked: values of the declared types stand for its replies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lmprog.compiler.plan import Plan, ProgramCall
from lmprog.compiler.steps.parts import walk
from lmprog.runtime.events import RequestMade
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result


async def rendered(program: Program, inputs: Mapping[str, Any], row: int = 0) -> tuple[Result, list[RequestMade]]:
    """Run the program on a row in a dry run; return its result, and the requests that it would have sent, in the order of the
    plan. A run that fails, also by wrong `inputs`, has the requests until then.

    `row` is the row's number, from which seeds are derived.
    """
    requests: dict[tuple[str, int], RequestMade] = {}

    def keep(made: RequestMade) -> None:
        requests[made.path, made.attempt] = _as_asked(made)

    result = await program.faked().run(inputs, example=row, options=RunOptions(on_request=keep))
    places = [(f"{made.parent}/{made.path}" if made.parent else made.path, made.attempt) for made in result.trace]
    return result, [requests[place] for place in places if place in requests]


def names_step(path: str, step: str) -> bool:
    """Return whether `step`, as a user writes it, names the step at `path`.

    `step` may be the step's id, its path without the turns of loops, or its whole path. The id of a step around it, or of
    one that runs a sub-program, stands for all the steps inside.
    """
    plain = plain_path(path)
    within = (f"{step}.", f"{step}/", f"{step}[")
    return step in (path, plain, *re.split(r"[./]", plain)) or path.startswith(within) or plain.startswith(within)


def has_step(plan: Plan, step: str) -> bool:
    """Return whether a program, or a sub-program of it, has the step that `step` names, as a user writes it (see
    `names_step`); numbers of loop turns in it are passed over."""
    return any(names_step(path, plain_path(step)) for path in _paths(plan, ""))


def _paths(plan: Plan, around: str) -> Iterator[str]:
    """Yield the paths of all steps of a program and of its sub-programs, without the turns of loops; `around` is the path of
    the step that runs the program, with a `/` behind it (empty: it is no sub-program)."""
    for part in walk(plan.steps):
        yield f"{around}{part.path}"
        if isinstance(part.action, ProgramCall):
            yield from _paths(part.action.plan, f"{around}{part.path}/")


def plain_path(path: str) -> str:
    """Return the path of a step without the numbers of loop turns and list items: `loop[1].answer` becomes `loop.answer`."""
    return re.sub(r"\[\d+\]", "", path)


def _as_asked(made: RequestMade) -> RequestMade:
    """Return the request as an LM is sent it: an agent's reply may be a call, so that no type holds it before the last turn.

    In a dry run the type stays in it, since the fake answers by it.
    """
    if not made.module.tools or made.module.max_turns == 1:
        return made
    return replace(made, request=replace(made.request, output_type=None, decoding="free"))
