"""Matrix products with constant weights, which are stored in the memory order that the processor's kernels want.

For a product with few rows, as each token of a wave is, oneDNN spends as long on reordering bf16 weights as on multiplying.
Reordered once, a product of 8 to 64 rows takes half to three quarters of the time; its result is the same to the bit. It costs
the memory of the weights once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

ROWS = 64
"""The number of rows for which the order is chosen; products with other numbers of rows use it as well."""

_kept: WeakKeyDictionary[Any, tuple[Tensor, int, Tensor]] = WeakKeyDictionary()
"""Per layer: weight tensor, its version, the packed copy made at that version."""


def product(layer: Any) -> Callable[[Tensor], Tensor]:
    """Return a function that multiplies a matrix (N, in) by the present weights of a linear `layer` and adds its bias,
    giving (N, out), with the weights packed: copied in the memory order that the processor's kernels want.

    No gradient reaches the weights. Where packing gains nothing (other number formats, devices, builds of torch) it is
    the layer's own `forward`.
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


_kept_joined: WeakKeyDictionary[Any, tuple[tuple[tuple[int, int], ...], Tensor, Tensor]] = WeakKeyDictionary()
"""Per first layer: address and version of each layer's weights, the joined weights, the packed copy made of them."""


def joined_product(
    layers: Sequence[Any], weight: Tensor, bias: Tensor | None
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """Return a function of x (N, in) and a residual (N, out) or None: x times the joined `weight` (out, in) of
    `layers`, plus `bias` and the residual. Where packing gains something, a packed copy of `weight` is kept until the
    weights of one of `layers` change.

    No gradient reaches the weights.
    """
    if not _gains(weight):
        return lambda x, residual: _plain(x, weight, bias, residual)
    versions = tuple((layer.weight.data_ptr(), layer.weight._version) for layer in layers)
    kept = _kept_joined.get(layers[0])
    if kept is None or kept[0] != versions:
        kept = _kept_joined[layers[0]] = (
            versions,
            weight,
            torch.ops.mkldnn._reorder_linear_weight(weight, ROWS),
        )
    packed, run = kept[2], torch.ops.mkldnn._linear_pointwise

    def multiply(x: Tensor, residual: Tensor | None) -> Tensor:
        if residual is None:
            found: Tensor = run(x, packed, bias, "none", [], "")
        else:
            found = run.binary(x, residual, packed, bias, "add")
        return found

    return multiply


def packed_bytes() -> int:
    """Return the memory of all packed copies in this process, in bytes.

    A packed copy has the weights of a layer a second time, in the memory order in which the processor multiplies
    faster; it is counted with the size of the weights.
    """
    alone = sum(weight.nbytes for weight, _, packed in list(_kept.values()) if packed is not weight)
    return int(alone + sum(weight.nbytes for _, weight, _ in list(_kept_joined.values())))


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
    found = torch.nn.functional.linear(x, weight, bias)
    return found if residual is None else found.add_(residual)


def _gains(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
