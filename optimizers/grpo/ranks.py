"""The division of a step's rows among processes, and the combination of their gradients.

Gradients are added up here, and not by the hooks of DDP: the number of passes of a process, and the adapters that
they go through, depend on its rows, and DDP requires the same of all processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lmprog.optimizers.grpo.math.training_rows import Row


def shares(rows: Sequence[Row], ranks: int) -> list[list[int]]:
    """Divide training rows among `ranks` processes, with about as many tokens each; return the indices of the rows of each
    process.

    Rows of one adapter that begin alike are put together, since a token that rows share is computed once. With fewer rows
    than processes some have none.
    """
    order = sorted(range(len(rows)), key=lambda row: (rows[row].adapter, [*rows[row].prompt_ids, *rows[row].reply_ids]))
    lengths = [len(rows[row].prompt_ids) + len(rows[row].reply_ids) for row in order]
    taken: list[list[int]] = [[] for _ in range(ranks)]
    before, total = 0, sum(lengths)
    for row, length in zip(order, lengths, strict=True):
        # By where the middle of the row falls among all tokens.
        taken[(2 * before + length) * ranks // (2 * total)].append(row)
        before += length
    return taken


def average_gradients(weights: Iterable[Tensor]) -> None:
    """Replace the gradient of each weight by its mean over the processes, of the weight's shape; where no process has
    one, there is none after.

    A process whose rows do not touch a weight counts with a gradient of zero.
    """
    weights = list(weights)
    gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    touched = torch.tensor([float(weight.grad is not None) for weight in weights], device=gradients[0].device)
    joined = torch.cat([touched, *(gradient.flatten() for gradient in gradients)])
    torch.distributed.all_reduce(joined)
    touched, *means = joined.split([len(weights), *(weight.numel() for weight in weights)])
    for weight, any_rank, mean in zip(weights, touched.tolist(), means, strict=True):
        weight.grad = (mean / torch.distributed.get_world_size()).view_as(weight) if any_rank else None
