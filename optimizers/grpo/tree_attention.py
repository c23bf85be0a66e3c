"""Attention over a tree of token sequences, in pieces that leave out most of what no node sees.

A mask over all N nodes costs N * N, and few of its entries are seen. Here the nodes fall into the head, a chain that all
sequences begin with, and the branches that hang from it:

    head      attends to itself, causally
    branches  attend to the whole head, with no mask
    branches  attend each to itself, side by side as a batch, by the tree's mask

A branch's node has two pieces of context, joined by their log-sum-exp as in a wave of the engine. The gradient of a piece
is what the kernel gives for the joined output and log-sum-exp (as in ring attention, arXiv 2310.01889). For processors only:
it takes the kernels of torch's own scaled-dot-product attention there, which hand out the log-sum-exp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmprog.optimizers.grpo.prefix_tree import PrefixTree

_run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_run_back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class TreeAttention:
    """The attention of one tree, for every layer of a model: a `context` of the engine's attention function."""

    def __init__(self, tree: PrefixTree) -> None:
        nodes, head = len(tree), _common(tree.paths)
        all_of_head, rest = slice(0, head), slice(head, nodes)
        self._pieces: list[tuple[slice, slice, _Whole | _Beside]] = []
        """The nodes that ask, those that they ask, and how."""
        if head:
            self._pieces.append((all_of_head, all_of_head, _Whole(causal=True)))
        if head < nodes:
            self._pieces.append((rest, rest, _Beside.of(tree, head)))
        if 0 < head < nodes:
            self._pieces.append((rest, all_of_head, _Whole(causal=False)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """query (1, heads, N, D), key and value (1, kv_heads, N, D) to (1, N, heads, D)."""
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        output: Tensor = _Attention.apply(query, key, value, self._pieces, scaling)
        return output.transpose(1, 2)


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, pieces: Any, scaling: float) -> Tensor:
        output = torch.zeros_like(query)
        total = torch.full(query.shape[:3], float("-inf"), device=query.device)
        for asking, asked, how in pieces:
            found, own = how.run(query[:, :, asking], key[:, :, asked], value[:, :, asked], scaling)
            joined = torch.logaddexp(total[:, :, asking], own)
            before, here = ((each - joined).exp().unsqueeze(-1) for each in (total[:, :, asking], own))
            output[:, :, asking] = (output[:, :, asking] * before + found * here).to(output.dtype)
            total[:, :, asking] = joined
        ctx.save_for_backward(query, key, value, output, total)
        ctx.pieces, ctx.scaling = pieces, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, total = ctx.saved_tensors
        found = [torch.zeros_like(each) for each in (query, key, value)]
        for asking, asked, how in ctx.pieces:
            of_asking = [each[:, :, asking] for each in (*gradients, query, output, total)]
            of_piece = how.run_back(*of_asking, key[:, :, asked], value[:, :, asked], ctx.scaling)
            for whole, place, part in zip(found, (asking, asked, asked), of_piece, strict=True):
                whole[:, :, place] += part
        return (*found, None, None)


@dataclass(frozen=True)
class _Whole:
    """Every node sees all that it asks, or with `causal` those up to its own place."""

    causal: bool

    def run(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        """The output (1, heads, n, D) and the log-sum-exp (1, heads, n) of the scores."""
        found: tuple[Tensor, Tensor] = _run(query, key, value, 0.0, self.causal, scale=scaling)
        return found

    def run_back(
        self, gradient: Tensor, query: Tensor, output: Tensor, total: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Sequence[Tensor]:
        """The gradients of query, key and value, of the part that this piece has in `output`."""
        found: Sequence[Tensor] = _run_back(gradient, query, key, value, output, total, 0.0, self.causal, scale=scaling)
        return found


@dataclass(frozen=True)
class _Beside:
    """Branches as a batch, (branches, heads, longest, ...), padded with 0, each with the tree's mask over its own nodes."""

    place: Tensor
    """(n,) the place of each node in the batch, laid end to end."""
    hidden: Tensor
    """(branches, 1, longest, longest) True where a node does not see another of its branch."""

    @staticmethod
    def of(tree: PrefixTree, head: int) -> _Beside:
        branches, rest = _branches(tree.paths, head), len(tree) - head
        longest = max(map(len, branches))
        if len(branches) * longest**2 > rest**2:
            # Of very unequal length: side by side they would be mostly padding.
            branches, longest = [list(range(head, len(tree)))], rest
        place = torch.zeros(rest, dtype=torch.long)
        hidden = torch.ones(len(branches), 1, longest, longest, dtype=torch.bool)
        hidden[..., 0] = False  # padding sees something, as the kernel wants; nobody reads what it finds
        for number, branch in enumerate(branches):
            nodes = torch.tensor(branch)
            place[nodes - head] = number * longest + torch.arange(len(branch))
            hidden[number, 0, : len(branch), : len(branch)] = ~tree.mask[nodes][:, nodes]
        return _Beside(place, hidden)

    def run(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        batch = [self._batch(each) for each in (query, key, value)]
        output, total = _run(*batch, 0.0, False, attn_mask=self._mask(query), scale=scaling)
        return self._apart(output), self._apart(total)

    def run_back(
        self, gradient: Tensor, query: Tensor, output: Tensor, total: Tensor, key: Tensor, value: Tensor, scaling: float
    ) -> Sequence[Tensor]:
        batch = [self._batch(each) for each in (gradient, query, key, value, output, total)]
        found = _run_back(*batch, 0.0, False, attn_mask=self._mask(query), scale=scaling)
        return [self._apart(each) for each in found]

    def _mask(self, like: Tensor) -> Tensor:
        return torch.zeros(self.hidden.shape, dtype=like.dtype).masked_fill_(self.hidden, float("-inf"))

    def _batch(self, nodes: Tensor) -> Tensor:
        branches, _, longest, _ = self.hidden.shape
        batch = nodes.new_zeros(nodes.shape[1], branches * longest, *nodes.shape[3:])
        batch[:, self.place] = nodes[0]
        return batch.unflatten(1, (branches, longest)).transpose(0, 1)

    def _apart(self, batch: Tensor) -> Tensor:
        return batch.transpose(0, 1).flatten(1, 2)[:, self.place].unsqueeze(0)


def _common(paths: Sequence[Sequence[int]]) -> int:
    """How many nodes all paths begin with: they are the first of the tree."""
    length = min(map(len, paths))
    return next((depth for depth in range(length) if any(path[depth] != depth for path in paths)), length)


def _branches(paths: Sequence[Sequence[int]], head: int) -> list[list[int]]:
    """The nodes below each child of the head's last node, in the order of the tree."""
    found: dict[int, set[int]] = {}
    for path in paths:
        if len(path) > head:
            found.setdefault(path[head], set()).update(path[head:])
    return [sorted(nodes) for nodes in found.values()]
