"""LoRA layers that work in the number format of the weights: x W' + (x A') (s B)', two small products beside the large one.

peft's own forward widens every input to the adapter's fp32 and back, which doubles the time of a wave and costs a third of
that of a backward pass. While a wave runs, or a pass of training, each layer's forward is ours, so that replies are drawn and
learnt by the same arithmetic. The adapter itself stays in fp32. Equal to peft's within the rounding of the weights' number
format.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lmprog.lms.local import thread_count
from lmprog.lms.local.four_bits import FourBitLinear, dtype_of, values_of
from lmprog.lms.local.layer_gradients import learning_forward
from lmprog.lms.local.layers import base_of, decoder_layers, wave_forward
from lmprog.lms.local.packed import product
from lmprog.lms.local.sums import over_rows

MAX_ADAPTERS = 8
"""Adapters whose matrices are kept in the number format of the weights."""
Forwards = list[tuple[Any, Callable[..., Tensor]]]
"""Layers of the model, each with the function that replaces its `forward`."""


class FastLora:
    """The linear layers of a model with LoRA adapters, computed faster than peft does, with results equal up to rounding."""

    def __init__(self, model: Any) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        parts = list(model.modules())
        self._layers = [part for part in parts if isinstance(part, BaseTunerLayer)]
        within = {inner for layer in self._layers for inner in layer.modules()}
        self._others = [part for part in parts if type(part) is torch.nn.Linear and part not in within]
        self._decoders = decoder_layers(model)
        self._joined = {id(layer) for decoder in self._decoders for group in decoder.groups for layer in group}
        self._whole = not any(isinstance(part, AuxiliaryTrainingWrapper) for part in parts)
        self._made: OrderedDict[str | None, tuple[Any, Forwards]] = OrderedDict()

    def serves(self, name: str | None) -> bool:
        """Return whether the fast forward pass can compute an adapter (None: the base model), whose layers must all be
        plain linear ones; an adapter that no layer has is computed as the base.

        Where it cannot, peft must compute the layers.
        """
        return self._whole and all(name is None or _plain(layer, name) for layer in self._layers)

    @contextlib.contextmanager
    def serving(self, name: str | None, version: Any) -> Iterator[None]:
        """Return a context inside which the model computes with adapter `name` (None: the base model), without
        gradients. `serves` must be True for it, and it must not be inside another such context, or one of `learning`.

        `version` is a value that differs whenever the adapter's values do; copies of its matrices are reused while it
        is the same.
        """
        with _in_place(self._forwards(name, version)):
            yield

    def learns(self, name: str) -> bool:
        """Return whether the fast forward pass can train an adapter: all layers are such as `serves` wants, and those of
        the adapter have no dropout.
        """
        own = [layer for layer in self._layers if name in getattr(layer, "lora_A", {})]
        return self.serves(name) and all(getattr(layer.lora_dropout[name], "p", 0.0) == 0.0 for layer in own)

    @property
    def fuses(self) -> bool:
        """True if the model has a decoder layer of a form that is computed whole here, whatever pass is running. In
        `learning` it is so in passes whose context is a DifferentiableAttention, which has a backward pass of its
        own; other passes use the layer's own `forward`."""
        return bool(self._decoders)

    @contextlib.contextmanager
    def learning(self, name: str) -> Iterator[None]:
        """Return a context inside which passes compute with adapter `name`, with gradients to its matrices. `learns`
        must be True for it, and it must not be inside another such context, or one of `serving`.
        """
        whole = [(decoder.layer, learning_forward(decoder, name)) for decoder in self._decoders]
        with _in_place([*whole, *((layer, _learning_forward(layer, name)) for layer in self._layers)]):
            yield

    def _forwards(self, name: str | None, version: Any) -> Forwards:
        made = self._made.get(name)
        if made is None or made[0] != version:
            # Linear layers of a decoder layer that is computed whole answer where it is not: by weights that are not packed.
            forwards = [
                *((layer, product(layer)) for layer in self._others if id(layer) not in self._joined),
                *((layer, _forward(layer, name, id(layer) not in self._joined)) for layer in self._layers),
                *((decoder.layer, wave_forward(decoder, name)) for decoder in self._decoders),
            ]
            made = self._made[name] = (version, forwards)
            while len(self._made) > MAX_ADAPTERS:
                self._made.popitem(last=False)
        self._made.move_to_end(name)
        return made[1]


@contextlib.contextmanager
def _in_place(forwards: Forwards) -> Iterator[None]:
    for layer, forward in forwards:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, _ in forwards:
            del layer.forward


def _plain(layer: Any, name: str) -> bool:
    from peft.tuners.lora import Linear

    if name not in getattr(layer, "lora_A", {}):
        return not layer.merged  # not one of this adapter's layers, so that its base answers
    return (
        isinstance(layer, Linear)
        and type(layer.base_layer) in (torch.nn.Linear, FourBitLinear)
        and not layer.merged
        and name not in layer.lora_variant
        and not layer.lora_bias[name]
    )


def _base(layer: Any, packed: bool) -> Callable[..., Tensor]:
    base = base_of(layer)
    forward: Callable[..., Tensor] = product(base) if packed and type(base) is torch.nn.Linear else base.forward
    return forward


def _forward(layer: Any, name: str | None, packed: bool) -> Callable[..., Tensor]:
    if name not in layer.lora_A:
        return _base(layer, packed)
    dtype = dtype_of(layer.base_layer)
    down = layer.lora_A[name].weight.detach().to(dtype)
    up = (layer.lora_B[name].weight.detach() * layer.scaling[name]).to(dtype)
    return partial(_adapted, _base(layer, packed), down.t().contiguous(), up.t().contiguous())


def _adapted(base: Callable[[Tensor], Tensor], down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    """Map x (..., in) to (..., out) through `base` and a low-rank adapter.

    `down` is (in, r) and `up` (r, out), with the adapter's scale already multiplied in.
    """
    rows = x.reshape(-1, x.shape[-1])
    out = base(rows).addmm_(rows @ down, up)
    return out.view(*x.shape[:-1], out.shape[-1])


def _learning_forward(layer: Any, name: str) -> Callable[..., Tensor]:
    base = layer.base_layer
    if name not in layer.lora_A:
        forward: Callable[..., Tensor] = base.forward
        return forward
    down, up, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    return lambda x: _Learning.apply(x, down, up, scale, base)


class _Learning(torch.autograd.Function):  # type: ignore[misc]
    """The autograd version of `_adapted`, with gradients in fp32.

    It takes the adapter's own fp32 matrices `down` (r, in) and `up` (out, r).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, down: Tensor, up: Tensor, scale: float, base: Any) -> Tensor:
        dtype = dtype_of(base)
        rows, first, second = x.reshape(-1, x.shape[-1]), down.to(dtype), (up * scale).to(dtype)
        inner = rows @ first.t()
        out = torch.nn.functional.linear(rows, values_of(base), base.bias).addmm_(inner, second.t())
        ctx.save_for_backward(rows, inner, first, second)
        ctx.scale, ctx.base = scale, base
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        thread_count.check()
        rows, inner, first, second = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        of_inner = gradient @ second
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ values_of(ctx.base)).addmm_(of_inner, first)
            of_x = of_x.view(*gradients[0].shape[:-1], rows.shape[-1])
        return of_x, over_rows(of_inner, rows), over_rows(gradient, inner) * ctx.scale, None, None
