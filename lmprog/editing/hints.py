"""Hints in the text of a program: the types of the outputs of steps and of the program, and the most LM calls of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lmprog.compiler.bounds import bounds
from lmprog.compiler.draft import Draft
from lmprog.compiler.plan import Value
from lmprog.compiler.types.lattice import Type, Unknown
from lmprog.compiler.yaml.source import Mapping, Place
from lmprog.editing.scope import counted, most_calls, steps_by_path
from lmprog.editing.session import Session


@dataclass(frozen=True)
class Hint:
    """A text that the editor shows after a position, with a longer description (`about`); line and column count from 1."""

    line: int
    column: int
    text: str
    about: str = ""


def hints(session: Session, path: Path) -> list[Hint]:
    """Return the hints of a file as it is typed now, in the order of their lines: the types of outputs of steps and of the
    program, and where the check finds no error the most LM calls of each step and of a run. Empty where the file cannot be
    read."""
    compilation = session.checked(path).compilation
    draft, plan = compilation.draft, compilation.plan
    if draft is None:
        return []
    found = [*_types(draft, path)]
    if plan is not None:
        calls = most_calls(plan)
        for step, count in calls.items():
            place = draft.step_keys.get(step)
            if place is not None and place.source.path == path:
                found.append(_behind(place, f"<= {counted(count)}", "The most that one run can make here."))
        steps = draft.root.keys.get("steps")
        if steps is not None and steps.source.path == path:
            whole = bounds(plan)
            bounded = "" if whole.bounded else " or more: a list has no bound"
            found.append(_behind(steps.place, f"<= {counted(whole.total_calls)} a run{bounded}"))
    return sorted(found, key=lambda hint: (hint.line, hint.column))


def _types(draft: Draft, path: Path) -> Iterator[Hint]:
    for id, step in steps_by_path(draft).items():
        node = draft.step_nodes.get(id)
        place = draft.step_keys.get(id)
        if place is None or node is None or place.source.path != path or not step.outputs:
            continue
        if isinstance(step.action, Value):
            kind = step.outputs.get("value")
            if kind is not None:
                yield from _typed(node.key_place("value"), kind)
            continue
        fields = ", ".join(f"{name}: {kind}" for name, kind in step.outputs.items())
        yield _behind(place, f"-> {fields}")
    outputs = draft.root.map("outputs")
    for name, kind in draft.output_types.items() if isinstance(outputs, Mapping) else ():
        key = outputs.keys.get(name) if outputs is not None else None
        if key is not None and key.source.path == path:
            yield from _typed(key.place, kind)


def _typed(place: Place, kind: Type) -> Iterator[Hint]:
    if not isinstance(kind, Unknown):
        yield _behind(place, str(kind))


def _behind(place: Place, text: str, about: str = "") -> Hint:
    """Return a hint behind a key and its colon."""
    return Hint(place.line, place.column + place.length + 1, text, about)
