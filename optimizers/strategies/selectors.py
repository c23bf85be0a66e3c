"""Which combination of what may be combined is scored next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Picked = dict[str, int]
"""By name, the place of the option that is taken."""


class CandidateSelector(Protocol):
    """Asked for a combination and told what became of it, in turn."""

    def ask(self) -> Picked: ...

    def tell(self, score: float | None) -> None:
        """The mean score of what was asked last, or None where it was refused."""
        ...


class TPE:
    """optuna's tree of Parzen estimators; the first `startup` combinations are drawn at random.

    The first that it gives is place 0 everywhere: the program as it is, from which it learns too.
    """

    def __init__(self, options: Mapping[str, int], seed: int, startup: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._study.enqueue_trial(dict.fromkeys(options, 0))
        self._options = {name: list(range(count)) for name, count in options.items()}
        self._pruned = optuna.trial.TrialState.PRUNED
        self._trial: Any = None

    def ask(self) -> Picked:
        self._trial = self._study.ask()
        return {name: self._trial.suggest_categorical(name, places) for name, places in self._options.items()}

    def tell(self, score: float | None) -> None:
        if score is None:
            self._study.tell(self._trial, state=self._pruned)
        else:
            self._study.tell(self._trial, score)
