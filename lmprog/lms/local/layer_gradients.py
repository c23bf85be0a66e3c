"""A decoder layer of the Llama shape for training passes: the forward of `layers.py`, and its gradients written out.

Left to autograd, a layer keeps some twenty tensors of N rows, those of its norms in fp32, and runs over them in as many small
operations. Kept here, for N tokens: the layer's input and the hidden state between its halves (N, E), the turned queries and
keys and the values (N, (H + 2 K) D), the attention's output (N, H D), gate and up (N, 2 I). Norms and silu(gate) up are made
again, which costs less than to read them from memory.

Backward, with the gradient g (N, E) of the layer's output, which is also that of the residual:

1. Down: g W is the gradient of a = silu(gate) up, from which those of gate and up follow: g_a silu(gate) for up, and
   g_a up silu'(gate) for the gate.
2. Gate and up: their gradient (N, 2 I) times the joined matrix is the gradient of the second norm's output; that of the norm
   is added to the residual's.
3. Output: times its matrix, the gradient of the attention's output.
4. Attention: the context's own backward, for queries, keys and values.
5. Rotary positions turned back, then the joined product, then the first norm.

At each product the LoRA factors get theirs: for inner = x down' and out = inner up', that of up is g' inner and that of down
(g up)' x, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lmprog.lms.local import thread_count
from lmprog.lms.local.attention import DifferentiableAttention
from lmprog.lms.local.layers import DecoderLayer, Factors, factors, gated, joined, norm, rotated
from lmprog.lms.local.sums import over_rows


def learning_forward(layer: DecoderLayer, name: str) -> Callable[..., Tensor]:
    """Return a function in place of the layer's `forward`, from hidden states (1, N, E) to hidden states (1, N, E),
    through which gradients reach the LoRA matrices of adapter `name`.

    It computes passes whose context has an attention with a backward pass of its own; others use the layer's own
    `forward`.
    """
    own = type(layer.layer).forward.__get__(layer.layer)
    matrices = [
        matrix
        for group in layer.groups
        for each in group
        if name in getattr(each, "lora_A", {})
        for matrix in (each.lora_A[name].weight, each.lora_B[name].weight)
    ]

    def forward(
        hidden_states: Tensor, *args: Any, position_embeddings: Any = None, context: Any = None, **more: Any
    ) -> Tensor:
        cos, sin = position_embeddings
        if not isinstance(context, DifferentiableAttention) or cos.shape[-1] != layer.attention.head_dim:
            answer: Tensor = own(hidden_states, *args, position_embeddings=position_embeddings, context=context, **more)
            return answer
        turns = (cos[0].unsqueeze(1), sin[0].unsqueeze(1))
        found: Tensor = _Layer.apply(hidden_states[0], turns, context, layer, name, *matrices)
        return found.unsqueeze(0)

    return forward


class _Product:
    """The product of x (N, in) with the weights and adapters of layers that have one input."""

    def __init__(self, bases: Sequence[Any], of: Factors | None) -> None:
        self.weight, self.bias = joined(bases)
        self.of = of

    def forward(self, x: Tensor, residual: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return x W' + x down' up', plus the bias and the residual where there are such (None: none), and x down' (N, r),
        None for layers without the adapter.
        """
        added = self.bias if residual is None else residual if self.bias is None else residual + self.bias
        out = x @ self.weight.t() if added is None else torch.addmm(added, x, self.weight.t())
        if self.of is None:
            return out, None
        inner = x @ self.of.down.t()
        return out.addmm_(inner, self.of.up.t()), inner

    def backward(
        self, gradient: Tensor, x: Tensor, inner: Tensor | None, name: str, wanted: bool = True
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Return the gradient of x (None where it is not `wanted`), and those of the adapters' matrices, in the order of
        `parts`: for each layer that of `down`, then that of `up`.
        """
        found = gradient @ self.weight if wanted else None
        if self.of is None or inner is None:
            return found, []
        of_inner = gradient @ self.of.up
        if found is not None:
            found.addmm_(of_inner, self.of.down)
        of_down, of_up = over_rows(of_inner, x), over_rows(gradient, inner)
        matrices = []
        for layer, ranks, rows in self.of.parts:
            matrices += [of_down[ranks], of_up[rows, ranks] * layer.scaling[name]]
        return found, matrices


class _Layer(torch.autograd.Function):  # type: ignore[misc]
    """The layer from its input (N, E) to its output; see the module for what is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        turns: tuple[Tensor, Tensor],
        context: DifferentiableAttention,
        layer: DecoderLayer,
        name: str,
        *matrices: Tensor,
    ) -> Tensor:
        thread_count.check() if layer.attention.layer_idx else thread_count.begin_pass()
        mixing, leaving, widening, closing = products = [
            _Product(bases, factors(group, name)) for bases, group in zip(layer.bases, layer.groups, strict=True)
        ]
        tokens, heads, kv_heads = layer.shape(hidden)
        mixed, inner_mixed = mixing.forward(norm(hidden, layer.before))
        mixed = mixed.view(tokens, heads + 2 * kv_heads, -1)
        mixed[:, : heads + kv_heads] = rotated(mixed[:, : heads + kv_heads], *turns)
        query, key, value = mixed.split([heads, kv_heads, kv_heads], 1)
        seen, total = context.run(query, key, value, layer.attention.scaling)
        between, inner_seen = leaving.forward(seen.view(tokens, -1), hidden)
        wide, inner_wide = widening.forward(norm(between, layer.between))
        out, inner_out = closing.forward(gated(wide), between)
        ctx.save_for_backward(hidden, mixed, seen, total, between, wide)
        ctx.inner = (inner_mixed, inner_seen, inner_wide, inner_out)
        ctx.products, ctx.turns, ctx.context, ctx.layer, ctx.name = products, turns, context, layer, name
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        thread_count.check()
        hidden, mixed, seen, total, between, wide = ctx.saved_tensors
        layer, name, (cos, sin) = ctx.layer, ctx.name, ctx.turns
        mixing, leaving, widening, closing = ctx.products
        inner_mixed, inner_seen, inner_wide, inner_out = ctx.inner
        tokens, heads, kv_heads = layer.shape(hidden)
        of_out = gradients[0]
        gate, up = wide.chunk(2, -1)
        shares = torch.nn.functional.silu(gate)
        of_gated, closing_ = closing.backward(of_out, shares * up, inner_out, name)
        of_wide = torch.empty_like(wide)
        of_gate, of_up = of_wide.chunk(2, -1)
        torch.mul(of_gated, shares, out=of_up)
        of_gate.copy_(torch.ops.aten.silu_backward(of_gated.mul_(up), gate))
        del shares, of_gated
        of_x, widening_ = widening.backward(of_wide, norm(between, layer.between), inner_wide, name)
        of_between = _norm_back(of_x, between, layer.between).add_(of_out)
        del of_wide
        of_seen, leaving_ = leaving.backward(of_between, seen.view(tokens, -1), inner_seen, name)
        of_mixed = torch.empty_like(mixed)
        query, key, value = mixed.split([heads, kv_heads, kv_heads], 1)
        of_query, of_key, of_value = ctx.context.run_back(
            of_seen.view(seen.shape), query, key, value, seen, total, layer.attention.scaling
        )
        of_mixed[:, :heads] = rotated(of_query, cos, -sin)
        of_mixed[:, heads : heads + kv_heads] = rotated(of_key, cos, -sin)
        of_mixed[:, heads + kv_heads :] = of_value
        wanted = ctx.needs_input_grad[0]
        of_x, mixing_ = mixing.backward(
            of_mixed.view(tokens, -1), norm(hidden, layer.before), inner_mixed, name, wanted
        )
        of_hidden = _norm_back(of_x, hidden, layer.before).add_(of_between) if wanted else None
        return of_hidden, None, None, None, None, *mixing_, *leaving_, *widening_, *closing_


def _norm_back(gradient: Tensor, hidden: Tensor, module: Any) -> Tensor:
    """Return the gradient of `hidden` from that of norm(hidden), all (N, E).

    With r the root mean square of a row, y = hidden / r and g the gradient times the weights: (g - y mean(g y)) / r.
    """
    width = hidden.shape[-1]
    mean_square = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32).square_().div_(width)
    scale = mean_square.add_(module.variance_epsilon).rsqrt_()
    scaled, weighted = hidden.float().mul_(scale), (gradient * module.weight).float()
    share = (scaled * weighted).mean(-1, keepdim=True)
    return weighted.sub_(scaled.mul_(share)).mul_(scale).to(gradient.dtype)
