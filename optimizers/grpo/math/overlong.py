"""Replies that `max_tokens` cut, or nearly cut: their share, advice to the user, and a penalty on their rewards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.tokens import reply_limit, reply_limit_of, reply_tokens
from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Width, unit

MANY = 0.25
"""The share of replies cut from which on a stage says so."""
SOFT = 0.8
"""The share of `max_tokens` from which on a reply costs something, as in DAPO (arXiv 2503.14476)."""

Limit = Callable[[str], int | None]
"""The most tokens of a module's reply; None where nothing here sets it."""


def longest(plan: Plan, module: str) -> int | None:
    """Return the most tokens of a module's reply: its LM's `max_tokens`, or 256 where an LM in this process sets none; None
    where no limit is set and a server decides."""
    return reply_limit_of(plan.lms[plan.modules[module].lm])


def divisor(plan: Plan, lm: str, loss: str) -> int:
    """Return the most tokens of a reply of the LM with the id `lm`, by which the loss is divided where `loss` is `dr_grpo`:
    its `max_tokens`, else 256.

    Raises LmprogError where `loss` is `dr_grpo` and the LM is on a server and sets no limit.
    """
    declared = plan.lms[lm]
    if loss == "dr_grpo" and not declared.runs_here and reply_limit(declared.params) is None:
        raise LmprogError(
            f"`loss: dr_grpo` divides by the longest reply that there can be, and lms.{lm} sets none; "
            f"set lms.{lm}.params.max_tokens"
        )
    return reply_tokens(declared.params)


def is_cut(made: Any) -> bool:
    """Return whether the reply of an LM call ended because it reached `max_tokens`. `made` is the record of the
    call."""
    return getattr(made, "finish_reason", None) == "length"


def cut_shares(rollouts: Iterable[Rollout], modules: Iterable[str]) -> dict[str, float]:
    """Return for each of `modules` that was called the share (0 to 1) of its replies that `max_tokens` cut. Calls in
    sub-programs and those without token ids do not count."""
    found: dict[str, list[bool]] = {id: [] for id in modules}
    for rollout in rollouts:
        for made in rollout.invocations:
            if made.module in found and made.parent is None and made.token_ids:
                found[made.module].append(is_cut(made))
    return {id: sum(cut) / len(cut) for id, cut in found.items() if cut}


def advice(shares: Mapping[str, float], plan: Plan) -> list[str]:
    """Return a sentence of advice for each module whose share of cut replies, in `shares` (0 to 1), is above MANY
    (0.25)."""
    return [
        f"more than a quarter of the replies of {id!r} end at max_tokens, before they are done: raise "
        f"lms.{plan.modules[id].lm}.params.max_tokens, have its instructions ask for less, or set `overlong: mask` "
        "(cut replies are not trained) or `penalty` (length costs reward)"
        for id, share in shares.items()
        if share > MANY
    ]


def warn_of_cuts(rollouts: Iterable[Rollout], modules: Iterable[str], plan: Plan, note: Callable[[str], None]) -> float:
    """Call `note` with a sentence of advice for each module of which many replies are cut; return the largest share (0
    to 1) of cut replies of any of `modules`, 0.0 without calls."""
    shares = cut_shares(rollouts, modules)
    for text in advice(shares, plan):
        note(text)
    return max(shares.values(), default=0.0)


def penalised(rollouts: Sequence[Rollout], modules: Iterable[str], limit: Limit, width: Width = unit) -> list[Rollout]:
    """Return the rollouts with lower rewards where a reply of `modules` came near its limit of tokens; `limit` returns a
    module's (None: it has none).

    A reply of up to SOFT (0.8) of its limit loses nothing, one at the limit or cut (also without a limit) the width of
    the reward's range, and one between them a proportional part; a reward may so fall below its range. The reply that
    loses most decides for a run; where modules follow rewards of their own, each loses for its own replies, and the
    run's reward stays their mean. Calls in sub-programs and those without token ids do not count.
    """
    known = frozenset(modules)
    return [_penalised(rollout, known, limit, width) for rollout in rollouts]


def _penalised(rollout: Rollout, modules: frozenset[str], limit: Limit, width: Width) -> Rollout:
    excess: dict[str, float] = {}
    for made in rollout.invocations:
        if made.module in modules and made.parent is None and made.token_ids:
            excess[made.module] = max(excess.get(made.module, 0.0), _excess(made, limit(made.module)))
    if not rollout.rewards:
        return replace(rollout, reward=rollout.reward - width(None) * max(excess.values(), default=0.0))
    rewards = {id: reward - width(id) * excess.get(id, 0.0) for id, reward in rollout.rewards.items()}
    lost = sum(rollout.rewards.values()) - sum(rewards.values())
    return replace(rollout, reward=rollout.reward - lost / len(rewards), rewards=rewards)


def _excess(made: Any, limit: int | None) -> float:
    """Return from 0.0 to 1.0 how far a reply is on its way from SOFT of its limit to the limit; 1.0 where it was cut, 0.0
    where it has no limit."""
    if is_cut(made):
        return 1.0
    if limit is None:
        return 0.0
    free = SOFT * limit
    return min(1.0, max(0.0, (len(made.token_ids) - free) / (limit - free)))
