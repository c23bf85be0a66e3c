"""The reward in training: the `reward` of `optimize`, overall or by module, else its metric. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Any

from lmprog.compiler.optimizing.trace_types import reads
from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.sampling.rollouts import Rollout
from lmprog.runtime.program import Program
from lmprog.scoring.metrics import Judging, Score, Scorer


class Reward(Scorer):
    """A scorer by the reward that training follows: `optimize.reward`, one for all or by module, else the metric.

    Where modules follow rewards of their own a score has them as `parts`, by module, and its value is the mean of the
    different metrics.
    """

    def __init__(self, program: Program, metric: str, modules: Iterable[str], config: Config) -> None:
        """Set up the rewards; `metric` is the reported metric, `modules` are the modules in training, `config` the options of
        the stage. Raises LmprogError for rewards by module with `level: trajectory`, and for a reward that compares runs
        beside teachers."""
        optimize = program.plan.optimize
        overall = (optimize.reward if optimize is not None else None) or metric
        own = optimize.rewards if optimize is not None else {}
        super().__init__(program, overall)
        self.by_module = {id: own.get(id, overall) for id in modules} if own else {}
        """The metrics that modules follow; empty where all follow one."""
        self._failure = config.format_failure
        if own and config.level == "trajectory":
            raise LmprogError(
                "`reward` names metrics by module, and with `level: trajectory` a member of a group has several modules; "
                "name one metric, or write level: module"
            )
        if self.compares and config.teachers:
            raise LmprogError(
                f"the reward {overall!r} compares the runs of a row, and those of teachers are not compared with the "
                "program's; leave teachers out, or name a metric that scores each run by itself"
            )

    @cached_property
    def ids(self) -> list[str]:
        """The names of the metrics that serve as rewards, each once."""
        return list(dict.fromkeys(self.by_module.values())) or [self.metric.id]

    @property
    def lowest(self) -> float:
        """The lowest reward of a run: the lower end of the metric's range, or the mean of those of several metrics."""
        return fmean(self._range(id)[0] for id in self.ids)

    @property
    def highest(self) -> float:
        """The highest reward of a run: the upper end of the metric's range, or the mean of those of several metrics."""
        return fmean(self._range(id)[1] for id in self.ids)

    @property
    def of_failures(self) -> float:
        """The reward of a run that failed by itself, as by an unreadable reply: the option `format_failure`, else
        `lowest`."""
        return self.lowest if self._failure is None else self._failure

    def width(self, module: str | None) -> float:
        """Return the width of the range of a module's reward, or for None of the reward of the whole run."""
        if module is None or module not in self.by_module:
            return self.highest - self.lowest
        low, high = self._range(self.by_module[module])
        return high - low

    def with_failures(self, rollouts: Iterable[Rollout]) -> list[Rollout]:
        """Return the rollouts, with a reward for each module also in those that failed by themselves, where modules follow
        rewards of their own: the option `format_failure`, or where it is not set the lowest value of the module's metric.

        The reward of a whole run is not changed.
        """
        return [rollout if rollout.rewards else self._failed(rollout) for rollout in rollouts]

    def _failed(self, rollout: Rollout) -> Rollout:
        failure = self._failure
        rewards = {id: self._range(own)[0] if failure is None else failure for id, own in self.by_module.items()}
        return replace(rollout, rewards=rewards)

    def _range(self, id: str) -> tuple[float, float]:
        return self.program.plan.metrics[id].range

    def _reads(self, root: str) -> bool:
        return any(reads(self.program.plan.metrics, id, root) for id in self.ids)

    async def _scored(self, scope: dict[str, Any], judging: Judging) -> Score:
        metrics, words = self.program.plan.metrics, None
        for id in self.ids:
            if id not in scope["metrics"]:
                score = await self._value(metrics[id], scope, judging)
                scope["metrics"][id], words = score.value, words or score.feedback
        found = scope["metrics"]
        parts = {module: found[id] for module, id in self.by_module.items()}
        return Score(fmean(found[id] for id in self.ids), words, parts)
