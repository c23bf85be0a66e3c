"""A model whose own weights are in training, as opposed to an adapter beside them (`full: true`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmprog.compiler.plan import AdapterReference
from lmprog.errors import LmprogError
from lmprog.lms.local.weights import Weights
from lmprog.lms.local.writing import writing
from lmprog.lms.quiet_loading import quiet_loading

IN_TRAINING = AdapterReference("training-all")
"""The reference by which requests name the weights in training; no file has them."""


class WholeInTraining(Weights):
    """A model of its own for one training of all its weights: requests that name `IN_TRAINING` are answered by the present
    values, all others are refused.

    What else runs on the model of that name has its own `Weights`, which do not change.
    """

    def begin_training(self, config: Any, start: AdapterReference | None = None) -> AdapterReference:
        """Return the reference of the weights in training; nothing is added to the model, and `config` is not used.

        Raises LmprogError where training would begin from an adapter (`start`; None: it does not).
        """
        if start is not None:
            raise LmprogError(
                f"training all weights of {self.model_name} begins from the model alone, and the program has an adapter for "
                "it; merge that first (`lmprog export --merged`)"
            )
        return IN_TRAINING

    def in_peft(self, trained: AdapterReference) -> tuple[Any, str]:
        """Return the model whose own weights are in training, which peft has no part in, and an empty text in place of an
        adapter's name.
        """
        return self.base, ""

    @contextlib.contextmanager
    def using(self, adapter: AdapterReference | None) -> Iterator[None]:
        """Return a context inside which the model computes with its present values, which `IN_TRAINING` names. Raises
        LmprogError for another `adapter`, which would not fit the changed model, and for None, the model as it was.
        """
        if adapter != IN_TRAINING:
            raise LmprogError(f"all weights of {self.model_name} are in training, and a request names others")
        before = self.version
        self.version = (IN_TRAINING.weights, self._steps)
        self.base.eval()
        try:
            with self._answering(None):
                yield
        finally:
            self.version = before

    def save_trained(self, trained: AdapterReference, folder: Path) -> None:
        """Write the model and its tokenizer into `folder`, which is made where it is missing, as transformers loads
        them. Raises InfrastructureError or OSError where the files cannot be written; some may then be there.
        """
        with writing(folder), quiet_loading():
            self.base.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

    def end_training(self) -> None:
        """Do nothing: the model is dropped with the training."""
