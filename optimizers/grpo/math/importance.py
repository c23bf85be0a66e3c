"""Weights for sampled tokens: the engine or server that samples has other kernels and number formats than the trainer.

1. The rollouts are drawn from q, the sampler's distribution; the gradient is wanted under p, the trainer's.
2. E_p[f] = E_q[(p / q) f], so each token's part of the loss is multiplied by p / q of that token. The exact ratio would be the
   product over all tokens up to it, which grows or vanishes with the length of the reply.
3. The ratio is cut at a cap: a little bias, for a weight that no rare token can blow up. This is truncated importance sampling
   (https://fengyao.notion.site/off-policy-rl), as TRL has it with `token_truncate`.
4. The weight is a constant in the backward pass: the ratio corrects who sampled, and is nothing to optimize.

p here is that of the weights which have sampled, in the trainer's kernels: the first update's own pass. What later updates
change is the business of the loss's clipped ratio.

All tensors are (B, T): B replies of a pass, padded on the right to the longest, T.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sampler_logprobs(logprobs: Sequence[Sequence[float] | None], lengths: Sequence[int]) -> Tensor:
    """Return the sampler's log-probabilities of the replies' tokens as a matrix (B, T), for B replies (1 or more) of
    these `lengths`; NaN where unknown (None), and beyond a reply's end.
    """
    rows = [torch.full((max(lengths),), torch.nan) for _ in lengths]
    for row, values in zip(rows, logprobs, strict=True):
        if values is not None:  # else the row stays NaN: nothing is known of the reply's sampler
            row[: len(values)] = torch.tensor(values)
    return torch.stack(rows)


def importance_weights(trainer: Tensor, sampler: Tensor, cap: float) -> Tensor:
    """Return the weights min(exp(trainer - sampler), cap) of tokens, from their log-probabilities (B, T) by the trainer and
    by the sampler; 1 where the sampler's are unknown (NaN).
    """
    return torch.where(sampler.isnan(), 1.0, (trainer - sampler).exp().clamp(max=cap))


NEAR = (0.8, 1.2)
"""The ratios p / q that kernels and number formats mostly stay within."""


def mismatch(trainer: Tensor, sampler: Tensor, cap: float, counted: Tensor) -> Tensor:
    """Return five numbers on how far the trainer's log-probabilities are from the sampler's (B, T), over the tokens
    that are `counted` (B, T, True) and whose sampler's is known.

    They are: the sum of |trainer - sampler|, the number of tokens, how many have a ratio above `cap`, the largest
    |trainer - sampler|, and how many have a ratio outside NEAR (0.8 to 1.2); all are 0 without such tokens. Passes and
    processes hold different numbers of tokens, so there are no means: the caller adds up the results of all, and of the
    fourth number takes the largest.
    """
    known = counted & ~sampler.isnan()
    apart = (trainer - sampler)[known]  # (K,) log(p / q) of the K known tokens
    largest = apart.abs().max() if apart.numel() else apart.new_zeros(())  # `max` of nothing is an error
    ratios = apart.exp()
    far = ((ratios < NEAR[0]) | (ratios > NEAR[1])).sum()
    truncated = (ratios > cap).sum()
    return torch.stack([apart.abs().sum(), known.sum().to(apart), truncated.to(apart), largest, far.to(apart)])
