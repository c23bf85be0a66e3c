"""The worst case of a run before anything runs: LM calls, tokens, money, from the loop bounds and the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2 import nodes

from lmprog.compiler.expressions.compiled import EvaluationError, Expression
from lmprog.compiler.model_table import limits
from lmprog.compiler.plan import LM, Module, ModuleCall, Plan, ProgramCall, Step, ToolCall
from lmprog.compiler.prompts.messages import instructions_of, tool_words
from lmprog.compiler.steps import parts
from lmprog.compiler.templates.compiled import Template, parse
from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN, reply_tokens

FEWEST_CONFIRMING = 20
"""Rows below which a test of a gain says next to nothing: fewer rows confirm no change."""
FEWEST_CHOOSING = 10
"""Rows below which a choice between candidates is little better than a draw."""
MOST = 10**15
"""The highest count of calls or turns that a worst case names; more are taken for as many, since no run makes them."""


@dataclass(frozen=True, eq=False)
class Site:
    """A step that calls a module: the program that it is in (`plan`), the `module`, its `call`, and the most LM calls
    that it makes in one run (`times`), those of an agent's turns, of loops and of retries (of the step and of
    unreadable replies) included.
    """

    plan: Plan
    module: Module
    call: ModuleCall
    times: int
    """At most MOST."""
    inner: bool
    """True if the step is in a sub-program, whose inputs do not come from a row."""


@dataclass
class Bounds:
    """The worst case of one run of a program, as `bounds` counts it: LM calls by module (`calls`), tokens of prompts
    and of replies, US dollars (`usd`; None: unknown) and calls of tools that write (`writes`), with one call for each
    turn of an agent but the last. Modules and tools of a sub-program are named `<step>.<id>`.

    Prompt tokens are estimated from characters; an argument of unknown length counts as long as a reply. A reply counts
    `max_tokens`, or 256 where an LM sets none. `sites` are the call sites.
    """

    calls: dict[str, int] = field(default_factory=dict)
    """LM calls by module; modules of a sub-program are named `<step>.<module>`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = 0.0
    """Cost in US dollars; None where the price of a model is unknown."""
    bounded: bool = True
    """False where a `foreach` has no `at_most`, and neither rows nor constants say how long its list is: it is taken to
    have one item."""
    sites: list[Site] = field(default_factory=list)
    writes: dict[str, int] = field(default_factory=dict)
    """Calls of tools that write; those of a sub-program are named `<step>.<tool>`."""

    @property
    def total_calls(self) -> int:
        """The most LM calls of one run."""
        return sum(self.calls.values())

    @property
    def asked(self) -> Iterator[LM]:
        """The LMs that may answer the calls, those of `balance` and `fallback` included, one call site after another,
        so that one may come twice; an LM that is not declared is left out."""
        for site in self.sites:
            lm = site.plan.lms.get(site.module.lm)
            yield from lm.answering if lm is not None else ()


def calls(plan: Plan) -> int:
    """Return the most LM calls of one run and of one run of each judge of `optimize`'s metric and rewards; without
    `optimize` those of the run alone."""
    return bounds(plan).total_calls + sum(bounds(judge).total_calls for judge in judges(plan))


def judges(plan: Plan, scored_by: str | None = None) -> list[Plan]:
    """Return the judge programs that the metric `scored_by` runs for one score, with those of the metrics it is
    computed from.

    With `scored_by` None they are those of the metric of `optimize` and of its rewards, which is more than any one
    score runs. Empty where there are none, also for a metric or an `optimize` that the program does not have.
    """
    optimize = plan.optimize
    followed = [] if optimize is None else [optimize.metric, optimize.reward, *optimize.rewards.values()]
    pending = [id for id in ([scored_by] if scored_by is not None else followed) if id is not None]
    found: dict[str, Plan] = {}
    seen: set[str] = set()
    while pending:
        metric = plan.metrics.get(id := pending.pop())
        if metric is None or id in seen:
            continue
        seen.add(id)
        if metric.judge is not None:
            found[id] = metric.judge
        pending += sorted(metric.metrics)
    return list(found.values())


def bounds(plan: Plan, rows: Iterable[Mapping[str, Any]] = ()) -> Bounds:
    """Return the worst case of one run of a program.

    `rows` are rows of data, whose longest values say how long the inputs are in prompts; without rows an input counts
    as long as a reply. How many items a `foreach` over inputs has is in the plan already (`known_lists`); a list of unknown
    length counts as one item, and sets `bounded` to False.
    """
    found = Bounds()
    longest = longest_inputs(rows)
    _steps(plan, plan.steps, 1, "", found, longest)
    return found


def dev_split(dev: int, accept: str = "composition") -> tuple[int, int]:
    """Return two numbers: how many of `dev` dev rows choose between candidates, and how many confirm the choice.

    Half of them, rounded down, confirm, but at least FEWEST_CONFIRMING (20). Where that leaves fewer than
    FEWEST_CHOOSING (10), and with `accept` `point`, all rows choose and none confirms.
    """
    confirming = max(FEWEST_CONFIRMING, dev // 2)
    if accept == "point" or dev - confirming < FEWEST_CHOOSING:
        return dev, 0
    return dev - confirming, confirming


def longest_inputs(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the length in characters of the longest value of each column: of a text itself, of other values as `str`
    writes them. A column whose texts are all empty is left out."""
    longest: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            length = len(value) if isinstance(value, str) else len(str(value))
            if length > longest.get(name, 0):
                longest[name] = length
    return longest


def turns(plan: Plan, step: Step) -> int:
    """Return the most turns of the loop that `step` is, at most MOST; 1 for another step, and where the loop's bound has no
    positive integer value. `plan` has the constants that the bound may read."""
    most = parts.bound(step)
    try:
        value = most.evaluate({"vars": plan.vars}) if most is not None else 1
    except EvaluationError:
        return 1
    return min(value, MOST) if isinstance(value, int) and value > 0 else 1


def _steps(
    plan: Plan, steps: Iterable[Step], times: int, prefix: str, found: Bounds, longest: Mapping[str, int]
) -> None:
    for step in steps:
        action = step.action
        count = times * (1 + step.retry)
        if step.foreach is not None:
            most = step.foreach.at_most if step.foreach.at_most is not None else step.foreach.known
            most = most if most is not None else _length(plan, step.foreach.items)
            found.bounded = found.bounded and most is not None
            count *= most if most is not None else 1
        count = min(count, MOST)
        if isinstance(action, ModuleCall) and action.module in plan.modules:
            module = plan.modules[action.module]
            _module(plan, module, action, count, prefix, found, longest)
            for name in module.tools:
                # The last turn is for the reply. A turn may ask for several calls, which nothing bounds.
                _writes(plan, name, count * max(1, module.max_turns - 1), prefix, found)
        elif isinstance(action, ToolCall):
            # What has written is not tried again.
            _writes(plan, action.tool, count // (1 + step.retry), prefix, found)
        elif isinstance(action, ProgramCall):
            _steps(action.plan, action.plan.steps, count, f"{prefix}{step.path}.", found, {})
        else:
            _steps(plan, parts.inner(step), min(MOST, count * turns(plan, step)), prefix, found, longest)


def _writes(plan: Plan, name: str, times: int, prefix: str, found: Bounds) -> None:
    tool = plan.tools.get(name)
    if tool is not None and tool.effects == "write":
        found.writes[f"{prefix}{name}"] = found.writes.get(f"{prefix}{name}", 0) + times


def known_lists(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> Plan:
    """Return the plan with the most items that each `foreach` has for any of `rows` noted in it (`Foreach.known`), where its
    list is made of inputs alone and it has no `at_most`; nothing is noted where a row has no such list.

    Without rows the plan is returned unchanged. Sub-programs are not looked into.
    """
    return replace(plan, steps=tuple(_known(plan, step, rows) for step in plan.steps)) if rows else plan


def _known(plan: Plan, step: Step, rows: Sequence[Mapping[str, Any]]) -> Step:
    step, over = parts.changed(step, lambda part: _known(plan, part, rows)), step.foreach
    if over is not None and over.at_most is None and {name[0] for name in over.items.references} == {"inputs"}:
        read = {name[1] for name in over.items.references if len(name) > 1}
        lengths = [0]
        for row in rows:
            inputs = {name: row.get(name, field.default) for name, field in plan.inputs.items()}
            try:
                lengths.append(len(over.items.evaluate({"inputs": inputs, "vars": plan.vars})))
            except (EvaluationError, TypeError):
                return step
        over = replace(over, known=max(lengths)) if read <= plan.inputs.keys() else over
    return step if over is step.foreach else replace(step, foreach=over)


def _length(plan: Plan, items: Expression) -> int | None:
    """Return the length of a list that is made of the program's constants, at least 1; None for any other list."""
    if not all(name[0] == "vars" for name in items.references):
        return None
    try:
        return max(1, len(items.evaluate({"vars": plan.vars})))
    except (EvaluationError, TypeError):
        return None


def _module(
    plan: Plan,
    module: Module,
    call: ModuleCall,
    times: int,
    prefix: str,
    found: Bounds,
    longest: Mapping[str, int],
) -> None:
    count = min(MOST, times * (1 + module.retry) * (module.max_turns if module.tools else 1))
    name = f"{prefix}{module.id}"
    found.calls[name] = found.calls.get(name, 0) + count
    found.sites.append(Site(plan, module, call, count, bool(prefix)))
    lm = plan.lms.get(module.lm)
    reply = max(reply_tokens(each.params) for each in lm.answering) if lm is not None else reply_tokens({})
    prompt = (static_characters(module, known=False) + len(tool_words(plan, module))) / CHARACTERS_PER_TOKEN
    for argument in call.arguments.values():
        length = argument_characters(argument, longest)
        prompt += length / CHARACTERS_PER_TOKEN if length is not None else reply
    found.prompt_tokens += int(prompt) * count
    found.completion_tokens += reply * count
    limit = limits(lm) if lm is not None else None
    if found.usd is not None and limit is not None:
        if limit.prompt_usd is None or limit.completion_usd is None:
            found.usd = None
        else:
            found.usd += (int(prompt) * limit.prompt_usd + reply * limit.completion_usd) * count


def argument_characters(argument: Expression, longest: Mapping[str, int]) -> int | None:
    """Return the most characters of an argument of a call: those of a literal's text, or the longest value of the input
    that it is; None for an input that `longest` lacks, and for any other argument.

    `longest` has the length of the longest value of each input.
    """
    if argument.constant:
        return len(argument.text)
    if len(argument.references) == 1 and argument.tree is not None:
        (name,) = argument.references
        if name[0] == "inputs" and len(name) == 2 and argument.text == ".".join(name):
            return longest.get(name[1])
    return None


def static_characters(module: Module, known: bool = True) -> int:
    """Return the number of characters of a module's prompt that do not depend on the row: the text of its templates for
    system and user (once more for each demo), instructions, and demos.

    With `known`, count only what is certainly sent: no text under an `if` or `for`, and the shortest demos where only some
    are shown. Without it, count all text of the templates, and the longest demos.
    """
    layout = module.layout
    system, user = layout.system, layout.user
    total = _text(user, known)
    for template in (system, user):
        if template is None:
            continue
        if template is system:
            total += _text(template, known)
        if "instructions" in template.variables:
            total += len(instructions_of(module))
    turns = 0 if layout.demos_inline else _text(user, known)
    return total + sum(turns + length for length in demo_lengths(module, known))


def demo_lengths(module: Module, least: bool = False) -> list[int]:
    """Return the lengths in characters of the demos that one call is shown, one number a demo, without layout: of all
    demos in their order, or of as many as `nearest` allows, the longest first, with `least` the shortest first.
    """
    lengths = [sum(len(str(value)) for value in demo.values()) for demo in module.demos]
    return lengths if module.nearest is None else sorted(lengths, reverse=not least)[: module.nearest]


def _text(template: Template | None, known: bool) -> int:
    if template is None:
        return 0
    tree = parse(template.text)
    if known:
        outputs = [node for node in tree.body if isinstance(node, nodes.Output)]
        return sum(len(part.data) for node in outputs for part in node.nodes if isinstance(part, nodes.TemplateData))
    return sum(len(part.data) for part in tree.find_all(nodes.TemplateData))
