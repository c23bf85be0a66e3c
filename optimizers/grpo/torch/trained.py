"""The adapters in training as one module, for one trainer with one optimizer.

One trainer for all, and not one for each: so the loss is normalised and the gradient is clipped over the whole step, as with
an adapter that all modules share, and the schedule, the checkpoints and accelerate see one model. Nothing flows between
adapters for that: a row goes through the network with its own alone, and AdamW keeps the moments of each weight apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lmprog.lms.local.lora import FastLora


class TrainedAdapters(torch.nn.Module):  # type: ignore[misc]
    """The adapters in training as one torch module: pairs of a peft model and an adapter's name; several may share a model."""

    def __init__(self, adapters: Sequence[tuple[Any, str]]) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(list({id(model): model for model, _ in adapters}.values()))
        self._adapters = list(adapters)
        self._fast = {id(model): FastLora(model) for model, _ in adapters}
        self._let_learn()

    def forward(self, adapter: int, *, reference: bool = False, **inputs: Any) -> Any:
        """Return the model's output with adapter number `adapter`, or with `reference` of its base model alone."""
        model, name = self._adapters[adapter]
        try:
            if reference:
                with model.disable_adapter():
                    return model(**inputs)
            fast = self._fast[id(model)]
            if fast.learns(name):
                with fast.learning(name):
                    return model(**inputs)
            if model.active_adapter != name:
                model.set_adapter(name)
            return model(**inputs)
        finally:
            self._let_learn()

    def peft_model(self, adapter: int) -> Any:
        """Return the peft model that holds adapter number `adapter`."""
        return self._adapters[adapter][0]

    def _let_learn(self) -> None:
        """Make every trained adapter trainable; peft freezes every adapter but the one last activated."""
        for model, name in self._adapters:
            model.set_requires_grad(name)


class OneAdapter:
    """A model, callable as those of transformers, with adapter number `adapter` of `trained`; with `reference` the base
    model alone.
    """

    def __init__(self, trained: TrainedAdapters, adapter: int, reference: bool = False) -> None:
        self._trained, self._which = trained, {"adapter": adapter, "reference": reference}
        self._peft = trained.peft_model(adapter)

    def __call__(self, **inputs: Any) -> Any:
        return self._trained(**self._which, **inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peft, name)
