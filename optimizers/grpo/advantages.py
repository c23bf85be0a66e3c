"""Advantages: the difference of each group member's reward from the expected one. Pure; imports no torch.

advantage = (reward - baseline) / scale, with the policies below for both:

1. Baseline: what was to be expected of the member. What depends on its own reward (`group`, `rollout`) draws the baseline
   towards it: (1 - 1/n) of the difference from the others' mean is left, which `leave_one_out` gives whole.
2. Scale: the spread of the rewards of the group, the batch or the module, so that one learning rate fits all metrics.
3. Floors: differences and spreads that are rounding alone count as none. A judge's 0.1 + 0.2 against 0.3, divided by the
   deviation of the two, would else be an advantage of about 1.

No member is left out: with a baseline of its own rewards, a group without signal has advantages of 0.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from lmprog.optimizers.grpo.groups import Group, RolloutLike

Baseline = Literal["group", "rollout", "leave_one_out", "module_ema"]
Scale = Literal["none", "group", "batch", "module"]
BASELINES = ("group", "rollout", "leave_one_out", "module_ema")
SCALES = ("none", "group", "batch", "module")
EQUAL = 1e-6
"""Rewards that differ by no more than this share of the metric's range are equal: below it there is rounding alone."""
MIN_DEVIATION = 1e-3
"""The smallest divisor, as a share of the metric's range: what is less apart is not blown up to the size of a real gain."""


def advantages(
    groups: Sequence[Group],
    *,
    baseline: Baseline = "group",
    scale: Scale = "group",
    rollouts: Iterable[RolloutLike] | None = None,
    averages: Mapping[str, float] | None = None,
    width: float = 1.0,
) -> list[list[float]]:
    """Return one list of advantages for each group, in the order of its members.

    Baselines: `group`, the mean reward of the group (GRPO, arXiv 2402.03300); `rollout`, the mean of all rollouts of
    the example; `leave_one_out`, the mean of the group's other members (RLOO, arXiv 2402.14740; a member without
    others has its own reward); `module_ema`, the
    running average of the module in `averages`. A group that `form_groups` marked as small takes the mean of the
    example's rollouts whatever the baseline; without `rollouts` (None) the group's own mean serves, and so it does for
    a module that `averages` (None: empty) lacks.

    Scales: the population standard deviation (divided by n) of the rewards of the group, of the whole batch of groups,
    or of all groups of the module; `none` is 1 (Dr. GRPO, arXiv 2503.20783). A small group is scaled by the deviation
    of the rewards that gave its baseline. Where the rewards are equal the difference stays as it is.

    `width` is that of the metric's range (`range: [0, 1]` has 1.0). Two floors are relative to it: a reward within
    EQUAL (0.000001) of its baseline has the advantage 0.0, and a deviation below MIN_DEVIATION (0.001) counts as that
    much.

    Raises ValueError for an unknown `baseline` or `scale`.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline is one of {', '.join(BASELINES)}, not {baseline!r}")
    if scale not in SCALES:
        raise ValueError(f"scale is one of {', '.join(SCALES)}, not {scale!r}")
    by_example: dict[object, list[float]] = {}
    for rollout in rollouts or ():
        by_example.setdefault(rollout.example, []).append(rollout.reward)
    batch = [member.reward for group in groups for member in group.members]
    by_module: dict[str | None, list[float]] = {}
    for group in groups:
        by_module.setdefault(group.module, []).extend(member.reward for member in group.members)
    result = []
    for group in groups:
        own = [member.reward for member in group.members]
        # A small group borrows baseline and spread from all rollouts of its example: a mean of one or two is mostly noise.
        wider = by_example.get(group.example, own)
        spread = {
            "none": [],
            "group": wider if group.small else own,
            "batch": batch,
            "module": by_module[group.module],
        }[scale]
        # Equal rewards with a baseline from elsewhere (`module_ema`, `rollout`) have a difference, and no spread to divide by.
        divisor = max(deviation(spread), MIN_DEVIATION * width) if differ(spread, width) else 1.0
        expected = _baselines(group, own, wider, baseline, averages or {})
        apart = [reward - base for reward, base in zip(own, expected, strict=True)]
        result.append([gap / divisor if abs(gap) > EQUAL * width else 0.0 for gap in apart])
    return result


def _baselines(
    group: Group, own: list[float], wider: list[float], baseline: Baseline, averages: Mapping[str, float]
) -> list[float]:
    """Return the expected reward of each member of a group, by `baseline`: `own` are the members' rewards, `wider` those of
    all rollouts of the example.

    A small group takes the mean of `wider` whatever the baseline; the mean of `own` serves where a member has no others, and
    where the module has no running average.
    """
    if baseline == "rollout" or group.small:
        return [mean(wider)] * len(own)
    if baseline == "leave_one_out" and len(own) > 1:
        return [mean([*own[:place], *own[place + 1 :]]) for place in range(len(own))]
    if baseline == "module_ema" and group.module is not None and group.module in averages:
        return [averages[group.module]] * len(own)
    return [mean(own)] * len(own)


def differ(rewards: Collection[float], width: float = 1.0) -> bool:
    """Return whether any two rewards differ by more than rounding (EQUAL, 0.000001 of `width`, that of the metric's range);
    False for less than two."""
    return bool(rewards) and max(rewards) - min(rewards) > EQUAL * width


def has_signal(group: Group, width: float = 1.0) -> bool:
    """Return whether the rewards of a group's members differ by more than rounding; with the baselines `group` and
    `leave_one_out` a group without such a difference has advantages of 0 alone.

    `width` is that of the reward's range.
    """
    return differ([member.reward for member in group.members], width)


def update_averages(averages: Mapping[str, float], groups: Sequence[Group], decay: float = 0.9) -> dict[str, float]:
    """Return the running average reward of each module with the `groups` of one more step added, for the baseline
    `module_ema`; `averages` itself is not changed.

    `decay` is the weight of the average before. A module without one gets the mean of its members, and groups of whole
    runs (`module` None) count for none.
    """
    updated = dict(averages)
    for module in dict.fromkeys(group.module for group in groups if group.module is not None):
        now = mean([member.reward for group in groups if group.module == module for member in group.members])
        # The first step has no past: its mean is the average, so that it does not have to climb from 0.
        updated[module] = decay * updated[module] + (1 - decay) * now if module in updated else now
    return updated


def mean(values: Sequence[float]) -> float:
    """Return the mean of one value or more. It is exactly the value where all are equal, so that rounding never creates an
    advantage."""
    return values[0] if len(set(values)) == 1 else math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float:
    """Return the population standard deviation (divided by n), in the unit of the values; 0.0 for no values or equal
    ones."""
    if len(set(values)) < 2:
        return 0.0
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / len(values))
