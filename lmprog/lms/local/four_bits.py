"""Weights in 4 bits (`load: 4bit`): bitsandbytes makes and reads them, the products are torch's own.

A linear layer's weights (out, in) are kept as NF4: 4 bits each, and for 64 of them a scale, itself in 8 bits. A pass makes the
values that they stand for anew, in the number format of the model, multiplies by these, and drops them; so does the backward
pass. bitsandbytes has products of its own, which are not used: what is sampled is to be what is trained, and its product for
processors with bf16 passes no gradient on to its input (0.50).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor

from lmprog.extras import needed_by


def options(model: str, dtype: torch.dtype) -> Mapping[str, Any]:
    """Return the options by which transformers loads a model in 4 bits, to compute in `dtype`. Raises MissingExtra where
    bitsandbytes is not installed; `model` is the model's name in that message.
    """
    with needed_by(f"{model!r} with `load: 4bit`"):
        import bitsandbytes  # noqa: F401
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": how}


class FourBitLinear(torch.nn.Linear):  # type: ignore[misc]
    """A linear layer whose weights are in 4 bits; its inputs get gradients, the weights none."""

    def __init__(self, layer: Any) -> None:
        """Take over the weights and the bias of a `Linear4bit` of bitsandbytes."""
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias

    def values(self) -> Tensor:
        """Return the values (out, in) that the weights stand for, in the number format of the model; they are made anew at
        each call."""
        from bitsandbytes.functional import dequantize_4bit

        state = self.weight.quant_state
        # One block of weights a row: for rows that end within a block the kernel for processors (0.50) gives other values.
        blocks = copy(state)
        size = state.shape.numel()
        blocks.shape = torch.Size(
            (size // state.blocksize, state.blocksize) if size % state.blocksize == 0 else (1, size)
        )
        found: Tensor = dequantize_4bit(self.weight.data, blocks)
        return found.view(state.shape)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = _Product.apply(x, self)
        return found


class _Product(torch.autograd.Function):  # type: ignore[misc]
    """The product with weights in 4 bits, which keeps none of their values for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        return torch.nn.functional.linear(x, layer.values(), layer.bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0] @ ctx.layer.values(), None


def values_of(layer: Any) -> Tensor:
    """Return the weights (out, in) of a linear layer: its own, or the values that weights in 4 bits stand for."""
    return layer.values() if isinstance(layer, FourBitLinear) else layer.weight


def dtype_of(layer: Any) -> torch.dtype:
    """Return the number format that a linear layer computes in."""
    found: torch.dtype = layer.weight.quant_state.dtype if isinstance(layer, FourBitLinear) else layer.weight.dtype
    return found


def take_over(model: Any) -> None:
    """Put a FourBitLinear in the place of each `Linear4bit` in a model that transformers has loaded in 4 bits; to
    transformers, peft and TRL it then is a model as others, which they do not treat in ways of their own."""
    from bitsandbytes.nn.modules import Linear4bit

    for name, layer in [(name, part) for name, part in model.named_modules() if type(part) is Linear4bit]:
        model.set_submodule(name, FourBitLinear(layer))
    for flag in ("is_quantized", "is_loaded_in_4bit", "quantization_method", "hf_quantizer"):
        if hasattr(model, flag):
            delattr(model, flag) if flag in vars(model) else setattr(model, flag, None)
    del model.config.quantization_config
