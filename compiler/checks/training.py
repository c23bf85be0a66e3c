"""Options of a training of weights that are of the right type and make no sense together (702)."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Map
from typing import Any, TypeGuard

from lmprog.compiler.draft import Draft
from lmprog.compiler.optimizing.trace_types import reads
from lmprog.compiler.plan import Optimize, Plan
from lmprog.compiler.yaml.source import Mapping, Node

Wrong = tuple[str, str, str]
"""The option, what is wrong with it, and what to write instead."""


def check(
    draft: Draft, plan: Plan, optimize: Optimize, name: str, options: Mapping | None, given: Map[str, Any]
) -> None:
    """Report options of the stage `name` under which it would learn nothing, or something else than intended.

    `options` are those in the file (None, where the stage sets none, reports nothing); `given` has the defaults of the
    others too. The finding is LMP702.
    """
    if options is None:
        return
    _temperatures(draft, optimize, name, options)
    for key, message, fix in (*_numbers(given), *_failure(plan, optimize, given), *_followed(plan, optimize, given)):
        written: Node | None = options.get(key)
        if written is not None:
            draft.report.add("LMP702", written.place, message, fix=fix)


def _temperatures(draft: Draft, optimize: Optimize, name: str, options: Mapping) -> None:
    tuned = sorted(id for id, parts in optimize.tune.items() if "weights" in parts)
    temperatures = options.get("temperature")
    for id, temperature in temperatures.entries.items() if isinstance(temperatures, Mapping) else ():
        if id not in tuned:
            message = f"`{name}` samples `{id}` at a temperature of its own, and does not tune its weights"
            draft.report.add("LMP702", temperature.place, message, fix=f"name one of {', '.join(tuned)}")


def _numbers(given: Map[str, Any]) -> Iterator[Wrong]:
    members = _members(given)
    for key, effect in (
        ("min_group", "no group has as many, so that every baseline is the mean of the row"),
        ("select", "there are never as many to select from"),
    ):
        most = given.get(key)
        if _whole(most) and members is not None and most > members:
            fix = f"write {members} or less, or raise rollouts"
            yield key, f"`{key}: {most}` with {members} runs on each row: {effect}", fix
    steps, updates = given.get("steps"), given.get("updates")
    if _whole(steps) and _whole(updates) and updates > steps:
        message = f"`updates: {updates}` on one wave are more than `steps: {steps}`, which counts all updates"
        yield "updates", message, f"write updates: {steps} or less, or raise steps"
    cap = given.get("epsilon_high")
    if given.get("loss") == "cispo" and isinstance(cap, int | float) and cap < 1:
        message = f"with `loss: cispo` epsilon_high is the highest ratio itself, and {cap} cuts every update"
        yield "epsilon_high", message, "leave it out, or write 5.0"
    if given.get("level") == "trajectory" and given.get("baseline") == "module_ema":
        message = (
            "`baseline: module_ema` keeps an average for each module, and with `level: trajectory` a member has several"
        )
        yield "baseline", message, "write baseline: group, or level: module"


def _failure(plan: Plan, optimize: Optimize, given: Map[str, Any]) -> Iterator[Wrong]:
    """Yield an error where the reward of a failed run is not less than the reward of the best run."""
    failure = given.get("format_failure")
    for id in dict.fromkeys(optimize.rewards.values()) or [optimize.reward or optimize.metric]:
        metric = plan.metrics.get(id)
        if isinstance(failure, int | float) and metric is not None and failure >= metric.range[1]:
            low, high = metric.range
            message = (
                f"`format_failure: {failure}` rewards a run that fails as well as the best: "
                f"the range of `{metric.id}` is {low:g} to {high:g}"
            )
            yield "format_failure", message, f"leave it out, which is {low:g}, or write less"
            return


def _followed(plan: Plan, optimize: Optimize, given: Map[str, Any]) -> Iterator[Wrong]:
    """Yield errors for options that cannot be combined with `reward`."""
    if optimize.rewards and given.get("level") == "trajectory":
        message = "`level: trajectory` has members of several modules, and `reward` names metrics by module"
        yield "level", message, "write level: module, or one metric as reward"
    followed = [*optimize.rewards.values(), optimize.reward or optimize.metric]
    compared = next((id for id in followed if reads(plan.metrics, id, "runs")), None)
    if compared is not None and given.get("teachers"):
        message = f"the reward `{compared}` compares the runs of a row, and not those of teachers with the program's"
        yield "teachers", message, "leave teachers out, or follow a metric that scores each run by itself"


def check_reward(draft: Draft, optimize: Optimize, trains: bool) -> None:
    """Report a `reward` without effect: where no stage trains weights (`trains` False; LMP202), or for a module whose
    weights are not tuned (LMP702)."""
    written = draft.node("optimize", "reward")
    if written is None:
        return
    if not trains:
        message = "nothing follows `reward`: no stage trains weights"
        draft.report.add(
            "LMP202", draft.key("optimize", "reward"), message, fix="remove it, or add a stage such as grpo"
        )
        return
    tuned = sorted(id for id, parts in optimize.tune.items() if "weights" in parts)
    for id in optimize.rewards:
        if id not in tuned and isinstance(written, Mapping):
            message = f"`reward` names a metric for `{id}`, whose weights are not tuned"
            draft.report.add("LMP702", written.key_place(id), message, fix=f"name one of {', '.join(tuned)}")


def _members(given: Map[str, Any]) -> int | None:
    """Return the most runs on one row, those of teachers included; None where an option that says so is no whole number."""
    own, teachers = given.get("rollouts"), given.get("teachers") or []
    if not _whole(own) or not isinstance(teachers, list):
        return None
    taught = [teacher.get("rollouts", 2) if isinstance(teacher, dict) else 2 for teacher in teachers]
    return own + sum(taught) if all(map(_whole, taught)) else None


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
