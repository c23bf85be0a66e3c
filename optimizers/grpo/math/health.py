"""Health metrics of training, from the rollouts of a step. Pure; imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from statistics import fmean
from typing import Any

from lmprog.optimizers.grpo.advantages import has_signal
from lmprog.optimizers.grpo.groups import Group
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.sampling.rollouts import SkippedRuns, Wave, Width, unit


def health(
    waves: Sequence[Wave],
    groups: Sequence[Group],
    advantages: Sequence[Sequence[float]],
    rows: Sequence[Row],
    width: Width = unit,
) -> dict[str, Any]:
    """Return the health metrics of a training step as plain values for the journal, by name: `reward`, `unreadable`,
    `failed` (by kind), `lost`, `examples`, `without_signal`, `groups`, `groups_without_signal`, `waves`, `rows`,
    `reply_tokens`, `modules`, and `teachers` where there are any.

    `rows` are the training rows that the groups gave. docs/optimizers.md explains each metric; a mean of nothing is
    0.0. Rewards and example counts cover everything sampled: the selected subset would be biased upward. The runs of
    teachers, which would be too, are counted apart. `width` returns the width of the range of a module's reward.
    """
    every = [rollout for wave in waves for rollout in wave.rollouts]
    drawn = [rollout for rollout in every if rollout.teacher is None]
    taught = frozenset((rollout.example, rollout.rollout) for rollout in every if rollout.teacher is not None)
    lost = sum(wave.lost for wave in waves)
    with_signal, without = Wave(tuple(every), lost).by_signal(width)
    return {
        "reward": _mean([rollout.reward for rollout in drawn]),
        "unreadable": sum(rollout.failure == "unreadable" for rollout in drawn),
        "failed": dict(Counter(rollout.failure for rollout in drawn if rollout.failure is not None)),
        "lost": lost,
        "examples": len(with_signal) + len(without),
        "without_signal": len(without),
        "groups": len(groups),
        "groups_without_signal": sum(not has_signal(group, width(group.module)) for group in groups),
        "waves": len(waves),
        "rows": len(rows),
        "reply_tokens": _mean([len(row.reply_ids) for row in rows]),
        "modules": _by_module(groups, advantages, taught),
        **({"teachers": _by_teacher(waves)} if any(wave.skipped_runs for wave in waves) else {}),
    }


def _by_teacher(waves: Sequence[Wave]) -> dict[str, dict[str, float]]:
    """Return for each teacher the runs that joined groups, their mean reward, and the runs left out."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for wave in waves for name in wave.skipped_runs):
        joined = [rollout.reward for wave in waves for rollout in wave.rollouts if rollout.teacher == name]
        out = SkippedRuns()
        for wave in waves:
            out = out.plus(wave.skipped_runs.get(name, SkippedRuns()))
        found[name] = {"rollouts": len(joined), "reward": _mean(joined), **asdict(out)}
    return found


def _by_module(
    groups: Sequence[Group], advantages: Sequence[Sequence[float]], taught: Set[tuple[Any, int]]
) -> dict[str, dict[str, float]]:
    """Return figures by module of the calls that stand in a group, without the calls of `taught` rollouts.

    A rollout in `taught` is (example, number).
    """
    calls: dict[str, list[tuple[float, float, int]]] = {}
    for group, of_group in zip(groups, advantages, strict=True):
        for member, advantage in zip(group.members, of_group, strict=True):
            for made in member.invocations if (group.example, member.rollout) not in taught else ():
                calls.setdefault(made.module, []).append((member.reward, advantage, len(made.token_ids)))
    return {
        module: {
            "calls": len(made),
            "reward": _mean([reward for reward, _, _ in made]),
            "advantage": _mean([advantage for _, advantage, _ in made]),
            "advantage_size": _mean([abs(advantage) for _, advantage, _ in made]),
            "reply_tokens": _mean([tokens for _, _, tokens in made]),
        }
        for module, made in calls.items()
    }


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Yield each number in nested mappings with its path, as `modules/plan/reward`: the form that experiment trackers
    want. True counts as 1.0; any other value that is no number raises TypeError or ValueError.

    `above` is put before each path as it is, so it ends in `/` if it is a path itself.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}/")
        else:
            yield above + name, float(value)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
