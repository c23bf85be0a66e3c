"""The training rows of a step, and how much each of their tokens counts in the loss. Pure; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmprog.compiler.types import Object
from lmprog.optimizers.grpo.groups import Group

Constraint = tuple[str, Object]
"""The format and the outputs that a reply was held to while it was sampled."""


@dataclass(frozen=True)
class Row:
    """One sampled reply to train on: the token ids that were sent, those that were sampled, and its advantage."""

    prompt_ids: Sequence[int]
    reply_ids: Sequence[int]
    advantage: float
    module: str = ""
    run: Hashable = None
    """At trajectory level, the run that the call is a part of."""
    constraint: Constraint | None = None
    adapter: int = 0
    """The place of its adapter among those in training."""
    sampled: Sequence[float] | None = None
    """The log-probabilities of its tokens as a server told them that sampled it; None where the weights here did."""


def training_rows(
    groups: Sequence[Group],
    advantages: Sequence[Sequence[float]],
    constraint_of: Callable[[Any], Constraint | None] = lambda made: None,
    adapter_of: Callable[[str], int] = lambda module: 0,
    sampled_of: Callable[[Any], Sequence[float] | None] = lambda made: None,
) -> list[Row]:
    """A row for each call of each member, in the order of the groups; groups that teach nothing are left out.

    A row whose own advantage is 0 stays where its group has others: it moves nothing, but counts in the size of the loss.
    """
    return [
        Row(
            made.prompt_token_ids,
            made.token_ids,
            advantage,
            made.module,
            (group.example, member.rollout) if group.module is None else None,
            constraint_of(made),
            adapter_of(made.module),
            sampled_of(made),
        )
        for group, of_group in zip(groups, advantages, strict=True)
        if any(of_group)
        for member, advantage in zip(group.members, of_group, strict=True)
        for made in member.invocations
    ]


def token_weights(
    rows: Sequence[Row],
    loss: str = "dapo",
    *,
    reply_limit: int = 1,
    weighting: Literal["tokens", "modules"] = "tokens",
) -> list[float]:
    """For each row the weight of each of its tokens: the loss of a step is the sum over all tokens of weight * loss.

    `dapo`, `bnpo` and `cispo` take the mean over all tokens of the step, `grpo` the mean over replies of the mean over a
    reply's tokens, and `dr_grpo` the sum over `rows * reply_limit` (arXiv 2503.20783). Rows that name their `run` are parts
    of one member, and all losses but `dr_grpo` take the mean over runs of the mean over the tokens of a run.

    `weighting="modules"` then scales the weights so that each module has the same share of the whole.
    """
    lengths = [len(row.reply_ids) for row in rows]
    if loss == "dr_grpo":
        weights = [1 / (len(rows) * reply_limit) for _ in rows]
    else:
        parts: list[Hashable] = [
            ("run", row.run) if row.run is not None else place if loss == "grpo" else None
            for place, row in enumerate(rows)
        ]
        tokens: dict[Hashable, int] = {}
        for part, length in zip(parts, lengths, strict=True):
            tokens[part] = tokens.get(part, 0) + length
        weights = [1 / (len(tokens) * tokens[part]) for part in parts]
    if weighting == "modules":
        shares: dict[str, float] = {}
        for row, weight, length in zip(rows, weights, lengths, strict=True):
            shares[row.module] = shares.get(row.module, 0.0) + weight * length
        equal = sum(shares.values()) / max(1, len(shares))
        weights = [weight * equal / shares[row.module] for row, weight in zip(rows, weights, strict=True)]
    return weights
