"""The cost of what a run pays for beside LM calls: the training of weights by a provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lmprog.compiler import fine_tuning
from lmprog.compiler.plan import LM
from lmprog.spending.worst_case import CallBound


@dataclass(frozen=True)
class TrainingFee:
    """The cost of one fine-tuning job of an LM (`lm`): the model that is trained, the tokens of all epochs together, at
    most (`most`) and as estimated (`usual`), and the US dollars for one token.

    A value is None where it is unknown.
    """

    lm: LM
    model: str
    """The model that is trained."""
    most: float | None
    usual: float | None
    usd_per_token: float | None

    @classmethod
    def of(cls, lm: LM, model: str | None, run: Sequence[CallBound], runs: int, epochs: int) -> TrainingFee:
        """Return the fee of a job that trains for `epochs` epochs on the replies of `lm` in `runs` runs of the program.

        `run` bounds the LM calls of one run, of all LMs. `model` is the model that is trained (None: that of the LM, or the
        one that it was trained from).
        """
        own = [ask for ask in run if ask.lm.id == lm.id]
        times = runs * epochs
        usual = [ask.estimated(None) for ask in own]
        price = fine_tuning.training_usd(lm, model)
        return cls(lm, model or fine_tuning.base_of(lm.model), _tokens(own, times), _tokens(usual, times), price)

    @property
    def usd(self) -> float | None:
        """The most US dollars; None where the tokens or their price are unknown."""
        return None if self.most is None or self.usd_per_token is None else self.most * self.usd_per_token

    @property
    def estimated(self) -> TrainingFee:
        """The same fee with the estimated tokens (None where they are unknown) in place of the most."""
        return TrainingFee(self.lm, self.model, self.usual, self.usual, self.usd_per_token)

    @property
    def unknown(self) -> str | None:
        """The reason why the price is unknown, as a sentence with what to write in the spec; None where it is known, even if
        the tokens are not."""
        if self.usd_per_token is not None:
            return None
        fix = f"write lms.{self.lm.id}.price: {{training: ...}}"
        return f"the price of training {self.lm.id!r} ({self.model}) is unknown: {fix}"

    @property
    def basis(self) -> str | None:
        """The price of a million tokens in words, and whose price it is; None where it is unknown."""
        if self.usd_per_token is None:
            return None
        source = "the program's" if "training" in (self.lm.price or {}) else f"OpenAI's of {fine_tuning.AS_OF}"
        return f"${1e6 * self.usd_per_token:g} for a million tokens of training {self.model}, {source} price"

    def as_json(self) -> dict[str, Any]:
        """Return the fee as a dictionary: `lm` (its id), `model`, `tokens` and `usd` (both at most) and `price`
        (`basis`); a value that is unknown is None."""
        return {
            "lm": self.lm.id,
            "model": self.model,
            "tokens": _whole(self.most),
            "usd": self.usd,
            "price": self.basis,
        }


def _tokens(asks: Sequence[CallBound], times: int) -> float | None:
    """Return the tokens of the prompts and replies of these calls, `times` times; None where they are unknown."""
    total = 0.0
    for ask in asks:
        if ask.prompt is None or ask.reply is None:
            return None
        total += times * ask.calls * (ask.prompt + ask.reply)
    return total


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
