"""The outputs of a program piece by piece, while the LMs that write them still write.

An output is streamed where it is one text of one module's reply, as `${{ steps.answer.text }}`. A reply is read for good only
when it has ended; what has been sent of an output that turns out otherwise is void, and the whole is sent anew.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from lmprog.compiler.plan import Module, ModuleCall, Plan
from lmprog.compiler.types.lattice import STR
from lmprog.runtime.events import TextPiece

Pieces = list[tuple[str, Any]]
"""Pairs of an output's name and a piece: the next characters of a text, or a whole value of another type; None: the pieces
of the output so far are void."""


class FieldPieces:
    """Splits the streamed reply texts of one run into pieces of the program's outputs, as far as an output is the text of
    one reply (`text_of_reply`)."""

    def __init__(self, plan: Plan) -> None:
        self._written = {output: found for output in plan.outputs if (found := text_of_reply(plan, output))}
        self._replies: dict[str, tuple[int, str]] = {}
        """The number of the attempt and the text of the reply so far, by the path of the step."""
        self._sent: dict[str, str] = {}

    def of(self, event: TextPiece) -> Pieces:
        """Return the pieces of the program's outputs that a streamed piece of a reply adds: pairs of the output's name and
        the text, with None in place of the text where the output's pieces so far are void, since the reply began again.
        Empty where no output has the reply's text, or no more of it is certain."""
        attempt, text = self._replies.get(event.path, (event.attempt, ""))
        again = event.text is None or event.attempt != attempt
        text = event.text or "" if again else text + (event.text or "")
        self._replies[event.path] = event.attempt, text
        found: Pieces = []
        for output, (step, field, module) in self._written.items():
            if step != event.path:
                continue
            if again and self._sent.pop(output, ""):
                found.append((output, None))
            so_far, sent = _begun(text, field, module.format), self._sent.get(output, "")
            if len(so_far) > len(sent):
                found.append((output, so_far[len(sent) :]))
                self._sent[output] = so_far
        return found

    def rest(self, outputs: Mapping[str, Any]) -> Pieces:
        """Return the pieces of the run's `outputs` that were not streamed before the run ended: pairs of the output's name
        and the rest of its text, or its whole value; before a value that does not begin with what was streamed of it, a pair
        with None, since that is void. Empty for an output that was streamed whole."""
        found: Pieces = []
        for output, value in outputs.items():
            sent = self._sent.get(output, "")
            if isinstance(value, str) and value.startswith(sent):
                if value[len(sent) :] or not sent:
                    found.append((output, value[len(sent) :]))
                continue
            if sent:
                found.append((output, None))
            found.append((output, value))
        return found


def text_of_reply(plan: Plan, output: str) -> tuple[str, str, Module] | None:
    """Return the id of the step, the name of the field and the module of the reply whose text the program's output `output`
    is word for word, as `${{ steps.answer.text }}`; None for other outputs, and where the text cannot be streamed: of a step
    with `foreach`, of an agent, of a module with `format: json`, or of another type."""
    tree = plan.outputs[output].tree
    match tree.body if isinstance(tree, ast.Expression) else tree:
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="steps"), attr=id), attr=field):
            step = next((step for step in plan.steps if step.id == id), None)
            if step is not None and step.foreach is None and isinstance(step.action, ModuleCall):
                module = plan.modules[step.action.module]
                whole = module.format != "json" and not module.tools and module.outputs[field].type == STR
                return (id, field, module) if whole else None
    return None


def _begun(reply: str, field: str, format: str) -> str:
    """Return the beginning of the text of a field that is certain from a reply that may go on, in the format `text` or
    `fields`; empty while thinking goes on or the field has not begun."""
    if "<think" in reply and "</think>" not in reply:
        return ""
    if format == "text":
        text = reply.lstrip()
        # A mark at the beginning may open a block that is no part of the answer.
        return "" if text.startswith("<") else text.rstrip()
    _, opened, text = reply.rpartition("</think>")[2].partition(f"<{field}>")
    if not opened:
        return ""
    # The end of the section, an escaped one, or what may become either is no part of the text.
    mark, place = f"</{field}>", text.find("<")
    while place >= 0:
        if text.startswith((mark, "<\\"), place) or mark.startswith(text[place:]):
            return text[:place].strip()
        place = text.find("<", place + 1)
    return text.strip()
