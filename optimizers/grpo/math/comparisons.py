"""The groups of a step and their advantages, with each module's own reward where it has one. Pure; imports no torch.

An agent's turns for one call of its module are one member of a group: they were played for one outcome, so that a run of many
turns is compared, and weighed, as one of few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from lmprog.optimizers.grpo.advantages import EQUAL, Scale, advantages
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.groups import Group, Member, form_groups
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Width, unit

Levels = Mapping[str, Sequence[float]]
"""The values that a reward has taken so far, at most three of them; by module, and under "" where all follow one reward."""
SEVERAL = 3
"""Values from which on a reward is graded."""


@dataclass(frozen=True)
class Turns:
    """The turns (LM calls) that an agent took for call number `call` (from 0) of its module; a group compares them as
    one member."""

    module: str
    call: int
    turns: tuple[Any, ...]


def compare(
    rollouts: Sequence[Rollout],
    config: Config,
    *,
    sampled: Sequence[Rollout] | None = None,
    averages: Mapping[str, float] | None = None,
    levels: Levels | None = None,
    agents: Set[str] = frozenset(),
    width: Width = unit,
) -> tuple[list[Group], list[list[float]]]:
    """Return the groups of calls (or runs) that GRPO compares with each other, and for each group the advantages of its
    members, in their order.

    The options of `config` (`level`, `align`, `min_group`, `select`, `baseline`, `scale`) decide both. No group is left
    out, however small it is or equal its rewards are. Where modules follow rewards of their own, each has groups of its
    own, by its reward. Where some rollouts lost calls, `sampled` are all rollouts, whose mean reward is the baseline of
    small groups and of `rollout` (None: `rollouts` are). `averages` are the running rewards by module (None: none yet);
    `levels`, the distinct rewards seen so far (None: none), decide the scale where `config` does not. `agents` are the
    modules with tools, and `width` returns the width of the range of a module's reward.
    """
    groups: list[Group] = []
    values: list[list[float]] = []
    modules: list[str | None] = [*dict.fromkeys(module for rollout in rollouts for module in rollout.rewards)]
    for module in modules or [None]:
        own = form_groups(
            [_following(rollout, module, agents) for rollout in rollouts],
            level=config.level,
            align=config.align,
            min_group=config.min_group,
            select=config.select,
        )
        values += advantages(
            own,
            baseline=config.baseline,
            scale=config.scale or automatic_scale((levels or {}).get(module or "", ())),
            rollouts=[_following(rollout, module, agents) for rollout in sampled or rollouts],
            averages=averages,
            width=width(module),
        )
        groups += own
    return [_spread_out(group) for group in groups], values


def automatic_scale(levels: Sequence[float]) -> Scale:
    """Return the scale of advantages for a reward with these distinct values: `group` for at most two values, `none` for
    more.

    With two values the group's deviation says how rare success is. With more (a graded reward) it says how far apart the
    runs are, and dividing by it would make a small gain count as much as a large one.
    """
    return "group" if len(levels) < SEVERAL else "none"


def seen(levels: Levels, rollouts: Iterable[Rollout], width: Width = unit) -> dict[str, list[float]]:
    """Return `levels` (the distinct rewards by module, under "" where all modules follow one) with the rewards of `rollouts`
    added; `levels` itself is not changed.

    At most SEVERAL (3) values are kept of each, which is enough to show that a reward is graded. Rewards that differ by
    rounding alone are one value. `width` returns the width of the range of a module's reward.
    """
    found = {name: [*values] for name, values in levels.items()}
    for rollout in rollouts:
        modules: list[str | None] = [*rollout.rewards]
        for module in modules or [None]:
            known, reward = found.setdefault(module or "", []), rollout.reward_of(module)
            if len(known) < SEVERAL and all(abs(reward - value) > EQUAL * width(module) for value in known):
                known.append(reward)
    return found


def _following(rollout: Rollout, module: str | None, agents: Set[str]) -> Rollout:
    """Return the rollout with the reward of one module and its calls alone, for None with that of the run and all its calls;
    the turns of agents are joined."""
    calls = [made for made in rollout.invocations if module in (None, made.module)]
    return replace(rollout, reward=rollout.reward_of(module), invocations=tuple(_joined(calls, agents)))


def _joined(calls: Sequence[Any], agents: Set[str]) -> list[Any]:
    """Return a run's calls in their order, with the turns of each agent's run (by its path) joined to one `Turns`; of a step
    that was tried again only the turns of the last try are in it."""
    visits: dict[tuple[str, str], list[Any]] = {}
    for made in calls:
        if made.module in agents:
            visits.setdefault((made.module, made.path), []).append(made)
    found: list[Any] = []
    numbers: dict[str, int] = {}
    for made in calls:
        if made.module not in agents:
            found.append(made)
        elif (turns := visits.pop((made.module, made.path), None)) is not None:
            last = max(turn.attempt for turn in turns)
            number = numbers[made.module] = numbers.get(made.module, -1) + 1
            found.append(Turns(made.module, number, tuple(turn for turn in turns if turn.attempt == last)))
    return found


def _spread_out(group: Group) -> Group:
    """Return the group with the turns of agents as calls again."""
    members = [
        Member(
            member.rollout,
            member.reward,
            tuple(turn for made in member.invocations for turn in (made.turns if isinstance(made, Turns) else (made,))),
        )
        for member in group.members
    ]
    return replace(group, members=tuple(members))
