"""Attention over a tree of token sequences, in pieces that leave out most of what no node sees.

A mask over all N nodes costs N * N, and few of its entries are seen. Here a chain that many sequences have in common, as the
instructions and demos of a module, is a trunk, and all nodes are in the order of a walk that goes down before it goes aside:

    what is below a trunk   attends to the whole trunk, with no mask
    blocks of the walk      attend each to itself, and to what is above its first node and is no trunk, by the tree's mask

What any node of a block sees outside of the block is above the block's first node too: a subtree is one stretch of the walk.
So a block asks about as many nodes as its first one is deep below its trunk.

Forward, for query (N, heads, D), key and value (N, kv_heads, D):

1. Cut the tree into pieces, once for all layers (`_pieces`). Each is a batch of B groups with Q asking and K asked nodes.
2. Attend in each piece: its output (n, heads, D) and log-sum-exp (n, heads), for the n nodes that ask.
3. Join them one by one into the output and log-sum-exp so far: with l = log(exp(l_1) + exp(l_2)), the output is
   exp(l_1 - l) o_1 + exp(l_2 - l) o_2, as in a wave of the engine.

Backward, with the joined output o and log-sum-exp l (as in ring attention, arXiv 2310.01889):

4. The probabilities p = exp(score - l) are computed again, and the gradient of a score is p * (do . v - do . o). With the
   joined l and o in place of the piece's own, p is the share of the whole context. So the gradients of the pieces add
   up, and joining needs no gradient of its own.
5. Add each piece's gradient of its queries at its nodes, and those of its keys and values summed over all groups in which a
   node is asked.

For processors only: the scores of a piece are computed in parts that stay in the cache, by plain products, which takes a
fraction of the time of torch's own flash kernel there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor

from lmprog.lms.local.attention import FEWEST, SCORES, attend
from lmprog.optimizers.grpo.prefix_tree import PrefixTree

BLOCK = 64
"""Nodes of a block, and the fewest of a trunk."""
BELOW = 4
"""Blocks below a trunk, at least: else it is not worth a piece of its own."""

Part = tuple[slice, slice]
"""Groups of a piece, and rows of queries in each of them, whose scores are computed at once."""


class TreeAttention:
    """The attention over one tree of tokens, for every layer of a model: each token sees its ancestors and itself.

    The engine's attention function takes it as `context`.
    """

    def __init__(self, tree: PrefixTree) -> None:
        self._pieces = list(_pieces(tree))
        # Rows of all pieces, end to end, in which each node is asked: those of node 0, of node 1, and so on, and where the rows
        # of each node begin, with their end.
        bases = numpy.cumsum([0, *(piece.asked.numel() for piece in self._pieces)])
        node_of = torch.cat([piece.asked.flatten()[piece.seen] for piece in self._pieces])
        rows = torch.cat([piece.seen + int(base) for piece, base in zip(self._pieces, bases, strict=False)])
        self._rows = rows[node_of.argsort(stable=True)]
        self._offsets = torch.cat([node_of.new_zeros(1), node_of.bincount(minlength=len(tree)).cumsum(0)])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Map query (1, heads, N, D), key and value (1, kv_heads, N, D) to the attention output (1, N, heads, D).
        `scaling` multiplies the scores before the softmax."""
        rows = [each[0].transpose(0, 1) for each in (query, key, value)]  # nodes first: pieces index nodes
        output: Tensor = _Attention.apply(*rows, self, scaling)
        return output.unsqueeze(0)

    def run(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        """Return the output (N, heads, D) and the log-sum-exp of the scores (N, heads), from query (N, heads, D), key
        and value (N, kv_heads, D). `scaling` multiplies the scores before the softmax."""
        # A log-sum-exp of minus infinity is no mass yet: the first piece of a node replaces what is there. Every node asks
        # in one piece at least, the block that holds it.
        output = query.new_zeros(query.shape)
        total = torch.full(query.shape[:2], float("-inf"), device=query.device)
        for piece in self._pieces:
            found, own = piece.run(query, key, value, scaling)
            joined = _log_of_sum(total[piece.nodes], own)
            before, here = ((each - joined).exp_().unsqueeze(-1) for each in (total[piece.nodes], own))
            output[piece.nodes] = (output[piece.nodes] * before + found * here).to(output.dtype)
            total[piece.nodes] = joined
        return output, total

    def run_back(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, total: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query (N, heads, D), key and value (N, kv_heads, D), from `gradient`, that of the
        output (N, heads, D), and what `run` returned: `output` and the log-sum-exp `total` (N, heads). `scaling`
        multiplies the scores before the softmax."""
        # Sums over pieces are in fp32, whatever the number format of the model.
        of_query = torch.zeros(query.shape, device=query.device)
        of_keys, of_values = [], []
        along = torch.linalg.vecdot(gradient.float(), output.float())  # (N, heads): do . o
        for piece in self._pieces:
            own, of_key, of_value = piece.run_back(gradient, query, key, value, total, along, scaling)
            of_query[piece.nodes] += own
            of_keys.append(of_key)
            of_values.append(of_value)
        return of_query.to(query.dtype), self._summed(of_keys).to(key.dtype), self._summed(of_values).to(value.dtype)

    def _summed(self, pieces: Sequence[Tensor]) -> Tensor:
        """Sum the rows (B * K, kv_heads, D) of all pieces, in which a node has several, to (N, kv_heads, D)."""
        # A bag is a node, its members the rows that it has in any group of any piece.
        summed = torch.nn.functional.embedding_bag(
            self._rows, torch.cat(list(pieces)).flatten(1), self._offsets, mode="sum", include_last_offset=True
        )
        return summed.unflatten(1, pieces[0].shape[1:])


class _Attention(torch.autograd.Function):  # type: ignore[misc]
    """The attention of query (N, heads, D) over key and value (N, kv_heads, D), with the output (N, heads, D)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attention: TreeAttention, scaling: float
    ) -> Tensor:
        output, total = attention.run(query, key, value, scaling)
        ctx.save_for_backward(query, key, value, output, total)
        ctx.attention, ctx.scaling = attention, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.attention.run_back(gradients[0], *ctx.saved_tensors, ctx.scaling), None, None


def _log_of_sum(left: Tensor, right: Tensor) -> Tensor:
    """Return log(exp(left) + exp(right)), `right` finite; torch's own logaddexp depends on the number of threads."""
    return torch.maximum(left, right).add_((left - right).abs_().neg_().exp_().log1p_())


@dataclass(frozen=True)
class _Piece:
    """B groups of nodes, side by side, each of which asks nodes of its own."""

    asking: Tensor
    """(B, Q) the nodes; in the last group the last may stand again and again."""
    asked: Tensor
    """(B, K), where fewer are asked filled with any that are hidden."""
    hidden: Tensor | None
    """(B, Q, K) True where a node does not see another; None where all see all."""
    nodes: Tensor
    """(n,) those that ask, once each."""
    seen: Tensor
    """The places in `asked`, laid end to end, that any of the group's nodes sees: not those that are filled."""
    masks: dict[tuple[torch.dtype, int], Tensor] = field(default_factory=dict)
    """Masks that `_mask` has made, by number format and query heads of a key head."""

    @staticmethod
    def of(asking: Tensor, asked: Tensor, hidden: Tensor | None) -> _Piece:
        """Return a piece of these nodes and what they attend to, as its fields of the same names say."""
        flat = asking.flatten()
        repeated = int((flat == flat[-1]).sum()) - 1
        seen = torch.ones(asked.shape, dtype=torch.bool) if hidden is None else ~hidden.all(1)
        return _Piece(asking, asked, hidden, flat[: len(flat) - repeated], torch.nonzero(seen.flatten()).squeeze(1))

    def run(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        """Return the attention output (n, heads, D) and the log-sum-exp (n, heads) of the scores, of the nodes that
        ask, from query, key and value of all N nodes."""
        asking, keys, values = self._asking(query, key), self._asked(key), self._asked(value)
        mask = self._mask(query, key)
        output = torch.empty(asking.shape)
        total = torch.empty(asking.shape[:-1])
        for of, rows in _parts(asking, keys):
            output[of, :, rows], total[of, :, rows] = attend(
                asking[of, :, rows], keys[of], values[of], scaling, mask[of, :, rows] if mask is not None else None
            )
        return self._apart(output), self._apart(total)

    def run_back(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, total: Tensor, along: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the query (n, heads, D), and of the keys and the values of `asked`, (B * K, kv_heads, D)
        in fp32. `total` is the log-sum-exp of all scores of a node, `along` the product of its output and its gradient,
        both (N, heads)."""
        asking, keys, values = self._asking(query, key), self._asked(key), self._asked(value)
        incoming = self._asking(gradient, key)
        total, along = (self._asking(each, key).unsqueeze(-1) for each in (total, along))
        # The repeats of the last node fill the end of the last group. Their queries would add to the gradients of keys and
        # values again; with an incoming gradient of 0 they add 0. `of_query` leaves them out by `_apart`.
        repeats = slice(
            asking.shape[2] - (self.asking.numel() - len(self.nodes)) * (query.shape[1] // key.shape[1]), None
        )
        incoming[-1, :, repeats] = along[-1, :, repeats] = 0
        mask = self._mask(query, key)
        of_query = torch.empty_like(asking)
        of_key, of_value = torch.zeros(keys.shape), torch.zeros(values.shape)
        for of, rows in _parts(asking, keys):
            here = of, slice(None), rows
            scores = torch.matmul(asking[here], keys[of].transpose(-1, -2)).float().mul_(scaling)
            if mask is not None:
                scores.add_(mask[here])
            shares = scores.sub_(total[here]).exp_()
            of_scores = torch.matmul(incoming[here], values[of].transpose(-1, -2)).float()
            of_scores = of_scores.sub_(along[here]).mul_(shares).mul_(scaling).to(query.dtype)
            of_value[of] += torch.matmul(shares.to(query.dtype).transpose(-1, -2), incoming[here])
            of_key[of] += torch.matmul(of_scores.transpose(-1, -2), asking[here])
            of_query[here] = torch.matmul(of_scores, keys[of])
        return self._apart(of_query), *(each.transpose(1, 2).flatten(0, 1) for each in (of_key, of_value))

    def _asking(self, rows: Tensor, key: Tensor) -> Tensor:
        """Reshape (N, heads, ...) to (B, kv_heads, Q * group, ...): queries of the same keys stand side by side."""
        return rows[self.asking].unflatten(2, (key.shape[1], -1)).transpose(1, 2).flatten(2, 3).contiguous()

    def _asked(self, rows: Tensor) -> Tensor:
        """Reshape (N, kv_heads, D) to (B, kv_heads, K, D)."""
        return rows[self.asked].transpose(1, 2)

    def _apart(self, batch: Tensor) -> Tensor:
        """Reshape (B, kv_heads, Q * group, ...) to (n, heads, ...)."""
        rows = batch.unflatten(2, (self.asking.shape[1], -1)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return rows[: len(self.nodes)]

    def _mask(self, query: Tensor, key: Tensor) -> Tensor | None:
        """Return what is added to the scores, (B, 1, Q * group, K) for all key heads; None where nothing is hidden."""
        if self.hidden is None:
            return None
        made = query.dtype, query.shape[1] // key.shape[1]
        if made not in self.masks:  # one for all layers, in both directions
            mask = torch.zeros(self.hidden.shape, dtype=query.dtype).masked_fill_(self.hidden, float("-inf"))
            self.masks[made] = mask.repeat_interleave(made[1], 1).unsqueeze(1)
        return self.masks[made]


def _parts(asking: Tensor, keys: Tensor) -> Iterator[Part]:
    """Yield the parts of queries (B, kv_heads, R, D) over keys (B, kv_heads, K, D) whose scores in fp32 fit SCORES bytes,
    of FEWEST rows at least: each part reads all keys."""
    groups, kv_heads, rows = asking.shape[:3]
    at_once = max(FEWEST, SCORES // (4 * kv_heads * keys.shape[2]))  # rows of queries
    for first in range(0, groups, max(1, at_once // rows)):
        of = slice(first, first + max(1, at_once // rows))
        for start in range(0, rows, at_once):
            yield of, slice(start, start + at_once)


def _pieces(tree: PrefixTree) -> Iterator[_Piece]:
    """Yield pieces in which every node of the tree attends to itself and to each node above it exactly once.

    1. Follow the tree down, a chain of single children at a time.
    2. A chain of at least BLOCK nodes, with at least BELOW blocks of nodes below it, is a trunk: its own nodes are blocks of a
       walk, all nodes below it attend to it in one piece, and what is below it is cut the same way.
    3. All other chains are laid end to end in the walk, which is cut into blocks.
    """
    above = _above(tree.paths)
    below: dict[int, list[int]] = {}
    for node, parent in enumerate(above):
        below.setdefault(parent, []).append(node)
    sizes = [1] * len(above)
    for node in reversed(range(len(above))):  # parents stand before their children
        if above[node] >= 0:
            sizes[above[node]] += sizes[node]

    def under(roots: Sequence[int], covered: frozenset[int]) -> Iterator[_Piece]:
        """Yield the pieces of the subtrees below `roots`.

        Every node there attends to the `covered` nodes in another piece.
        """
        walk: list[int] = []
        # A stack, with the first child on top: it goes down before it goes aside.
        waiting = [*reversed(roots)]
        while waiting:
            chain = [waiting.pop()]
            while len(below.get(chain[-1], ())) == 1:
                chain += below[chain[-1]]
            after = below.get(chain[-1], [])
            if len(chain) >= BLOCK and sizes[chain[0]] - len(chain) >= BELOW * BLOCK:
                yield from _blocks(tree, above, chain, covered)
                yield _Piece.of(torch.tensor([_walk(below, after)]), torch.tensor([chain]), None)
                yield from under(after, covered | {*chain})
            else:
                walk += chain
                waiting += reversed(after)
        yield from _blocks(tree, above, walk, covered)

    yield from under(below.get(-1, []), frozenset())


def _blocks(tree: PrefixTree, above: Sequence[int], walk: Sequence[int], covered: Collection[int]) -> Iterator[_Piece]:
    """Yield the pieces in which a stretch of the walk attends to itself and to the nodes above it.

    Nodes in `covered` are left out. One piece is for all blocks that attend to about as many nodes: each is filled to
    the same number, BLOCK times a power of two. That takes few calls of the kernel, and less than doubles what a whole block
    attends to.
    """
    of_width: dict[int, list[tuple[list[int], list[int]]]] = {}
    for start in range(0, len(walk), BLOCK):
        block = list(walk[start : start + BLOCK])
        # What is above any node of the block and not in it is above its first node: see the module.
        asked, node = list(block), above[block[0]]
        while node >= 0:
            if node not in covered:
                asked.append(node)
            node = above[node]
        width = BLOCK << ((len(asked) - 1) // BLOCK).bit_length()
        of_width.setdefault(width, []).append((block, asked))
    for width, blocks in of_width.items():
        # Only the last block of a walk is shorter than the others, so only the last group of a piece has repeats.
        length = max(len(block) for block, _ in blocks)
        asking = torch.tensor([block + block[-1:] * (length - len(block)) for block, _ in blocks])
        filled = torch.tensor([asked + asked[:1] * (width - len(asked)) for _, asked in blocks])
        hidden = ~tree.mask[asking.unsqueeze(2), filled.unsqueeze(1)]
        for number, (_, asked) in enumerate(blocks):
            # The filler is a node that may well be seen, and would count twice.
            hidden[number, :, len(asked) :] = True
        yield _Piece.of(asking, filled, hidden)


def _above(paths: Sequence[Sequence[int]]) -> list[int]:
    """Return the parent of each node, -1 for a node that begins a sequence."""
    found = {node: parent for path in paths for parent, node in zip([-1, *path], path, strict=False)}
    return [found[node] for node in range(len(found))]


def _walk(below: Mapping[int, Sequence[int]], roots: Sequence[int]) -> list[int]:
    """Return all nodes of the subtrees, each followed by the nodes below it."""
    walk: list[int] = []
    waiting = [*reversed(roots)]
    while waiting:
        walk.append(waiting.pop())
        waiting += reversed(below.get(walk[-1], ()))
    return walk
