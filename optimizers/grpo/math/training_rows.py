"""The training rows of a step, and how much each of their tokens counts in the loss. Pure; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lmprog.compiler.types.lattice import Object
from lmprog.optimizers.grpo.groups import Group

Constraint = tuple[str, Object]
"""The format and the outputs that a reply was held to while it was sampled."""


class Held(Protocol):
    """The interface of an LM call: its module, and whether its reply was sampled under a grammar (constrained)."""

    @property
    def module(self) -> str: ...
    @property
    def constrained(self) -> bool: ...


@dataclass(frozen=True)
class Row:
    """A reply to train on: the module that it is of, token ids of the prompt and of the reply, and the reply's
    advantage.

    `run` names the member whose parts several rows are (None: the row is a member by itself), `constraint` is the
    grammar that the reply was sampled under (None: freely), `adapter` the index of the adapter to train, and `sampled`
    the sampler's log-probabilities (None: unknown). `signal` is False for a row that only counts in the size of the
    loss and in the KL term.
    """

    prompt_ids: Sequence[int]
    reply_ids: Sequence[int]
    advantage: float
    module: str = ""
    run: Hashable = None
    """The member of the group that the call is a part of, where a member has several: a run, or an agent's turns."""
    constraint: Constraint | None = None
    adapter: int = 0
    """The place of its adapter among those in training."""
    sampled: Sequence[float] | None = None
    """The log-probabilities of its tokens as the engine or server gave them that sampled it; None where unknown."""
    signal: bool = True
    """True if an advantage of the row's group is not 0."""
    weights: str = ""
    """The model that sampled it, with the digest of its adapter."""


def training_rows(
    groups: Sequence[Group],
    advantages: Sequence[Sequence[float]],
    constraint_of: Callable[[Any], Constraint | None] = lambda made: None,
    adapter_of: Callable[[str], int] = lambda module: 0,
    sampled_of: Callable[[Any], Sequence[float] | None] = lambda made: None,
    *,
    agents: Set[str] = frozenset(),
    is_skipped: Callable[[Any], bool] = lambda made: False,
    silent: bool = False,
) -> list[Row]:
    """Return a training row for each LM call of each group member, in the order of the groups; `advantages` has those of
    the members.

    `constraint_of`, `adapter_of` and `sampled_of` return the call's grammar, the module's adapter, and the sampler's
    log-probabilities. Calls for which `is_skipped` is True are left out, and so are groups whose advantages are all 0;
    with `silent` the latter are rows whose `signal` is False, for losses that count all sampled rows. A row whose own
    advantage is 0 is kept where others of its group are not 0: it moves nothing, but counts in the size of the loss.
    `agents` are the modules whose members are turns. The rows of one member share a `run` where it is a whole run
    (`level: trajectory`) or an agent's turns.
    """
    return [
        Row(
            made.prompt_token_ids,
            made.token_ids,
            advantage,
            made.module,
            _member(group, member.rollout, agents),
            constraint_of(made),
            adapter_of(made.module),
            sampled_of(made),
            any(of_group),
            getattr(made, "weights", ""),
        )
        for group, of_group in zip(groups, advantages, strict=True)
        if silent or any(of_group)
        for member, advantage in zip(group.members, of_group, strict=True)
        for made in member.invocations
        if not is_skipped(made)
    ]


def _member(group: Group, rollout: int, agents: Set[str]) -> Hashable:
    if group.module is None:
        return group.example, rollout
    return (group.example, rollout, group.module, group.call) if group.module in agents else None


def token_weights(
    rows: Sequence[Row],
    loss: str = "dapo",
    *,
    reply_limit: int = 1,
    weighting: Literal["tokens", "modules"] = "tokens",
) -> list[float]:
    """Return for each row the weight of each of its tokens: the loss of a step is the sum over all tokens of weight * loss.

    `dapo`, `bnpo` and `cispo` take the mean over all tokens of the step, `grpo` the mean over replies of the mean over
    a reply's tokens, and `dr_grpo` the sum over tokens divided by `rows * reply_limit` (arXiv 2503.20783). Rows with
    the same `run` are parts of one member: all losses but `dr_grpo` take the mean over members of the mean over the
    tokens of a member. Where only some rows have a `run`, as where one of several modules is an agent, the rows without
    one together weigh (but for `grpo`) their share of all tokens, and the members divide the rest equally. Without rows
    the list is empty.

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
        shares = _shares(tokens) if None in tokens else dict.fromkeys(tokens, 1 / max(1, len(tokens)))
        weights = [shares[part] / tokens[part] for part in parts]
    if weighting == "modules":
        of_modules: dict[str, float] = {}
        for row, weight, length in zip(rows, weights, lengths, strict=True):
            of_modules[row.module] = of_modules.get(row.module, 0.0) + weight * length
        equal = sum(of_modules.values()) / max(1, len(of_modules))
        weights = [weight * equal / of_modules[row.module] for row, weight in zip(rows, weights, strict=True)]
    return weights


def _shares(tokens: Mapping[Hashable, int]) -> dict[Hashable, float]:
    """Return the share of the loss of each part: the tokens of no member (None) by their number, the members alike."""
    whole = sum(tokens.values())
    alone = tokens[None] / whole
    return {part: alone if part is None else (1 - alone) / (len(tokens) - 1) for part in tokens}


def loss_weights(
    rows: Sequence[Row],
    loss: str = "dapo",
    *,
    reply_limit: int = 1,
    weighting: Literal["tokens", "modules"] = "tokens",
    normalise: Literal["kept", "all"] = "kept",
) -> list[tuple[float, float]]:
    """Return for each row a pair: the weight of each of its tokens in the policy's loss, and the one in the KL term.

    Both are weights of `token_weights`, which explains `loss`, `reply_limit` and `weighting`. The KL term counts all rows. The
    policy's loss counts the rows with `signal`, the others weigh 0; with `normalise="all"` it counts all rows, so that a step
    in which little can be learnt moves the weights little.
    """
    every = token_weights(rows, loss, reply_limit=reply_limit, weighting=weighting)
    if normalise == "all" or all(row.signal for row in rows):
        return [(weight, weight) for weight in every]
    kept = iter(token_weights([row for row in rows if row.signal], loss, reply_limit=reply_limit, weighting=weighting))
    return [(next(kept) if row.signal else 0.0, weight) for row, weight in zip(rows, every, strict=True)]
