"""The worst case of a run: the most LM calls, and the most tokens of each, also after its words were tuned.

Tokens are counted as a budget counts them beforehand: no tokenizer in use gives text of any language more tokens than half its
bytes. A prompt whose text nothing here bounds (an agent's, one that reads another module's output) is as long as the LM's
context window. What is not known is None, and makes every sum None that it is part of.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmprog.compiler import model_table
from lmprog.compiler.bounds import Site, bounds
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.compiler.plan import LM, Module, Plan
from lmprog.compiler.prompts.messages import IMAGES, TURNS, PromptBuilder
from lmprog.compiler.templates.compiled import RenderError
from lmprog.compiler.tokens import reply_limit_of
from lmprog.compiler.types.lattice import Object, json_schema
from lmprog.spending.budget import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE
from lmprog.spending.passages import is_known, results
from lmprog.spending.usual import Usual, arguments, usual, usual_calls

ASKED_AGAIN = 256
"""Maximum tokens of the turn that asks the LM again for a reply that could not be read, beside the reply that it quotes."""


@dataclass(frozen=True)
class CallBound:
    """The most calls of one LM (`lm`) at a call site, and the most tokens of each prompt and reply (None: no bound), in one
    run or in several.

    `usual` is the estimate of the same (None: none was made).
    """

    lm: LM
    calls: float
    prompt: float | None
    reply: float | None
    usual: Usual | None = None
    by_context: bool = False
    """True if nothing bounds the prompt but the context window of the LM."""

    def times(self, count: float) -> CallBound:
        """Return the bound with `count` times the calls, as for `count` runs."""
        expected = self.usual.times(count) if self.usual is not None else None
        return replace(self, calls=self.calls * count, usual=expected)

    def estimated(self, reply: float | None) -> CallBound:
        """Return the usual calls and tokens as a CallBound; the bound itself where there is no estimate.

        `reply` is the measured mean length of a reply in tokens, None where none was measured. No estimated number exceeds
        its bound.
        """
        if self.usual is None:
            return self
        long = _least(self.usual.reply if reply is None else reply, self.reply)
        prompt = _least(self.usual.written + self.usual.replies * long, self.prompt)
        return CallBound(self.lm, self.usual.calls, prompt, long)

    @property
    def usd(self) -> float | None:
        """The cost of all the calls in US dollars: 0 where the price is 0, else None where the price or the tokens are
        unknown."""
        price = model_table.limits(self.lm)
        if price.prompt_usd is None or price.completion_usd is None:
            return None
        if not price.prompt_usd and not price.completion_usd:
            return 0.0
        if self.prompt is None or self.reply is None:
            return None
        return self.calls * (self.prompt * price.prompt_usd + self.reply * price.completion_usd)


@dataclass(frozen=True)
class Growth:
    """The most by which tuning may lengthen a module's prompt: a number of demos, and tokens of instructions; None: without
    limit.
    """

    demos: int | None = 0
    instructions: int | None = 0


def asks(plan: Plan, rows: Sequence[Mapping[str, Any]], growth: Growth) -> list[CallBound]:
    """Return the bounds and estimates of the LM calls of one run on any of `rows` (empty: no prompt is bounded by rows), one
    for each call site, sub-programs included.

    `growth` is what tuning may add to each prompt. The members of an ensemble, whose sites come first, are taken to have
    the inputs of the row.
    """
    sites = zip(bounds(plan).sites, usual_calls(plan, rows), strict=True)
    members = [ask for member in plan.members for ask in asks(member, rows, growth)]
    own = [_ask(site, rows, growth, calls) for site, calls in sites if not (plan.members and site.inner)]
    return [*members, *own]


def longest_reply(lm: LM) -> int | None:
    """Return the most tokens that a reply of the LM can have, by its `max_tokens`, else its model's limit, else its
    context; None where nothing limits it."""
    known = model_table.limits(lm)
    return reply_limit_of(lm) or known.reply or known.context


def tokens(text: str) -> int:
    """Return an upper bound of the tokens of a text: half of its bytes in UTF-8, and one more."""
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN + 1


def _ask(site: Site, rows: Sequence[Mapping[str, Any]], growth: Growth, calls: float) -> CallBound:
    """Return the bound and the estimate of one call site; `calls` are its estimated calls."""
    lm = site.plan.lms[site.module.lm]
    reply = longest_reply(lm)
    prompt, context = _prompt(site, rows, growth, reply), model_table.limits(lm).context
    known = [most for most in (prompt, context) if most is not None]
    demos = growth.demos or 0 if "demos" in _tuned(site) else 0
    estimate = usual(site, rows, calls, reply, demos)
    return CallBound(lm, site.times, min(known, default=None), reply, estimate, by_context=prompt is None)


def _prompt(site: Site, rows: Sequence[Mapping[str, Any]], growth: Growth, reply: int | None) -> int | None:
    """Return a bound of the tokens of a call site's prompts, by the longest one over all rows and what tuning and retries
    may add; None where the rows do not decide the prompts: without rows (as of a judge), in a sub-program, for an agent,
    with images or chat turns, with a layout that is tuned, or where it reads outputs of steps other than searches. `reply`
    bounds a reply (None: no bound).
    """
    plan, module = site.plan, site.module
    shown = any(field.type in TURNS + IMAGES for field in module.inputs.values())
    tuned = _tuned(site)
    if not rows or site.inner or module.tools or shown or "layout" in tuned:
        return None
    found = results(plan, longest=True)
    if not is_known(found, site.call.arguments.values()):
        return None
    try:
        builder = PromptBuilder(module, plan.vars)
        given = [builder.build(arguments(site, row, found)).messages for row in rows]
        longest = max(map(_tokens, given), default=0)
        if "demos" in tuned and growth.demos != 0:
            turn = max((_tokens(messages[-1:]) for messages in given), default=0)
            one = _demo(plan, module, rows, turn, reply)
            if growth.demos is None or one is None:
                return None
            longest += growth.demos * one
    except (EvaluationError, RenderError, KeyError):
        return None
    if "instructions" in tuned:
        if growth.instructions is None:
            return None
        longest += growth.instructions
    if module.retry:
        if reply is None:
            return None
        longest += 2 * reply + ASKED_AGAIN
    if module.format == "json":
        schema = json_schema(Object(tuple((name, field.type) for name, field in module.outputs.items())))
        longest += tokens(json.dumps(schema))
    return longest


def _tuned(site: Site) -> frozenset[str]:
    """Return the parts of a call site's module that `optimize` of its program tunes."""
    optimize = site.plan.optimize
    return optimize.tune.get(site.module.id, frozenset()) if optimize is not None else frozenset()


def _demo(plan: Plan, module: Module, rows: Sequence[Mapping[str, Any]], turn: int, reply: int | None) -> int | None:
    """Return the most tokens that one demo, from a labelled row or a run, adds to a prompt; None where a template shows the
    demos, or nothing bounds a reply.

    `turn` bounds the tokens of a row's inputs, `reply` those of a reply (None: no bound), which a demo may write a little
    longer.
    """
    if module.layout.demos_inline or reply is None:
        return None
    bare = PromptBuilder(replace(module, demos=()), plan.vars)
    names = {*module.inputs, *module.outputs}
    longest = turn + 2 * reply + 2 * TOKENS_PER_MESSAGE
    for row in rows:
        if all(row.get(name) is not None for name in names):
            demo = {name: row[name] for name in names}
            inputs = {name: row[name] for name in module.inputs}
            shown = PromptBuilder(replace(module, demos=(demo,)), plan.vars).build(inputs).messages
            longest = max(longest, _tokens(shown) - _tokens(bare.build(inputs).messages))
    return longest


def _tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    return sum(tokens(str(message["content"])) + TOKENS_PER_MESSAGE for message in messages)


def _least(value: float, bound: float | None) -> float:
    return value if bound is None else min(value, bound)
