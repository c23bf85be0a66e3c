"""`--dry-run`: what an optimization can come to at most, stage by stage, what it usually comes to, and about how long it takes.

Calls, tokens and money are bounds, and beside them estimates (`lmprog/spending/usual.py`), both for as many runs as the stages
can make. The time is estimated for as many calls: at the rate of a finished run of the program where there is one, else, behind
an API, by its rate limits and SECONDS_PER_CALL, and in this process by the `speed` that the spec gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from lmprog.compiler import model_table
from lmprog.compiler.bounds import dev_split, judges
from lmprog.compiler.optimizing.contract import WORDS, declared
from lmprog.compiler.plan import Optimize, Plan, Stage
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.optimizer import BUILT_IN, Optimizer, find
from lmprog.optimizers.staged.acceptance import first_level
from lmprog.optimizers.staged.stages import TEST, make, most_repeats, optimize_config
from lmprog.optimizers.strategies.demo_runs import most_demos
from lmprog.runtime.program import Program
from lmprog.scoring.data import rows_of
from lmprog.scoring.power import CHANGING, WANTED, least_gain
from lmprog.spending.estimate import DevRows, Forecast, Part, timed
from lmprog.spending.usual import NONE, PROPOSAL, Usual, usual_reply
from lmprog.spending.worst_case import CallBound, Growth, asks, longest_reply, tokens


def forecast(program: Program, folders: Iterable[Path] = ()) -> Forecast:
    """Return the worst case and the estimate of the cost of optimizing the program, stage by stage.

    `folders` are those of earlier runs, the newest last, whose calls per second give the times. Nothing is run. Raises
    UsageError where the optimization itself would, such as for a program without `optimize`, and RowsError where data cannot
    be read.
    """
    plan, block = program.plan, optimize_config(program)
    train, dev = rows_of(plan, block.train), rows_of(plan, block.validate)
    choosing, confirming = dev_split(len(dev), block.accept)
    test = rows_of(plan, TEST) if TEST in plan.data else []
    growth = _growth(block, plan)
    of_judges = [ask for judge in judges(plan) for ask in asks(judge, (), Growth(None, None))]
    run = [*asks(plan, [*train, *dev, *test], growth), *of_judges]
    proposal = _proposal(block, plan)
    sizes = len(train), choosing
    parts, versions = [], list(run)
    for stage in block.stages:
        optimizer = make(stage)
        others = _others(program, optimizer, [*train, *dev], of_judges)
        results = [
            [*asks(program.with_candidate(result).plan, [*train, *dev, *test], growth), *of_judges]
            for result in _results(program, optimizer)
        ]
        others += [ask for result in results for ask in _times(result, choosing)]
        fees = optimizer.fees(program, run, len(train)) if hasattr(optimizer, "fees") else ()
        calls = _of_stage(program, optimizer, stage, sizes, run, proposal, others)
        parts.append(Part(stage.optimizer, calls, fees=fees))
        versions += results[-1] if results else run
    if block.batch:
        versions = [replace(ask, lm=replace(ask.lm, batch=True)) for ask in versions]
    parts.append(Part("dev before and after each stage", _times(versions, choosing)))
    if confirming:
        parts.append(Part("dev that confirms", _times(versions, confirming * most_repeats(block))))
    if test:
        parts.append(Part("test at the end", _times(versions, len(test))))
    level = first_level(block.accept, len(block.stages))
    gain = least_gain(confirming, level) if confirming else None
    shown = DevRows(choosing, confirming, gain, WANTED, CHANGING)
    return replace(timed(plan, program.concurrency, parts, folders), dev=shown)


def _others(
    program: Program, optimizer: Optimizer, rows: Sequence[Mapping[str, Any]], of_judges: Sequence[CallBound]
) -> list[CallBound]:
    """Return the LM calls of the runs of other programs (teachers) and of their scoring; empty where the optimizer runs
    none."""
    other_runs = getattr(optimizer, "other_runs", None)
    return [
        ask.times(count)
        for plan, count in (other_runs(program) if other_runs is not None else ())
        for ask in [*asks(plan, rows, Growth()), *of_judges]
    ]


def _results(program: Program, optimizer: Optimizer) -> Sequence[Candidate]:
    """Return the changes to the program that stand for the candidates of a stage, where a run of a candidate may make more
    LM calls than one of the program; empty where the optimizer declares none."""
    results = getattr(optimizer, "results", None)
    return results(program) if results is not None else ()


def _of_stage(
    program: Program,
    optimizer: Optimizer,
    stage: Stage,
    sizes: tuple[int, int],
    run: Sequence[CallBound],
    proposal: CallBound | None,
    others: Sequence[CallBound],
) -> list[CallBound]:
    """Return the maximum LM calls of a stage: whole runs, and the proposer's calls as the optimizer counts them.

    Where the optimizer counts neither them nor its runs, any call may be the most expensive one.
    """
    most = optimizer.most_calls(program, *sizes) - round(sum(ask.calls for ask in others))
    a_run = round(sum(ask.calls for ask in run))
    most_proposals = getattr(optimizer, "most_proposals", None)
    if most_proposals is not None and a_run:
        count = most_proposals(program, *sizes)
        proposals = [proposal.times(count)] if proposal is not None else []
        return [*_times(run, -(-(most - count) // a_run)), *proposals, *others]
    whole = min(_declared_runs(optimizer, stage, sizes), most // a_run if a_run else 0)
    most -= whole * a_run
    known = [*run, *([proposal] if proposal is not None else [])]
    prompt = _largest([ask.prompt for ask in known])
    reply = _largest([ask.reply for ask in known])
    each = [CallBound(ask.lm, most, prompt, reply) for ask in known]
    dearest = [max(each, key=lambda ask: inf if ask.usd is None else ask.usd)] if each else []
    # The dearest call bounds each of the rest; the estimate takes them for runs of the program.
    usual = [replace(ask.times(most / a_run), calls=0) for ask in run] if a_run else []
    return [*_times(run, whole), *(replace(ask, usual=NONE) for ask in dearest), *usual, *others]


def _declared_runs(optimizer: Optimizer, stage: Stage, sizes: tuple[int, int]) -> int:
    """Return the most whole runs of a stage as its optimizer declares them; 0 where it does not."""
    runs = declared(optimizer).runs
    options = optimizer.Config.model_validate(dict(stage.options)).model_dump()
    return runs(options, *sizes) if callable(runs) else 0


def _growth(block: Optimize, plan: Plan) -> Growth:
    """Return how many demos, and tokens of new instructions, the stages may bring into a prompt at most; no limit is known
    (None) for words of a stage of another package, nor for instructions by a proposer whose reply has none."""
    others = [declared(find(stage.optimizer)) for stage in block.stages if stage.optimizer not in BUILT_IN]
    if any(facts.may_write(*WORDS) for facts in others):
        return Growth(None, None)
    own = [stage for stage in block.stages if stage.optimizer in BUILT_IN]
    options = [find(stage.optimizer).Config.model_validate(dict(stage.options)) for stage in own]
    demos = max((most_demos(getattr(option, "demos", 0)) for option in options), default=0)
    written = max((tokens(text) for texts in block.instructions.values() for text in texts), default=0)
    if block.proposer is None:
        return Growth(demos, written)
    # Twice: the proposer counts its words by its own tokenizer.
    reply = longest_reply(plan.lms[block.proposer])
    return Growth(demos, None if reply is None else max(written, 2 * reply))


def _proposal(block: Optimize, plan: Plan) -> CallBound | None:
    """Return the bounds of one call of the proposer; None where there is none."""
    if block.proposer is None:
        return None
    lm = plan.lms[block.proposer]
    reply = longest_reply(lm)
    usual = Usual(1, PROPOSAL, 0, usual_reply(reply))
    return CallBound(lm, 1, model_table.limits(lm).context, reply, usual)


def _times(run: Iterable[CallBound], count: int) -> list[CallBound]:
    return [ask.times(count) for ask in run]


def _largest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
