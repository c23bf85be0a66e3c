"""Products with weights that were reordered: the same to the bit, and those of the weights as they are now."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.lms.local import packed  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_is_that_of_the_layer(dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 40, bias=bias).to(dtype)
    with torch.no_grad():
        for shape in ((1, 96), (64, 96), (200, 96), (1, 7, 96)):
            x = torch.randn(shape).to(dtype)
            assert torch.equal(packed.product(layer)(x), layer(x))


@torch.no_grad()
def test_weights_that_changed_are_reordered_anew() -> None:
    layer = torch.nn.Linear(32, 32).bfloat16()
    x = torch.randn(4, 32).bfloat16()
    packed.product(layer)
    layer.weight.mul_(2)
    assert torch.equal(packed.product(layer)(x), layer(x))
    layer.weight = torch.nn.Parameter(torch.randn(32, 32).bfloat16())
    assert torch.equal(packed.product(layer)(x), layer(x))


def test_a_layer_that_answers_by_another_forward_is_still_itself() -> None:
    layer = torch.nn.Linear(8, 8)
    layer.forward = None
    assert packed.product(layer)(torch.ones(1, 8)).shape == (1, 8)
