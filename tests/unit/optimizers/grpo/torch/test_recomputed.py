"""Gradient checkpointing: the same gradients, with layers computed again, but for those that the engine has fused."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("peft", reason="needs the extra 'local'")

from lmprog.lms.local import attention  # noqa: E402
from lmprog.optimizers.grpo.torch.logprobs import logprobs  # noqa: E402
from lmprog.optimizers.grpo.torch.trained import OneAdapter, TrainedAdapters  # noqa: E402

SEQUENCES = [[5, 6, 7, 8, 9], [5, 6, 7, 11], [12, 13, 14]]


def learnt(model: Any, checkpoints: bool) -> tuple[dict[str, Any], int]:
    """The gradients of some replies, and how often the activation function of a layer was called for them."""
    calls = []
    for layer in model.get_base_model().model.layers:
        layer.mlp.act_fn.register_forward_hook(lambda *_: calls.append(1))
    trained = TrainedAdapters([(model, "default")], checkpoints=checkpoints)
    trained.train()
    replies = [2, 1, 2]
    found = logprobs(OneAdapter(trained, 0), SEQUENCES, replies, [1.0] * 3, [None] * 3)
    sum(logps.sum() for logps, _ in found).backward()
    return {name: weight.grad for name, weight in trained.trained_weights()}, len(calls)


@pytest.mark.parametrize("fused", [False, True])
def test_layers_are_computed_again_where_they_are_not_fused(tuned_llama, fused: bool) -> None:
    def model() -> Any:
        made = tuned_llama()
        if fused:
            made.config._attn_implementation = attention.NAME
        return made

    (kept, once), (computed, twice) = learnt(model(), False), learnt(model(), True)
    assert (once, twice) == ((0, 0) if fused else (3, 6))
    for name, gradient in kept.items():
        assert float((computed[name] - gradient).norm()) <= 1e-5 * float(gradient.norm()), name


def test_other_passes_of_the_model_keep_their_activations(tuned_llama) -> None:
    model = tuned_llama()
    learnt(model, True)
    assert not any(getattr(layer, "gradient_checkpointing", False) for layer in model.modules())
    assert not model.get_input_embeddings()._forward_hooks
