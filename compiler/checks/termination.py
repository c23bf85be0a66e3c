"""Loops that make no progress (301). That each loop has a bound is decided where the graph is built."""

from __future__ import annotations

from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import nearest
from lmprog.compiler.plan import Repeat, Step
from lmprog.compiler.steps.parts import walk
from lmprog.compiler.yaml.source import Mapping


def check(draft: Draft) -> None:
    """Report state of loops that `next` does not set, or sets to itself, and `until` conditions that read nothing that a turn
    changes. The finding is LMP301."""
    for step in walk(draft.steps):
        if isinstance(step.action, Repeat):
            node = draft.step_nodes[step.path]
            _state(draft, step, step.action, node)
            _until(draft, step, step.action, node)


def _state(draft: Draft, step: Step, loop: Repeat, node: Mapping) -> None:
    written, state = node.map("next"), node.map("state")
    if "next" in node.dropped or state is None:
        return
    for name in loop.state:
        update = loop.next.get(name)
        if update is None:
            keys = [key for key in written.entries if key not in loop.state] if written is not None else []
            lost = written is not None and (name in written.entries or name in written.dropped)
            lost = lost or any(nearest(key, [name]) for key in keys)
            if not lost and name not in state.dropped:
                message = f"the state `{name}` of loop `{step.id}` never advances: `next` does not set it"
                draft.report.add("LMP301", state.key_place(name), message, fix=f"add {name}: to next:")
        elif update.verb == "set" and update.expression.text == f"state.{name}":
            message = f"the state `{name}` of loop `{step.id}` never advances: it is set to itself"
            draft.report.add("LMP301", written.key_place(name) if written else node.place, message)


def _until(draft: Draft, step: Step, loop: Repeat, node: Mapping) -> None:
    if loop.until is None:
        return
    body = {inner.id for inner in loop.steps}
    changed = any(
        (name[0] == "state" and (len(name) == 1 or name[1] in loop.next or name[1] not in loop.state))
        or name[0] == "loop"
        or (name[0] == "steps" and len(name) > 1 and name[1] in body)
        for name in loop.until.references
    )
    # Where every state variable has lost its update to another finding, this would only repeat it.
    lost = len(loop.next) < len(node.map("next").entries) if node.map("next") else "next" in node.dropped  # type: ignore[union-attr]
    if not changed and not lost:
        written = node.get("repeat")
        place = written.entries["until"].place if isinstance(written, Mapping) else node.place
        message = f"`until` of loop `{step.id}` reads nothing that a turn changes"
        draft.report.add("LMP301", place, message, fix="read a state variable or a step of the body")
