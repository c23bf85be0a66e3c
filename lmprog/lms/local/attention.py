"""Attention over what the rows of a wave share, without copying it (Hydragen, arXiv 2402.05099; cascade attention).

A token of a wave sees up to three pieces of context, of which only the last is its own:

    head     keys and values (kv_heads, P, D), one copy for the wave: instructions, demos, labels
    prompt   (M, kv_heads, L, D), one copy for each distinct prompt: what varies from row to row
    reply    (R, kv_heads, T, D), one for each sampled reply

Each piece is attended to apart, giving an output and the log-sum-exp of its scores; softmax over the whole context is
their mean weighted by exp(log-sum-exp). The projections around it run over the packed tokens of all rows, with no padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "lmprog_wave"


@dataclass
class Context:
    """The keys and values that one forward pass reads and writes, by layer.

    Exactly one of two kinds of pass: over prompts (`row` and `slot` place each packed token in the padded prompts), or over
    the next token of each reply (`owner` and `place` say which prompt a reply continues and its place among that prompt's).
    """

    head: list[tuple[Tensor, Tensor]] | None
    prompts: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    replies: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    lengths: Tensor | None = None
    """(M,) tokens of each prompt after the head."""
    row: Tensor | None = None
    slot: Tensor | None = None
    owner: Tensor | None = None
    place: Tensor | None = None
    width: int = 0
    """Places of the fullest prompt: replies that still run and continue it."""
    step: int = 0


def wave_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    context: Context | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The function that transformers calls in each layer: query (1, heads, N, D), key and value (1, kv_heads, N, D).

    Without a `context` it is the stock scaled-dot-product attention, as in training.
    """
    if context is None:
        return ALL_ATTENTION_FUNCTIONS["sdpa"](
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    layer = module.layer_idx
    heads, tokens, size = query.shape[1:]
    kv_heads = key.shape[1]
    grouped = query.view(kv_heads, heads // kv_heads, tokens, size)
    pieces = []
    if context.head is not None:
        shared_key, shared_value = context.head[layer]
        output, weight = _attend(grouped.reshape(kv_heads, -1, size), shared_key, shared_value, scaling)
        pieces.append((output.view(grouped.shape), weight.view(grouped.shape[:-1])))
    if context.row is not None:
        pieces.append(_prompt_pass(context, layer, grouped, key[0], value[0], scaling))
    else:
        pieces.append(_prompt_read(context, layer, grouped, scaling))
        pieces.append(_reply_pass(context, layer, grouped, key[0], value[0], scaling))
    joined = _join(pieces).to(query.dtype)
    return joined.reshape(heads, tokens, size).transpose(0, 1).unsqueeze(0), None


def _attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, hidden: Tensor | None = None):
    """Attention of query (..., N, D) over (..., P, D), and the log-sum-exp (..., N) of its scores.

    `hidden` (broadcast to (..., N, P)) is True where a key is not seen.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).float().mul_(scaling)
    if hidden is not None:
        scores.masked_fill_(hidden, float("-inf"))
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub_(peak).exp_()
    total = weights.sum(-1, keepdim=True)
    output = torch.matmul(weights.to(value.dtype), value).float() / total
    return output, (peak + total.log()).squeeze(-1)


def _prompt_pass(context: Context, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float):
    """Prompts read themselves, causally; their keys and values are kept for the replies."""
    rows, longest = int(context.lengths.numel()), int(context.lengths.max())
    kv_heads, group, _, size = query.shape
    padded = query.new_zeros(rows, kv_heads, group, longest, size)
    padded[context.row, :, :, context.slot] = query.permute(2, 0, 1, 3)
    keys = key.new_zeros(rows, kv_heads, longest, size)
    values = value.new_zeros(rows, kv_heads, longest, size)
    keys[context.row, :, context.slot] = key.transpose(0, 1)
    values[context.row, :, context.slot] = value.transpose(0, 1)
    context.prompts.append((keys, values))
    later = torch.ones(longest, longest, dtype=torch.bool, device=query.device).triu(1)
    # A padded key stands after every real query of its row, so the causal mask hides the padding too.
    output, weight = _attend(padded, keys.unsqueeze(2), values.unsqueeze(2), scaling, later)
    return (
        output[context.row, :, :, context.slot].permute(1, 2, 0, 3),
        weight[context.row, :, :, context.slot].permute(1, 2, 0),
    )


def _prompt_read(context: Context, layer: int, query: Tensor, scaling: float):
    """Each reply's next token reads the prompt that it continues, beside the other replies of that prompt."""
    keys, values = context.prompts[layer]
    rows, kv_heads, longest, size = keys.shape
    group = query.shape[1]
    placed = query.new_zeros(rows, kv_heads, context.width, group, size)
    placed[context.owner, :, context.place] = query.permute(2, 0, 1, 3)
    hidden = torch.arange(longest, device=query.device) >= context.lengths[:, None, None, None]
    output, weight = _attend(placed.flatten(2, 3), keys, values, scaling, hidden)
    output = output.view(rows, kv_heads, context.width, group, size)
    weight = weight.view(rows, kv_heads, context.width, group)
    return (
        output[context.owner, :, context.place].permute(1, 2, 0, 3),
        weight[context.owner, :, context.place].permute(1, 2, 0),
    )


def _reply_pass(context: Context, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float):
    """Each reply's next token reads what the reply has said so far, itself included."""
    keys, values = context.replies[layer]
    keys[:, :, context.step] = key.transpose(0, 1)
    values[:, :, context.step] = value.transpose(0, 1)
    seen = context.step + 1
    output, weight = _attend(query.permute(2, 0, 1, 3), keys[:, :, :seen], values[:, :, :seen], scaling)
    return output.permute(1, 2, 0, 3), weight.permute(1, 2, 0)


def _join(pieces: list[tuple[Tensor, Tensor]]) -> Tensor:
    if len(pieces) == 1:
        return pieces[0][0]
    weights = torch.stack([weight for _, weight in pieces]).softmax(0).unsqueeze(-1)
    joined = pieces[0][0] * weights[0]
    for (output, _), weight in zip(pieces[1:], weights[1:], strict=True):
        joined = torch.addcmul(joined, output, weight)
    return joined


AttentionInterface.register(NAME, wave_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
