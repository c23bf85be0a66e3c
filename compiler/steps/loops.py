"""The parts of a loop (`repeat:`): its bound, its state with the first values, and the changes of the state after each turn."""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import replace

from lmprog.compiler.draft import Draft
from lmprog.compiler.expressions.compiled import Expression
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.plan import Field, Update
from lmprog.compiler.steps.scope import Scope
from lmprog.compiler.types.lattice import INT, UNKNOWN, ListOf, Optional, Type, Unknown
from lmprog.compiler.types.syntax import TypeReader
from lmprog.compiler.yaml.source import Mapping, Node


def state_of(types: TypeReader, loop: Mapping, id: str) -> dict[str, Field]:
    """Return the fields of the state of a loop, of type UNKNOWN where they have findings; `loop` is the node of the step
    `id`."""
    node = loop.map("state")
    fields: dict[str, Field] = {}
    for name, entry in node.entries.items() if node else ():
        if isinstance(entry, Mapping):
            kind = entry.get("type")
            about = entry.value("about")
            what = f"state `{name}` of loop `{id}`"
            fields[name] = Field(types.type(kind, what) if kind is not None else UNKNOWN, about=about)
    for name in node.dropped if node else ():
        fields[name] = Field(UNKNOWN)
    return fields


def bound_of(draft: Draft, node: Node | None, written: Node, outer: Scope, what: str) -> Expression | None:
    """Return the expression for the most turns of a loop, which reads vars alone; None, with a finding, where there is
    none or it reads more. `node` is the bound in `written`, the value of `repeat` (None: it has none)."""
    if node is None:
        if not (isinstance(written, Mapping) and "at_most" in written.dropped):
            fix = "add at_most:, the most turns it may take"
            draft.report.add("LMP301", written.place, f"{what} has no bound", fix=fix)
        return None
    bound = draft.binder.bare(node, replace(outer, where="in the bound of a loop"), f"the bound of {what}")
    strange = sorted(name for name in bound.references if name[0] != "vars") if bound is not None else []
    if strange:
        message = f"the bound of {what} is not known before it runs: it reads `{'.'.join(strange[0])}`"
        fix = "write a number or a var, and end the loop earlier with until:"
        draft.report.add("LMP301", node.place, message, fix=fix)
        return None
    if bound is not None and draft.binder.fits(bound, INT, node, f"the bound of {what}"):
        try:
            value = bound.evaluate({"vars": draft.vars})
        except Exception:
            return bound
        if isinstance(value, int) and value < 1:
            draft.report.add("LMP301", node.place, f"{what} takes {value} turns", fix="write at least 1")
    return bound


def starts_of(draft: Draft, loop: Mapping, id: str, state: Map[str, Field], scope: Scope) -> dict[str, Expression]:
    """Return the expressions for the first values of a loop's state by field; those that do not fit `state` have findings.
    `loop` is the node of the step `id`, and `scope` the one around it."""
    node = loop.map("state")
    found: dict[str, Expression] = {}
    for name, entry in node.entries.items() if node else ():
        start = entry.get("start") if isinstance(entry, Mapping) else None
        if start is None:
            continue
        what = f"the start of `{name}` in loop `{id}`"
        expression = draft.binder.written(start, scope, what)
        if expression is not None:
            draft.binder.fits(expression, state[name].type, start, what)
            found[name] = expression
    return found


def updates_of(draft: Draft, loop: Mapping, id: str, state: Map[str, Field], scope: Scope) -> dict[str, Update]:
    """Return the changes of a loop's state at the end of each turn (`next`), by field; those that do not fit `state` have
    findings. `loop` is the node of the step `id`, and `scope` the one after its steps."""
    node = loop.map("next")
    found: dict[str, Update] = {}
    for name, entry in node.entries.items() if node else ():
        if name not in state:
            fix = suggestion(name, state, "state")
            message = f"loop `{id}` has no state `{name}`"
            draft.report.add("LMP203", node.key_place(name), message, fix=fix)  # type: ignore[union-attr]
            continue
        if not isinstance(entry, Mapping) or not entry.entries:
            continue
        verb, value = next(iter(entry.entries.items()))
        what = f"`{verb}` of `{name}` in loop `{id}`"
        expression = draft.binder.written(value, scope, what)
        if expression is None:
            continue
        _check_update(draft, verb, expression, state[name].type, value, what)
        found[name] = Update(verb, expression)  # type: ignore[arg-type]
    return found


def _check_update(draft: Draft, verb: str, expression: Expression, kind: Type, node: Node, what: str) -> None:
    """Report an expression that cannot change a state of type `kind` as `verb` (`set`, `append`, `extend`) says."""
    if verb == "set":
        draft.binder.fits(expression, kind, node, what)
        return
    if not isinstance(kind, ListOf | Unknown):
        draft.report.add("LMP203", node.place, f"{what} needs a list, and the state is {kind}", fix="write set")
        return
    item = kind.item if isinstance(kind, ListOf) else UNKNOWN
    # What is absent is skipped; a list that may hold absent items is made whole with compact().
    wanted = Optional(item if verb == "append" else ListOf(item))
    draft.binder.fits(expression, wanted, node, what)
