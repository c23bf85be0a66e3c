"""Requirements of a stage: a tuned part that can vary (702), enough runs (502), teachers that fit."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import Any

from lmprog.compiler.bounds import bounds, dev_split
from lmprog.compiler.checks import training
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.optimizing import teachers
from lmprog.compiler.optimizing.optimize_block import written_stages
from lmprog.compiler.optimizing.stage_options import TRAINING, defaults, varies_nothing
from lmprog.compiler.plan import Optimize, Plan, Stage
from lmprog.compiler.yaml.source import Mapping, Node, Sequence

TUNES = {
    "bootstrap": ({"demos"}, "draws demos, and `tune` names the demos of no module", "demos"),
    "gepa": ({"instructions"}, "writes instructions, and `tune` names the instructions of no module", "instructions"),
    "fast_slow": ({"weights"}, "trains weights, and `tune` names the weights of no module", "weights"),
    "grpo": ({"weights"}, "trains weights, and `tune` names the weights of no module", "weights"),
    "prompt_search": (
        {"instructions", "demos", "layout"},
        "writes words, and `tune` names neither instructions nor demos",
        "instructions or demos",
    ),
    "sft": ({"weights"}, "trains weights, and `tune` names the weights of no module", "weights"),
}
"""The parts that each stage can tune, the error where none of them is named, and the fix."""
WITHOUT_WORDS = frozenset({"ensemble", "grpo", "sft"})
"""Stages that write no words of their own."""
TUNES_TOO = {"fast_slow": TUNES["prompt_search"]}
"""The second entry, as in `TUNES`, of a stage that needs parts of two kinds."""


def check(draft: Draft, plan: Plan) -> None:
    """Report stages that could not begin, or could find nothing."""
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
        named = {_named(each) for each in entries}
        training.check_reward(draft, optimize, bool(named & {*TRAINING}))
    for entry in written_stages(listed):
        name = _named(entry)
        options = entry.map(name) if isinstance(entry, Mapping) else None
        _rollouts(draft, name, options)
        if not known:
            continue
        lacking = [
            part[1:] for part in (TUNES.get(name), TUNES_TOO.get(name)) if part is not None and not part[0] & tuned
        ]
        for wrong, missing in lacking:
            fix = f"add {missing} to a module under tune:"
            draft.report.add("LMP702", entry.place, f"the stage `{name}` {wrong}", fix=fix)
        if name == "gepa" and not lacking:
            _gepa(draft, optimize, entry, options)
        elif name in TRAINING and not lacking:
            given = options_of(draft, _stage(name, options))
            training.check(draft, plan, optimize, name, options, given)
        if name == "sft":
            _sft(draft, entry, options)
        elif name == "ensemble":
            _ensemble(draft, plan, entry, options)
    _order(draft, optimize, listed)


def _rollouts(draft: Draft, name: str, options: Mapping | None) -> None:
    for key, value in options.entries.items() if options is not None else ():
        if varies_nothing(name, key, value.plain()):
            message = f"`{name}` with `{key}: {value.plain()}` learns nothing: all rollouts of a row are one"
            fix = "write temperature: 1.0" if key == "temperature" else "write rollouts: 8"
            draft.report.add("LMP702", value.place, message, fix=fix)


def _gepa(draft: Draft, optimize: Optimize, entry: Node, options: Mapping | None) -> None:
    if optimize.proposer is None:
        message = "the stage `gepa` has no LM that writes instructions"
        draft.report.add("LMP702", entry.place, message, fix="name one of `lms` as optimize.proposer")
    rows = draft.rows.get(optimize.validate)
    given = options_of(draft, _stage("gepa", options))
    most, pareto, minibatch = (given.get(key) for key in ("max_metric_calls", "pareto_rows", "minibatch"))
    if not rows or not (isinstance(most, int) and isinstance(pareto, int) and isinstance(minibatch, int)):
        return
    least = min(pareto, dev_split(len(rows), optimize.accept)[0]) + 2 * minibatch
    if most < least:
        written = options.get("max_metric_calls") if options is not None else None
        message = f"`gepa` cannot begin with `max_metric_calls: {most}`: the dev rows and one reflection take {least}"
        place = written.place if written is not None else entry.place
        draft.report.add("LMP502", place, message, severity="error", fix=f"raise it to {least}, or lower pareto_rows")


def _sft(draft: Draft, entry: Node, options: Mapping | None) -> None:
    given = options_of(draft, _stage("sft", options))
    if "samples" in given and not any(given.get(source) for source in ("samples", "teachers", "labelled")):
        message = "`sft` without runs of the program, teachers or labelled rows has nothing to learn from"
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
    if "ensemble" not in names:
        return
    place = next(entry.place for entry in written_stages(listed) if _named(entry) == "ensemble")
    if names.index("ensemble") < len(names) - 1:
        message = "a stage comes after `ensemble`, which makes one program of several: it must be the last"
        draft.report.add("LMP702", place, message, fix="move it to the end of the stages")
    elif not set(names) - WITHOUT_WORDS:
        message = "`ensemble` has no programs to choose from: no stage before it writes instructions or demos"
        draft.report.add("LMP702", place, message, fix="put prompt_search, bootstrap or gepa before it")


def _named(entry: Node) -> str:
    name = next(iter(entry.entries), "") if isinstance(entry, Mapping) else entry.plain()
    return str(name)


def _stage(name: str, options: Mapping | None) -> Stage:
    return Stage(name, options.plain() if options is not None else {})


def options_of(draft: Draft, stage: Stage) -> Map[str, Any]:
    """Return the options of a stage, with the optimizer's defaults, if known, for the options that are left out."""
    config = draft.options.stage_configs(stage.optimizer) if draft.options.stage_configs is not None else None
    return {**defaults(config), **stage.options}
