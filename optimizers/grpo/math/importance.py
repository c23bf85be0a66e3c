"""Weights for sampled tokens: the engine or server that samples has other kernels and number formats than the trainer.

The rollouts are then drawn from q, and the gradient is wanted under p. Each token's part of the loss is multiplied by
min(p / q, cap) of that token: truncated importance sampling (https://fengyao.notion.site/off-policy-rl), as TRL has it with
`token_truncate`. It carries no gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def told(logprobs: Sequence[Sequence[float] | None], lengths: Sequence[int]) -> Tensor:
    """Return the sampler's log-probabilities of the replies' tokens (B, T); NaN where unknown, and beyond a reply's end."""
    rows = [torch.full((max(lengths),), torch.nan) for _ in lengths]
    for row, values in zip(rows, logprobs, strict=True):
        if values is not None:
            row[: len(values)] = torch.tensor(values)
    return torch.stack(rows)


def importance_weights(trainer: Tensor, sampler: Tensor, cap: float) -> Tensor:
    """Return min(exp(trainer - sampler), cap) for log-probabilities (B, T); 1 where the sampler's are unknown (NaN)."""
    return torch.where(sampler.isnan(), 1.0, (trainer - sampler).exp().clamp(max=cap))


NEAR = (0.8, 1.2)
"""The ratios p / q that kernels and number formats mostly stay within."""


def mismatch(trainer: Tensor, sampler: Tensor, cap: float, counted: Tensor) -> Tensor:
    """Return sums over the tokens that are `counted` (B, T) and whose sampler is known, and the largest difference (5,).

    They are: the sum of |trainer - sampler|, how many tokens, how many of them are truncated, the largest difference, and how
    many tokens have a ratio outside NEAR.
    """
    known = counted & ~sampler.isnan()
    apart = (trainer - sampler)[known]
    largest = apart.abs().max() if apart.numel() else apart.new_zeros(())
    ratios = apart.exp()
    far = ((ratios < NEAR[0]) | (ratios > NEAR[1])).sum()
    truncated = (ratios > cap).sum()
    return torch.stack([apart.abs().sum(), known.sum().to(apart), truncated.to(apart), largest, far.to(apart)])
