"""The adapters in training as one module, for one trainer with one optimizer.

One trainer for all, and not one for each: so the loss is normalised and the gradient is clipped over the whole step, as with
an adapter that all modules share, and the schedule, the checkpoints and accelerate see one model. Nothing flows between
adapters for that: a row goes through the network with its own alone, and AdamW keeps the moments of each weight apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lmprog.lms.local.attention import DifferentiableAttention
from lmprog.lms.local.lora import FastLora
from lmprog.optimizers.grpo.ranks import average_gradients


class TrainedAdapters(torch.nn.Module):  # type: ignore[misc]
    """The adapters in training as one torch module: pairs of a peft model and an adapter's name; several may share a model.

    With `checkpoints` each layer's activations are computed again in the backward pass (gradient checkpointing), except
    where fused layers compute the pass, which keep little of them.
    """

    shares = False
    """True where the processes share the weights, each a part of them."""

    def __init__(self, adapters: Sequence[tuple[Any, str]], *, checkpoints: bool = False) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(list({id(model): model for model, _ in adapters}.values()))
        self._adapters = list(adapters)
        self._checkpoints = checkpoints
        self._fast = {id(model): FastLora(model) for model, _ in adapters}
        self._let_learn()

    def forward(self, adapter: int, *, reference: bool = False, **inputs: Any) -> Any:
        """Return the model's output with adapter number `adapter` (its place in `adapters`, from 0), or with `reference` that
        of its base model alone; `inputs` are those of a causal LM of transformers."""
        model, name = self._adapters[adapter]
        try:
            if reference:
                with model.disable_adapter():
                    return model(**inputs)
            if self._is_fast(model, name, inputs.get("context")):
                with self._fast[id(model)].learning(name):
                    return model(**inputs)
            if model.active_adapter != name:
                model.set_adapter(name)
            with recomputed(model) if self._checkpoints else contextlib.nullcontext():
                return model(**inputs)
        finally:
            self._let_learn()

    def peft_model(self, adapter: int) -> Any:
        """Return the peft model that holds adapter number `adapter`; where all weights are trained, the model of
        transformers."""
        return self._adapters[adapter][0]

    def _is_fast(self, model: Any, name: str, context: Any) -> bool:
        """Return whether the engine's layers compute a pass; with `checkpoints` they do only where they are fused.

        The linear layers among them could not be computed again: they are in place for the forward pass alone.
        """
        fast = self._fast[id(model)]
        fused = fast.fuses and isinstance(context, DifferentiableAttention)
        return fast.learns(name) and (fused or not self._checkpoints)

    def trained_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Return an iterator over the weights in training with their names, in the same order in every process."""
        return ((name, weight) for name, weight in self.named_parameters() if weight.requires_grad)

    def combine_gradients(self) -> None:
        """Replace each gradient by its mean over the processes; called in all of them after the last pass of a step."""
        average_gradients(weight for _, weight in self.trained_weights())

    def whole_weights(self) -> Mapping[str, Tensor]:
        """Return the values of the weights in training by name, no copies: they change with the weights. Called in all
        processes."""
        return {name: weight.detach() for name, weight in self.trained_weights()}

    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        """Set the weights in training to `values`, as `whole_weights` returned them."""
        for name, weight in self.trained_weights():
            weight.data.copy_(values[name])

    def updated(self) -> None:
        """Do nothing; called in all processes after each update."""

    def _let_learn(self) -> None:
        """Make every trained adapter trainable; peft freezes every adapter but the one last activated."""
        for model, name in self._adapters:
            model.set_requires_grad(name)


@contextlib.contextmanager
def recomputed(model: Any) -> Iterator[None]:
    """Make the layers of `model` forget their activations in forward passes inside the block, and compute them again in the
    backward pass.
    """
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    base.activation_checkpointing_enable()
    try:
        yield
    finally:
        base.activation_checkpointing_disable()
        # Enabling has put a hook on the embeddings, which transformers leaves there for a model of peft.
        base.disable_input_require_grads()


class OneAdapter:
    """A model, callable as those of transformers, with adapter number `adapter` of `trained`, or with `reference` its
    base model alone; other attributes are those of the peft model.
    """

    def __init__(self, trained: TrainedAdapters, adapter: int, reference: bool = False) -> None:
        self._trained, self._which = trained, {"adapter": adapter, "reference": reference}
        self._peft = trained.peft_model(adapter)

    def __call__(self, **inputs: Any) -> Any:
        return self._trained(**self._which, **inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peft, name)
