"""Selection of the next combination of options to score."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

Picked = Mapping[str, int]
"""Index of the option taken, by name."""


class CandidateSelector(Protocol):
    """The interface of a search: it proposes combinations of options by `ask`, and takes their scores into account by
    `tell`, in turn."""

    def ask(self, most: int) -> Sequence[Picked]:
        """Return the next combinations to score, at least one and at most `most`: each has by name the index of the
        picked option. A combination may come again.
        """

    def tell(self, scores: Sequence[float | None]) -> None:
        """Record the mean scores of all combinations that `ask` returned last, in their order; None where one was refused."""
        ...

    def grow(self, options: Mapping[str, int]) -> None:
        """Set the number of options of each name from now on, none less than before; earlier options keep their
        indices. Called when `tell` has taken the scores of all combinations."""
        ...


class TPE:
    """A search by optuna's tree of Parzen estimators over all names together: `options` has the number of options of each, 2
    or more.

    The first combination is index 0 everywhere: the program as it is. The next `startup` are random; in them a name of
    `doubted` keeps its index 0, the author's option, with probability 1/2, since most of the other options may be bad. After
    these every other combination is the best so far with one name changed, which finds in few trials what a model of all
    names together finds in many. A combination may come again. All draws follow from `seed`.
    """

    def __init__(
        self, options: Mapping[str, int], seed: int, startup: int, doubted: Collection[str] = frozenset()
    ) -> None:
        import optuna

        # At WARNING it tells of each name that a trial of before the growth does not have.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup, multivariate=True)
        self._study = optuna.create_study(direction="maximize", sampler=self._sampler)
        self._study.enqueue_trial(dict.fromkeys(options, 0))
        self._draw = draw = random.Random(seed)
        for _ in range(startup):
            kept = {name for name in options if name in doubted and draw.random() < 0.5}
            self._study.enqueue_trial(
                {name: 0 if name in kept else draw.randrange(count) for name, count in options.items()}
            )
        self._options = dict(options)
        self._at_random = 1 + startup
        self._asked = 0
        self._trials: list[Any] = []

    def ask(self, most: int) -> Sequence[Picked]:
        # The first that is not random is beside the best of those that are.
        left = self._at_random - self._asked
        return [self._next() for _ in range(min(most, left) if left > 0 else most)]

    def _next(self) -> Picked:
        if self._asked >= self._at_random and self._asked % 2:
            self._study.enqueue_trial(self._beside_best())
        self._asked += 1
        trial = self._study.ask()
        self._trials.append(trial)
        return {name: trial.suggest_categorical(name, list(range(count))) for name, count in self._options.items()}

    def _beside_best(self) -> dict[str, int]:
        best = {name: self._study.best_params.get(name, 0) for name in self._options}
        name = self._draw.choice(list(self._options))
        return {**best, name: self._draw.choice([one for one in range(self._options[name]) if one != best[name]])}

    def tell(self, scores: Sequence[float | None]) -> None:
        for trial, score in zip(self._trials, scores, strict=True):
            if score is None:
                self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            else:
                self._study.tell(trial, score)
        self._trials = []

    def grow(self, options: Mapping[str, int]) -> None:
        """Set the number of options of every name (all names, total numbers, none less than before) from now on: start
        a new study with the scored and refused trials of the one before, since optuna fixes the options of a study;
        a new name has index 0 in them. `tell` must have taken all scores; random combinations not yet asked for are
        dropped."""
        distributions = {
            name: self._optuna.distributions.CategoricalDistribution(list(range(count)))
            for name, count in options.items()
        }
        grown = self._optuna.create_study(direction="maximize", sampler=self._sampler)
        for trial in self._study.trials:
            if trial.state.is_finished():
                params = {name: trial.params.get(name, 0) for name in options}
                grown.add_trial(
                    self._optuna.trial.create_trial(
                        state=trial.state, params=params, distributions=distributions, value=trial.value
                    )
                )
        self._study, self._options = grown, dict(options)
