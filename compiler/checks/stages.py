"""Requirements of a stage: a tuned part that can vary (702), enough runs (502), teachers that fit."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Map
from typing import Any

from lmprog.compiler.bounds import bounds, dev_split
from lmprog.compiler.checks import training
from lmprog.compiler.draft import Draft
from lmprog.compiler.ensembles import KEY
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.optimizing import teachers
from lmprog.compiler.optimizing.contract import WEIGHTS, WORDS, Facts, facts_of
from lmprog.compiler.optimizing.optimize_block import written_stages
from lmprog.compiler.optimizing.stage_options import defaults, varies_nothing
from lmprog.compiler.plan import Optimize, Plan, Stage
from lmprog.compiler.yaml.source import Mapping, Node, Sequence

EFFECTS = {
    "instructions": "writes instructions",
    "demos": "draws demos",
    "layout": "lays out prompts",
    "weights": "trains weights",
}
"""The effect of a stage that tunes one part of a module, in words."""


def check(draft: Draft, plan: Plan) -> None:
    """Report stages of an optimization that cannot begin, or that can find nothing to improve, with the checks of `teachers`
    and `training`; nothing without `optimize`. Where the spec has parts that could not be read (LMP101), what depends on
    `tune` is not reported. The findings are LMP103, LMP203, LMP502 and LMP702."""
    optimize = plan.optimize
    listed = draft.node("optimize", "stages")
    if optimize is None or not isinstance(listed, Sequence):
        return
    tune = draft.node("optimize", "tune")
    cut = any(finding.code == "LMP101" for finding in draft.report.findings.values())
    teachers.check(draft, plan, optimize, written_stages(listed))
    known = not cut and (not isinstance(tune, Mapping) or len(tune.entries) == len(optimize.tune))
    tuned = frozenset[str]().union(*optimize.tune.values())
    if known:
        entries = written_stages(listed)
        training.check_reward(draft, optimize, any(facts_of(draft, _named(each)).trains for each in entries))
    for entry in written_stages(listed):
        name = _named(entry)
        facts = facts_of(draft, name)
        options = entry.map(name) if isinstance(entry, Mapping) else None
        _rollouts(draft, name, facts, options)
        if not known:
            continue
        lacking = [*_lacking(facts.tunes or frozenset(), tuned)]
        for wrong, fix in lacking:
            draft.report.add("LMP702", entry.place, f"the stage `{name}` {wrong}", fix=fix)
        given = options_of(draft, _stage(name, options))
        if facts.needs_proposer and optimize.proposer is None and not lacking:
            message = f"the stage `{name}` has no LM that writes instructions"
            draft.report.add("LMP702", entry.place, message, fix="name one of `lms` as optimize.proposer")
        if facts.compares_runs and not lacking:
            training.check(draft, plan, optimize, name, options, given)
        if facts.compares_runs:
            _sources(draft, name, entry, given)
        if not lacking:
            _reflections(draft, optimize, entry, given)
        if name == KEY:
            _ensemble(draft, plan, entry, options)
    _order(draft, optimize, listed)


def _lacking(tunes: frozenset[str], tuned: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield an error (the end of a sentence) and its fix for each part that a stage tunes (`tunes`) and no module has, and
    for weights, and for words, where the stage tunes them and `tune` names none of them (`tuned`: those that it names)."""
    for unknown in sorted(tunes - EFFECTS.keys()):
        yield f"declares that it tunes `{unknown}`, which no module has", f"declare some of {', '.join(EFFECTS)}"
    for kind in ((WEIGHTS,), WORDS):
        parts = [part for part in kind if part in tunes]
        if not parts or tuned & {*parts}:
            continue
        # The layout is tuned beside other words, and hardly for itself.
        named = [part for part in parts if part != "layout"] or parts
        if len(named) == 1:
            wrong = f"{EFFECTS[named[0]]}, and `tune` names the {named[0]} of no module"
        else:
            wrong = f"writes words, and `tune` names neither {' nor '.join(named)}"
        yield wrong, f"add {' or '.join(named)} to a module under tune:"


def _rollouts(draft: Draft, name: str, facts: Facts, options: Mapping | None) -> None:
    for key, value in options.entries.items() if options is not None else ():
        if varies_nothing(facts, key, value.plain()):
            message = f"`{name}` with `{key}: {value.plain()}` learns nothing: all rollouts of a row are one"
            fix = "write temperature: 1.0" if key == "temperature" else "write rollouts: 8"
            draft.report.add("LMP702", value.place, message, fix=fix)


def _reflections(draft: Draft, optimize: Optimize, entry: Node, given: Map[str, Any]) -> None:
    """Report a stage whose `max_metric_calls` are fewer than its first dev rows and one reflection take (LMP502)."""
    name, rows = _named(entry), draft.rows.get(optimize.validate)
    most, pareto, minibatch = (given.get(key) for key in ("max_metric_calls", "pareto_rows", "minibatch"))
    if not rows or not (isinstance(most, int) and isinstance(pareto, int) and isinstance(minibatch, int)):
        return
    least = min(pareto, dev_split(len(rows), optimize.accept)[0]) + 2 * minibatch
    if most < least:
        options = entry.map(name) if isinstance(entry, Mapping) else None
        written = options.get("max_metric_calls") if options is not None else None
        message = f"`{name}` cannot begin with `max_metric_calls: {most}`: the dev rows and one reflection take {least}"
        place = written.place if written is not None else entry.place
        draft.report.add("LMP502", place, message, severity="error", fix=f"raise it to {least}, or lower pareto_rows")


def _sources(draft: Draft, name: str, entry: Node, given: Map[str, Any]) -> None:
    """Report a stage that may take its replies from runs, teachers and labelled rows, and takes none."""
    if "samples" in given and not any(given.get(source) for source in ("samples", "teachers", "labelled")):
        message = f"`{name}` without runs of the program, teachers or labelled rows has nothing to learn from"
        draft.report.add("LMP702", entry.place, message, fix="write samples: 8, labelled: 256, or name teachers")


def _ensemble(draft: Draft, plan: Plan, entry: Node, options: Mapping | None) -> None:
    for tool in bounds(plan).writes:
        message = f"each member of an ensemble would call `{tool}`, which writes"
        fix = "leave the stage out, or say effects: read of a tool that only reads"
        draft.report.add("LMP702", entry.place, message, fix=fix)
    vote = options.get("vote") if options is not None else None
    judge = options.get("judge") if options is not None else None
    if vote is not None and judge is not None:
        message = "`ensemble` picks by `vote` or by `judge`, not by both"
        draft.report.add("LMP702", judge.place, message, fix="leave one of the two out")
    elif judge is not None and judge.plain() not in plan.lms:
        message = f"`judge` of the stage `ensemble` names the LM `{judge.plain()}`, which does not exist"
        draft.report.add("LMP103", judge.place, message, fix=suggestion(judge.plain(), plan.lms, "LMs"))
    elif vote is not None and vote.plain() not in plan.outputs:
        message = f"`vote` of the stage `ensemble` names the output `{vote.plain()}`, which the program does not have"
        draft.report.add("LMP203", vote.place, message, fix=suggestion(vote.plain(), plan.outputs, "outputs"))
    elif vote is None and judge is None and len(plan.outputs) > 1:
        message = f"`ensemble` votes on one output, and the program has {len(plan.outputs)}"
        draft.report.add("LMP702", entry.place, message, fix=f"write vote: {next(iter(plan.outputs))}")


def _order(draft: Draft, optimize: Optimize, listed: Node) -> None:
    """Report an `ensemble` that has no programs to choose from, or whose programs a later stage would have to change."""
    names = [stage.optimizer for stage in optimize.stages]
    if KEY not in names:
        return
    place = next(entry.place for entry in written_stages(listed) if _named(entry) == KEY)
    if names.index(KEY) < len(names) - 1:
        message = "a stage comes after `ensemble`, which makes one program of several: it must be the last"
        draft.report.add("LMP702", place, message, fix="move it to the end of the stages")
    elif not any(facts_of(draft, name).may_write(*WORDS) for name in names):
        message = "`ensemble` has no programs to choose from: no stage before it writes instructions or demos"
        draft.report.add("LMP702", place, message, fix="put prompt_search, bootstrap or gepa before it")


def _named(entry: Node) -> str:
    name = next(iter(entry.entries), "") if isinstance(entry, Mapping) else entry.plain()
    return str(name)


def _stage(name: str, options: Mapping | None) -> Stage:
    return Stage(name, options.plain() if options is not None else {})


def options_of(draft: Draft, stage: Stage) -> Map[str, Any]:
    """Return the options of a stage as written, with the optimizer's defaults for the others; without these where no
    `stage_configs` was given."""
    config = draft.options.stage_configs(stage.optimizer) if draft.options.stage_configs is not None else None
    return {**defaults(config), **stage.options}
