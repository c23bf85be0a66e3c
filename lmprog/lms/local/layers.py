"""A decoder layer of the Llama shape as few, large operations: for waves here, for training in `layer_gradients.py`.

Per layer, for the N packed tokens of a pass with hidden state h (N, E), H query heads and K key heads of size D:

1. x = norm(h) (N, E), one kernel.
2. Queries, keys and values are one product of x with one matrix, (N, (H + 2 K) D). The LoRA factors of the three are one
   product down, (N, r) with r the sum of their ranks, and one up, by a matrix of blocks on its diagonal.
3. Rotary positions turn queries and keys at once, (N, H + K, D), in place of two times eight operations.
4. Attention as the pass has it (attention.py), (N, H D).
5. h + o W', the sum within the product, and its LoRA part.
6. Gate and up are one product, (N, 2 I); silu(gate) up; the product down is added to h.

The matrices of the layer become views of the joined ones, so that joining costs no memory. Equal to transformers' layer within
the rounding of the number format: sums with the residual are rounded once less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lmprog.lms.local.packed import joined_product

SHAPES = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"})
"""Layers of transformers whose arithmetic is that of this module."""


def decoder_layers(model: Any) -> list[DecoderLayer]:
    """Return those decoder layers of `model` that this module can compute (those whose parts have the form of Llama's),
    in order; other layers use their own `forward`."""
    return [DecoderLayer(part) for part in model.modules() if _is_known(part)]


def _is_known(part: Any) -> bool:
    if type(part).__name__ not in SHAPES or not type(part).__module__.startswith("transformers."):
        return False
    parts = DecoderLayer(part)
    return type(part.mlp.act_fn).__name__ in ("SiLU", "SiLUActivation") and all(
        type(base_of(layer)) is torch.nn.Linear for group in parts.groups for layer in group
    )


def base_of(layer: Any) -> Any:
    """Return the linear layer that peft has put a LoRA layer around, or the layer itself."""
    return getattr(layer, "base_layer", layer)


class DecoderLayer:
    """A decoder layer of transformers, with its linear layers in groups that have one input: query, key and value; the
    attention's output; gate and up; the last product.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.attention, self.mlp = layer.self_attn, layer.mlp
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        attention, mlp = self.attention, self.mlp
        self.groups: tuple[tuple[Any, ...], ...] = (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
        """Linear layers with one input each: of the attention, of its output, of the gate, of the last product."""

    @property
    def bases(self) -> list[list[Any]]:
        """The plain linear layers of each group, without the LoRA layers that peft has put around them."""
        return [[base_of(layer) for layer in group] for group in self.groups]

    def shape(self, hidden: Tensor) -> tuple[int, int, int]:
        """Return three numbers for the input `hidden` (..., N, E): N, its tokens in a row, the query heads, and the key
        heads.
        """
        size = self.attention.head_dim
        query, key, _ = self.bases[0]
        return hidden.shape[-2], query.out_features // size, key.out_features // size


def norm(hidden: Tensor, module: Any) -> Tensor:
    """Return `hidden` (N, E) over its root mean square, times the weights of the norm layer `module`."""
    return torch.nn.functional.rms_norm(hidden, hidden.shape[-1:], module.weight, module.variance_epsilon)


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the heads (N, heads, D) rotated to their tokens' positions (rotary embedding); `cos` and `sin` are (N, 1, D)."""
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    turned = heads * cos
    turned[..., :half].addcmul_(second, sin[..., :half], value=-1)
    turned[..., half:].addcmul_(first, sin[..., half:])
    return turned


def gated(gate_and_up: Tensor) -> Tensor:
    """Return silu(gate) * up (N, I), from both side by side in one matrix (N, 2 I)."""
    gate, up = gate_and_up.chunk(2, -1)
    return torch.nn.functional.silu(gate).mul_(up)


@dataclass(frozen=True)
class Factors:
    """The LoRA factors `down` and `up` of a group of layers with one input, in the number format of the weights: x -> x
    down' up'. The scale of the adapter is in `up`.

    `parts` has each layer with its rows of `down` and its rows of `up`.
    """

    down: Tensor
    """(r, in), r the sum of the ranks."""
    up: Tensor
    """(out, r) with the scale of each adapter, and zeros where a rank is not that of the output."""
    parts: tuple[tuple[Any, slice, slice], ...]
    """The layers that have an adapter, each with its rows of `down` and its rows of `up`."""


def factors(group: Sequence[Any], name: str | None) -> Factors | None:
    """Return the factors of adapter `name` for the layers of a group, with zeros for a layer without it; None where
    none of them has it, and for None, no adapter.
    """
    parts, rank, outs = [], 0, 0
    for layer in group:
        out = base_of(layer).out_features
        if name in getattr(layer, "lora_A", {}):
            own = layer.lora_A[name].weight.shape[0]
            parts.append((layer, slice(rank, rank + own), slice(outs, outs + out)))
            rank += own
        outs += out
    if not parts:
        return None
    weight = base_of(group[0]).weight
    down = weight.new_empty(rank, weight.shape[1])
    up = weight.new_zeros(outs, rank)
    with torch.no_grad():
        for layer, ranks, rows in parts:
            down[ranks] = layer.lora_A[name].weight
            up[rows, ranks] = layer.lora_B[name].weight * layer.scaling[name]
    return Factors(down, up, tuple(parts))


_joined: WeakKeyDictionary[Any, tuple[Tensor, Tensor | None]] = WeakKeyDictionary()
"""Per first layer of a group: the weights of all layers of the group, one below the other, and their biases."""


def joined(layers: Sequence[Any]) -> tuple[Tensor, Tensor | None]:
    """Return the weights (out, in) and biases (out,) of linear layers that have one input, joined to one; `out` is
    their sum. The biases are None where no layer has one, and zeros for a layer that has none beside others.

    The weights and biases of the layers become views of the joined ones; where they have been replaced since, they are
    joined again.
    """
    if len(layers) == 1:
        return layers[0].weight.detach(), None if layers[0].bias is None else layers[0].bias.detach()
    kept = _joined.get(layers[0])
    if kept is None or not (_are_views(layers, kept[0]) and _has_biases(layers, kept[1])):
        weight = torch.cat([layer.weight.detach() for layer in layers])
        rows = weight.split([layer.out_features for layer in layers])
        for layer, own in zip(layers, rows, strict=True):
            layer.weight.data = own
        biases = [layer.bias for layer in layers]
        bias = None
        if any(each is not None for each in biases):
            bias = torch.cat(
                [
                    weight.new_zeros(layer.out_features) if each is None else each.detach()
                    for layer, each in zip(layers, biases, strict=True)
                ]
            )
            for each, own in zip(biases, bias.split([layer.out_features for layer in layers]), strict=True):
                if each is not None:
                    each.data = own
        kept = _joined[layers[0]] = (weight, bias)
    return kept


def _has_biases(layers: Sequence[Any], bias: Tensor | None) -> bool:
    """Return whether the biases of the layers are parts of the joined `bias` (None: no layer has one)."""
    if bias is None:
        return all(layer.bias is None for layer in layers)
    parts = bias.split([layer.out_features for layer in layers])
    return all(
        layer.bias is None or layer.bias.data_ptr() == own.data_ptr() for layer, own in zip(layers, parts, strict=True)
    )


def _are_views(layers: Sequence[Any], weight: Tensor) -> bool:
    place = weight.data_ptr()
    for layer in layers:
        if layer.weight.data_ptr() != place or layer.weight.dtype != weight.dtype:
            return False
        place += layer.weight.numel() * weight.element_size()
    return True


def wave_forward(layer: DecoderLayer, name: str | None) -> Callable[..., Tensor]:
    """Return a function in place of the layer's `forward`, for passes without gradients, with the present values of adapter
    `name` (None: no adapter). A batch of several rows is left to the layer's own `forward`.
    """
    products = [joined_product(bases, *joined(bases)) for bases in layer.bases]
    adapters = [_applied(factors(group, name)) for group in layer.groups]
    own = type(layer.layer).forward.__get__(layer.layer)
    attention, size = layer.attention, layer.attention.head_dim

    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        position_embeddings: Any = None,
        **more: Any,
    ) -> Tensor:
        cos, sin = position_embeddings
        if hidden_states.shape[0] != 1 or cos.shape[-1] != size:
            answer: Tensor = own(
                hidden_states,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                position_embeddings=position_embeddings,
                **more,
            )
            return answer
        hidden = hidden_states[0]  # (N, E)
        tokens, heads, kv_heads = layer.shape(hidden)
        x = norm(hidden, layer.before)
        mixed = adapters[0](products[0](x, None), x).view(tokens, heads + 2 * kv_heads, size)
        turned = rotated(mixed[:, : heads + kv_heads], cos[0].unsqueeze(1), sin[0].unsqueeze(1))
        # (1, heads, N, D), as transformers hands them to an attention function
        query, key, value = (
            each.transpose(0, 1).unsqueeze(0)
            for each in (turned[:, :heads], turned[:, heads:], mixed[:, heads + kv_heads :])
        )
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, attention.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation]
        seen = attend(attention, query, key, value, attention_mask, dropout=0.0, scaling=attention.scaling, **more)[0]
        seen = seen.reshape(tokens, -1)
        hidden = adapters[1](products[1](seen, hidden), seen)
        x = norm(hidden, layer.between)
        inner = gated(adapters[2](products[2](x, None), x))
        return adapters[3](products[3](inner, hidden), inner).unsqueeze(0)

    return forward


def _applied(of: Factors | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that adds the adapters' part of x (N, in) to the products (N, out) of the weights with x, in
    place; for None, no adapter, it returns the products as they are.
    """
    if of is None:
        return lambda out, x: out
    down, up = of.down.t().contiguous(), of.up.t().contiguous()
    return lambda out, x: out.addmm_(x @ down, up)
