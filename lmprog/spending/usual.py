"""An estimate of the LM calls and tokens of a run, shown beside the worst case. ASSUMED lists its assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler.bounds import Site, static_characters
from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.plan import Foreach, ModuleCall, Plan, ProgramCall, Step
from lmprog.compiler.prompts.messages import PromptBuilder, tool_words
from lmprog.compiler.steps.parts import inner
from lmprog.compiler.templates.compiled import RenderError
from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN, USUAL_REPLY
from lmprog.spending.passages import is_known, results

SHARE = 4
"""Assumed ratio of `max_tokens` to the length of a reply."""
SAMPLE = 100
"""The number of rows, evenly spaced, whose prompts are rendered, or up to twice as many."""
PROPOSAL = 2000
"""Assumed tokens of a proposer's prompt."""
TOKENS_PER_TURN = 4
"""Assumed tokens that a chat template adds to a message."""
ASSUMED = (
    f"prompts are rendered from the rows at {CHARACTERS_PER_TOKEN:g} characters a token, with half of the demos that the "
    f"stages may add; a value that only a run gives is as long as a reply, a proposer's prompt has {PROPOSAL:,} tokens",
    "each `repeat` takes one turn, each agent two; nothing is retried; every `when` is true; a `foreach` takes as many items "
    "as the rows give, else its `at_most`",
)


@dataclass(frozen=True)
class Usual:
    """The estimated LM calls at one call site in one run (or in several, see `times`), and the tokens of each call.

    A prompt has `written` tokens of known text, and `replies` values, such as outputs of earlier steps, that are each as
    long as a reply; the call's own reply has `reply` tokens.
    """

    calls: float
    written: float
    replies: float
    reply: float

    def times(self, count: float) -> Usual:
        """Return the estimate with `count` times the calls, as for `count` runs."""
        return replace(self, calls=self.calls * count)


NONE = Usual(0, 0, 0, 0)
"""No calls: for a bound whose estimate stands elsewhere."""


def usual_reply(longest: float | None) -> float:
    """Return the estimated tokens of a reply that may have at most `longest` tokens (None: no limit): a quarter of these, at
    most USUAL_REPLY."""
    return float(USUAL_REPLY) if longest is None else min(USUAL_REPLY, longest / SHARE)


def usual_calls(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the estimated LM calls of one run, a number for each call site in the order of `bounds(plan).sites`: an agent
    makes two (or one, where it may take no more turns), a loop one turn, and a `foreach` the mean number of items in a
    sample of `rows`, or its `at_most`, or one. Every `when` counts as true.
    """
    return list(_calls(plan, plan.steps, 1.0, sample(rows)))


def _calls(
    plan: Plan, steps: Iterable[Step], times: float, rows: Sequence[Mapping[str, Any]] | None
) -> Iterator[float]:
    for step in steps:
        action = step.action
        count = times if step.foreach is None else times * _items(plan, step.foreach, rows)
        if isinstance(action, ModuleCall) and action.module in plan.modules:
            module = plan.modules[action.module]
            yield count * (min(2, module.max_turns) if module.tools else 1)
        elif isinstance(action, ProgramCall):
            yield from _calls(action.plan, action.plan.steps, count, None)
        else:
            yield from _calls(plan, inner(step), count, rows)


def _items(plan: Plan, over: Foreach, rows: Sequence[Mapping[str, Any]] | None) -> float:
    """Return the mean number of items over the rows, where these or vars give the list; else its `at_most`, or 1 where
    nothing bounds it. `rows` is None in a sub-program, whose inputs no row gives."""
    most = over.at_most if over.at_most is not None else over.known
    constant = all(name[0] == "vars" for name in over.items.references)
    unknown = 1 if most is None else most
    if constant or (rows and most is not None and _given([over.items])):
        try:
            lengths = [len(over.items.evaluate(_scope(plan, row))) for row in rows or ({},)]
        except (EvaluationError, TypeError):
            return unknown
        return min(sum(lengths) / len(lengths), max(lengths) if most is None else most)
    return unknown


def usual(site: Site, rows: Sequence[Mapping[str, Any]], calls: float, longest: float | None, demos: int) -> Usual:
    """Return the estimated calls and tokens of one call site, its prompts rendered from a sample of `rows` where inputs and
    vars give its arguments, else estimated from the module's texts.

    `calls` are the estimated calls of a run, `longest` is the limit of a reply in tokens (None: no limit), and `demos` the
    number of demos that tuning may add, of which half are counted.
    """
    module = site.module
    reply = usual_reply(longest)
    shown, added = sample(rows), demos / 2
    words = len(tool_words(site.plan, module)) / CHARACTERS_PER_TOKEN
    # The second of an agent's two turns has the first reply and the result of its tool before it.
    replies = (1.0 if module.tools else 0.0) + added
    by_rows = shown and not site.inner
    found = results(site.plan, longest=False) if by_rows else {}
    if by_rows and is_known(found, site.call.arguments.values()):
        try:
            builder = PromptBuilder(module, site.plan.vars)
            prompts = [builder.build(arguments(site, row, found)).messages for row in shown]
        except (EvaluationError, RenderError, KeyError):
            prompts = []
        if prompts:
            whole = sum(map(_tokens, prompts)) / len(prompts)
            turn = sum(_tokens(messages[-1:]) for messages in prompts) / len(prompts)
            return Usual(calls, whole + words + added * turn, replies, reply)
    static = static_characters(module, known=False) / CHARACTERS_PER_TOKEN + 2 * TOKENS_PER_TURN
    run = sum(not argument.constant for argument in site.call.arguments.values())
    return Usual(calls, static + words, replies + run * (1 + added), reply)


def arguments(site: Site, row: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the inputs of a module's call, by name, for one data row; an input of the program that the row lacks has
    its default, or None, and a step that searches has the outputs that `results` has `found`.

    Raises EvaluationError where they depend on more, such as the output of an earlier module.
    """
    scope = {**_scope(site.plan, row), "steps": found}
    return {name: value.evaluate(scope) for name, value in site.call.arguments.items()}


def sample(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return all of up to 199 rows, and of more every n-th, evenly spaced and in their order: SAMPLE (100) or up to twice
    as many."""
    return rows[:: max(1, len(rows) // SAMPLE)]


def _scope(plan: Plan, row: Mapping[str, Any]) -> dict[str, Any]:
    return {"inputs": {name: row.get(name, field.default) for name, field in plan.inputs.items()}, "vars": plan.vars}


def _given(values: Iterable[Expression]) -> bool:
    """Return whether the expressions read nothing but inputs and vars."""
    return {name[0] for value in values for name in value.references} <= {"inputs", "vars"}


def _tokens(messages: Iterable[Mapping[str, Any]]) -> float:
    """Return the estimated tokens of the text of the messages; images do not count."""
    return sum(_characters(message["content"]) / CHARACTERS_PER_TOKEN + TOKENS_PER_TURN for message in messages)


def _characters(content: Any) -> int:
    if isinstance(content, list):
        return sum(len(str(part.get("text", ""))) for part in content)
    return len(str(content))
