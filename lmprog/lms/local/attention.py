"""Attention over what the rows of a wave share, without copying it (Hydragen, arXiv 2402.05099; cascade attention).

A token of a wave sees up to three pieces of context, of which only the last is its own:

    head     keys and values (kv_heads, P, D), one copy for the wave: instructions, demos, labels
    prompt   (M, kv_heads, L, D), one copy for each distinct prompt: what varies from row to row
    branch   (B, kv_heads, T, D), one for the replies to a prompt whose tokens are the same so far

The projections of a layer run over the packed tokens of all rows, N in one row with no padding. Its attention then goes:

1. Group the query heads that share a key head: (1, heads, N, D) becomes (kv_heads, group, N, D).
2. Attend to each piece apart, which gives an output o_i and the log-sum-exp l_i of its scores. Each piece wants another
   batch: the head takes all N tokens as one, a prompt the tokens of its own branches, a branch its own token alone.
3. Join: softmax over the whole context is sum_i w_i o_i with w = softmax(l), since exp(l_i) is the mass of piece i before
   the scores of all pieces are divided by their sum.

In the pass over the prompts there are two pieces, the head and the prompt itself; in the passes over branches all three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmprog.lms.local import thread_count

NAME = "lmprog_wave"
SCORES = 3 * 2**19
"""Bytes of the scores, in fp32, that a processor computes at once: 1.5 MB fit the cache of a core."""
BLOCK = 128
"""Queries of a prompt that a processor takes at once."""
FEWEST = 16
"""The fewest rows that attend to a head at once, however long it is."""

Piece = tuple[Tensor, Tensor]
"""Output (kv_heads, group, N, D) and log-sum-exp (kv_heads, group, N) of the attention over one piece of context."""


@dataclass(frozen=True)
class PromptPass:
    """The forward pass over the tree of all prompts, whose N nodes stand for tokens that prompts begin with alike.

    Token l of prompt m is node `nodes[m, l]` (M, L), padded on the right with any; node n is token `slot[n]` of prompt
    `row[n]`, both (N,), and of others in which the same tokens are before it.
    """

    nodes: Tensor
    row: Tensor
    slot: Tensor


@dataclass(frozen=True)
class ReplyPass:
    """A forward pass over token number `step` of each branch of a wave: of the replies to a prompt that are the same so far.

    Branch n continues prompt `owner[n]`, and is number `place[n]` of the (at most `width`) branches of that prompt.
    """

    owner: Tensor
    place: Tensor
    width: int
    step: int


@dataclass
class Context:
    """The keys and values, by layer, that a forward pass of a wave reads and writes, and which pass it is (`now`).

    `head` has those of the tokens that all prompts share (None: no such tokens), `prompts` those of the rest of the
    prompts, of which `lengths` has the tokens of each, and `replies` those of the branches of replies.
    """

    head: list[tuple[Tensor, Tensor]] | None
    lengths: Tensor
    """(M,) tokens of each prompt after the head, on the right of which its row is padded to the longest."""
    now: PromptPass | ReplyPass
    prompts: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Written by the pass over the prompts: (M, kv_heads, L, D), padded on the right to the longest prompt."""
    replies: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """(B, kv_heads, T, D) with room for T tokens, of which the first `now.step` are in."""

    @cached_property
    def padding(self) -> Tensor:
        """(M, 1, 1, L) in fp32, minus infinity where a prompt has no token, and 0 elsewhere."""
        places = torch.arange(int(self.lengths.max()), device=self.lengths.device)
        return _minus_infinity(places >= self.lengths[:, None, None, None])

    @cached_property
    def later(self) -> Tensor:
        """(L, L) in fp32, minus infinity where a token of a prompt would attend to a later one, and 0 elsewhere."""
        longest = int(self.lengths.max())
        return _minus_infinity(torch.ones(longest, longest, dtype=torch.bool, device=self.lengths.device).triu(1))


class AttentionBackend(Protocol):
    """The interface of an attention function that stands in for that of a wave, as in training on a tree of tokens."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Map query (1, heads, N, D), key and value (1, kv_heads, N, D) to the attention output (1, N, heads, D).
        `scaling` multiplies the scores before the softmax."""
        ...


@runtime_checkable
class DifferentiableAttention(AttentionBackend, Protocol):
    """The interface of an attention with its own backward pass, for query (N, heads, D), key and value (N, kv_heads, D)."""

    def run(self, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
        """Return the output (N, heads, D) and the log-sum-exp of the scores (N, heads), from query (N, heads, D), key
        and value (N, kv_heads, D). `scaling` multiplies the scores before the softmax."""
        ...

    def run_back(
        self, gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, total: Tensor, scaling: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query (N, heads, D), key and value (N, kv_heads, D), from `gradient`, that of the
        output (N, heads, D), and what `run` returned: `output` and the log-sum-exp `total` (N, heads). `scaling`
        multiplies the scores before the softmax."""
        ...


def window_of(model: Any) -> int | None:
    """Return how many preceding tokens every layer of a model attends to: None for all of them.

    0 stands for a model with layers that have no attention of this kind (recurrent ones, for example).
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return 0
    # A config that lists its layers may still name the window that none of them has.
    return getattr(config, "sliding_window", None) if not kinds or "sliding_attention" in kinds else None


def wave_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    context: Context | AttentionBackend | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Compute a layer's attention for transformers; return the output (1, N, heads, D) and None in place of attention
    weights.

    query is (1, heads, N, D), key and value are (1, kv_heads, N, D). `context` has the keys and values of a wave, or is
    an attention to use instead; with None the stock scaled-dot-product attention is used, which alone reads
    `attention_mask` (None: causal) and `dropout`.
    """
    # What is before the first layer, as tokenizing or building a tree, is Python alone and says nothing of other processes.
    thread_count.check() if module.layer_idx else thread_count.begin_pass()
    if context is None:
        stock: tuple[Tensor, Tensor | None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return stock
    if not isinstance(context, Context):
        return context.attend(query, key, value, scaling), None
    layer = int(module.layer_idx)
    heads, tokens, size = query.shape[1:]
    kv_heads = key.shape[1]
    # Heads of one group lie side by side: query head h reads key head h // group.
    grouped = query.view(kv_heads, heads // kv_heads, tokens, size)
    pieces: list[Piece] = []
    if context.head is not None:
        shared_key, shared_value = context.head[layer]  # (kv_heads, P, D)
        # All tokens see the whole head, so the tokens of a group are one long batch of queries: no copy, and no mask.
        output, weight = _attend_head(grouped.reshape(kv_heads, -1, size), shared_key, shared_value, scaling)
        pieces.append((output.view(grouped.shape), weight.view(grouped.shape[:-1])))
    if isinstance(context.now, PromptPass):
        pieces.append(_prompt_pass(context, context.now, layer, grouped, key[0], value[0], scaling))
    else:
        pieces.append(_prompt_read(context, context.now, layer, grouped, scaling))
        pieces.append(_reply_pass(context, context.now, layer, grouped, key[0], value[0], scaling))
    joined = _join(pieces).to(query.dtype)  # (kv_heads, group, N, D)
    return joined.reshape(heads, tokens, size).transpose(0, 1).unsqueeze(0), None


def _minus_infinity(where: Tensor) -> Tensor:
    return torch.zeros(where.shape, device=where.device).masked_fill_(where, float("-inf"))


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, hidden: Tensor | None = None) -> Piece:
    """Return the attention of query (..., N, D) over (..., P, D), and the log-sum-exp (..., N) of its scores, both in
    fp32. Each query must see one key at least.

    `hidden` (broadcast to (..., N, P); None: all keys are seen) is minus infinity where a key is not seen, and 0
    elsewhere: torch adds it in a fifth of the time that it takes to fill by a mask.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).float().mul_(scaling)
    if hidden is not None:
        scores.add_(hidden)
    # A row of scores has one key that is seen at least, so its peak is finite and nothing here is NaN.
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp_()
    total = weights.sum(-1, keepdim=True)
    output = torch.matmul(weights.to(value.dtype), value).float() / total
    return output, (peak + total.log()).squeeze(-1)


def _attend_head(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Piece:
    """Return the attention (output and log-sum-exp) of all rows of a wave (kv_heads, N, D) over the keys and values
    (kv_heads, P, D) of the head that they share.

    A processor takes as many rows at once as keep their scores in its cache: that is faster than torch's flash kernel.
    """
    rows = SCORES // (4 * key.shape[0] * key.shape[1])
    if query.device.type != "cpu" or query.shape[1] <= rows:
        return attend(query, key, value, scaling)
    parts = [attend(part, key, value, scaling) for part in query.split(max(FEWEST, rows), 1)]
    return torch.cat([output for output, _ in parts], 1), torch.cat([weight for _, weight in parts], 1)


def _attend_before(query: Tensor, key: Tensor, value: Tensor, scaling: float, later: Tensor) -> Piece:
    """Return the causal attention (output and log-sum-exp) within each prompt, for query (M, kv_heads, group, L, D), key and
    value (M, kv_heads, 1, L, D). `later` (L, L) hides the keys behind each query.

    A processor takes BLOCK queries of as many prompts at once as keep their scores in its cache, with the keys up to the
    last of them alone.
    """
    prompts, kv_heads, group, length, _ = query.shape
    if query.device.type != "cpu":
        return attend(query, key, value, scaling, later)
    output = torch.empty(query.shape, device=query.device)
    weight = torch.empty(query.shape[:-1], device=query.device)
    for start in range(0, length, BLOCK):
        here, seen = slice(start, min(start + BLOCK, length)), slice(min(start + BLOCK, length))
        at_once = max(1, SCORES // (4 * kv_heads * group * (seen.stop - start) * seen.stop))
        for first in range(0, prompts, at_once):
            of = slice(first, first + at_once)
            output[of, :, :, here], weight[of, :, :, here] = attend(
                query[of, :, :, here], key[of, :, :, seen], value[of, :, :, seen], scaling, later[here, seen]
            )
    return output, weight


def _prompt_pass(
    context: Context, now: PromptPass, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
) -> Piece:
    """Return the causal attention (output and log-sum-exp) within each prompt, for the queries (kv_heads, group, N, D) of
    the nodes, and append the prompts' keys and values of this layer to `context.prompts`, for the replies.
    """
    # From nodes (N) to one row a prompt (M, L): a node that prompts share is attended from in each of them, which costs
    # little beside the products of the layer, which it goes through once.
    padded = query[:, :, now.nodes].permute(2, 0, 1, 3, 4)  # (M, kv_heads, group, L, D)
    keys = key[:, now.nodes].transpose(0, 1).contiguous()  # (M, kv_heads, L, D), read at each token of the replies
    values = value[:, now.nodes].transpose(0, 1).contiguous()
    context.prompts.append((keys, values))
    # A padded key stands after every real query of its row, so the causal mask hides the padding too.
    output, weight = _attend_before(padded, keys.unsqueeze(2), values.unsqueeze(2), scaling, context.later)
    # Two index tensors apart put their dimension N first, hence the permutes.
    return (
        output[now.row, :, :, now.slot].permute(1, 2, 0, 3),
        weight[now.row, :, :, now.slot].permute(1, 2, 0),
    )


def _prompt_read(context: Context, now: ReplyPass, layer: int, query: Tensor, scaling: float) -> Piece:
    """Return the attention (output and log-sum-exp) of each branch's next token over the prompt that the branch continues,
    batched with the prompt's other branches.
    """
    keys, values = context.prompts[layer]  # (M, kv_heads, L, D)
    rows, kv_heads, _, size = keys.shape
    group = query.shape[1]
    # One batch entry a prompt, with a place for each of its branches: keys are read once for all of them, not copied. A
    # prompt of fewer branches than `width` has empty places, whose output is dropped.
    placed = query.new_zeros(rows, kv_heads, now.width, group, size)
    placed[now.owner, :, now.place] = query.permute(2, 0, 1, 3)
    output, weight = attend(placed.flatten(2, 3), keys, values, scaling, context.padding)
    output = output.view(rows, kv_heads, now.width, group, size)
    weight = weight.view(rows, kv_heads, now.width, group)
    return (
        output[now.owner, :, now.place].permute(1, 2, 0, 3),
        weight[now.owner, :, now.place].permute(1, 2, 0),
    )


def _reply_pass(
    context: Context, now: ReplyPass, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float
) -> Piece:
    """Write the key and value of each branch's next token into `context.replies`, and return the attention (output and
    log-sum-exp) of that token over the branch so far, the token itself included.
    """
    keys, values = context.replies[layer]
    keys[:, :, now.step] = key.transpose(0, 1)
    values[:, :, now.step] = value.transpose(0, 1)
    seen = now.step + 1  # room beyond it is not yet written
    output, weight = attend(query.permute(2, 0, 1, 3), keys[:, :, :seen], values[:, :, :seen], scaling)
    return output.permute(1, 2, 0, 3), weight.permute(1, 2, 0)


def _join(pieces: list[Piece]) -> Tensor:
    """Join the outputs (kv_heads, group, N, D) of all pieces, each weighted by its share of the attention's mass."""
    if len(pieces) == 1:
        return pieces[0][0]
    # torch's own softmax over the first of several dimensions depends on the number of threads.
    masses = torch.stack([weight for _, weight in pieces])  # (pieces, kv_heads, group, N)
    masses = masses.sub_(masses.amax(0)).exp_()
    total = masses[0]
    for mass in masses[1:]:
        total = total + mass
    weights = masses.div_(total).unsqueeze(-1)
    joined = pieces[0][0] * weights[0]
    for (output, _), weight in zip(pieces[1:], weights[1:], strict=True):
        joined = torch.addcmul(joined, output, weight)
    return joined


AttentionInterface.register(NAME, wave_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
