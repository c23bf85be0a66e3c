"""Groups of invocations that are compared with each other, formed from finished rollouts. Pure; imports no torch.

At module level a group is keyed by (example, module, k): all calls that were the k-th of that module in a run on that
example (mmGRPO, arXiv 2508.04660). At trajectory level a member is a whole run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Level = Literal["module", "trajectory"]
Align = Literal["ragged", "truncate", "fill"]


class InvocationLike(Protocol):
    """The interface of an LM call in a rollout: its `module`, and the `call`'s index, from 0, among that module's calls
    in the run."""

    @property
    def module(self) -> str: ...
    @property
    def call(self) -> int: ...


class RolloutLike(Protocol):
    """The interface of a rollout: one run of the program on one example, with its number (`rollout`), its score
    (`reward`), and its LM calls (`invocations`)."""

    @property
    def example(self) -> Any: ...
    @property
    def rollout(self) -> int: ...
    @property
    def reward(self) -> float: ...
    @property
    def invocations(self) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Member:
    """The part of one rollout in a group, with the rollout's number and its reward.

    `invocations` are one LM call where `level` is `module`, all calls of the run where it is `trajectory`.
    """

    rollout: int
    reward: float
    invocations: tuple[Any, ...]


@dataclass(frozen=True)
class Group:
    """Members whose rewards are compared with each other: for one example, the calls number `call` of one module.

    Where `level` is `trajectory` whole runs are compared, and `module` and `call` are None. `small` marks a group of which
    fewer than `min_group` members are kept and whose own mean says little: the mean of the example's rollouts is its
    baseline.
    """

    example: Any
    module: str | None
    call: int | None
    members: tuple[Member, ...]
    small: bool = False


def form_groups(
    rollouts: Iterable[RolloutLike],
    *,
    level: Level = "module",
    align: Align = "ragged",
    min_group: int = 2,
    select: int | None = None,
) -> list[Group]:
    """Return the groups of a step, in the order of the examples, then of the modules as the runs first reach them, then
    of the calls' numbers.

    `level` says whether single calls or whole runs are compared. `align` decides about a position (call number k of a
    module) that some run of the example does not have: `ragged` groups the runs that have it, `truncate` drops it,
    `fill` pads each run that called the module at all with a call drawn from its own, always the same (the only case in
    which an invocation appears twice). Retries of one call share its k, and the last of them stands for it. `select`
    keeps that many members of a group, as `spread` does (None: all). A group left with fewer than `min_group` members
    is marked as small. No group is dropped for its size or its rewards.

    Raises ValueError for an unknown `level` or `align`, and for `select` below 1.
    """
    if level not in ("module", "trajectory"):
        raise ValueError(f"level is module or trajectory, not {level!r}")
    if align not in ("ragged", "truncate", "fill"):
        raise ValueError(f"align is ragged, truncate or fill, not {align!r}")
    if select is not None and select < 1:
        raise ValueError(f"select keeps at least one member, not {select}")
    by_example: dict[Any, list[RolloutLike]] = {}
    for rollout in rollouts:
        by_example.setdefault(rollout.example, []).append(rollout)
    groups = []
    for example, runs in by_example.items():
        whole = {(None, None): [_whole(run) for run in runs]}
        positions = whole if level == "trajectory" else _positions(example, runs, align)
        for (module, call), members in positions.items():
            kept = members if select is None else spread(members, select)
            groups.append(Group(example, module, call, tuple(kept), small=len(kept) < min_group))
    return groups


def spread(members: Sequence[Member], count: int) -> list[Member]:
    """Return `count` (1 or more) of a group's n members, sorted by reward and taken at even distances from the lowest
    to the highest; all n, in the order given, where there are no more than `count`.

    Their places in the sorted order are `round(linspace(0, n - 1, count))`; a `count` of 1 takes the lowest.
    """
    if len(members) <= count:
        return list(members)
    ordered = sorted(members, key=lambda member: member.reward)
    gap = (len(ordered) - 1) / (count - 1) if count > 1 else 0.0
    return [ordered[round(place * gap)] for place in range(count)]


def _whole(run: RolloutLike) -> Member:
    """Return a run as one member; of the retries of one call only the last is part of it."""
    last = {(invocation.module, invocation.call): invocation for invocation in run.invocations}
    return Member(run.rollout, run.reward, tuple(last.values()))


def _positions(example: Any, runs: Sequence[RolloutLike], align: Align) -> dict[tuple[Any, Any], list[Member]]:
    """Return the members of each position, a pair of module and call number, from the runs on one example."""
    by_position: dict[tuple[Any, Any], list[Member]] = {}
    calls: list[dict[tuple[str, int], Any]] = []
    for run in runs:
        calls.append({(invocation.module, invocation.call): invocation for invocation in run.invocations})
        for position in calls[-1]:
            by_position.setdefault(position, [])
    modules = list(dict.fromkeys(module for module, _ in by_position))
    ordered = sorted(by_position, key=lambda position: (modules.index(position[0]), position[1]))
    for position in ordered:
        for run, made in zip(runs, calls, strict=True):
            if position in made:
                by_position[position].append(Member(run.rollout, run.reward, (made[position],)))
            elif align == "fill":
                own = [invocation for (module, _), invocation in made.items() if module == position[0]]
                if own:
                    place = _draw(len(own), example, run.rollout, *position)
                    by_position[position].append(Member(run.rollout, run.reward, (own[place],)))
    if align == "truncate":
        ordered = [position for position in ordered if len(by_position[position]) == len(runs)]
    return {position: by_position[position] for position in ordered}


def _draw(choices: int, *place: Any) -> int:
    """Return a pseudo-random number below `choices` that depends on `place` alone."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % choices
