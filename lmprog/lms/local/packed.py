"""Matrix products with constant weights, which are stored in the memory order that the processor's kernels want.

For a product with few rows, as each token of a wave is, oneDNN spends as long on reordering bf16 weights as on multiplying.
Reordered once, a product of 8 to 64 rows takes half to three quarters of the time; its result is the same to the bit. It costs
the memory of the weights once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

ROWS = 64
"""The number of rows for which the order is chosen; products with other numbers of rows use it as well."""

_kept: WeakKeyDictionary[Any, tuple[Tensor, int, Tensor]] = WeakKeyDictionary()
"""Per layer: weight tensor, its version, the packed copy made at that version."""


def product(layer: Any) -> Callable[[Tensor], Tensor]:
    """Return a function that applies a linear `layer` to a matrix (N, in), giving (N, out), with its weights packed.

    No gradient reaches the weights. Where packing gains nothing (other number formats, devices, builds of torch) it is the
    layer's own forward.
    """
    weight = layer.weight
    if not _gains(weight):
        own: Callable[[Tensor], Tensor] = type(layer).forward.__get__(layer)
        return own
    of, changes, packed = _kept.get(layer, (None, -1, weight))
    if of is not weight or changes != weight._version:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        _kept[layer] = (weight, weight._version, packed)
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, packed, layer.bias, "none", [], "")


def _gains(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
