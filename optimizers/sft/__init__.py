"""`sft`: supervised fine-tuning of the program's weights, on replies of runs that went well.

The program is run several times on train rows, and the best runs of each row are kept (best of n; RFT, arXiv 2308.01825);
runs of teachers and labelled rows may join them. Every kept reply is learnt as the reply to the prompt that the program sends,
by the mean negative log-likelihood of its tokens. The best adapter on dev rows is kept as in `grpo`, whose trainer this is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lmprog.compiler.fine_tuning import trained_by_providers, tuned_name
from lmprog.optimizers import call_counts, run_counts
from lmprog.optimizers.sft.config import Config as Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmprog.compiler.plan import Plan
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.optimizer import Task
    from lmprog.runtime.program import Program
    from lmprog.spending.fees import TrainingFee
    from lmprog.spending.worst_case import CallBound


class SFT:
    """The optimizer `sft`, made with its `Config`: it trains the LMs whose modules tune `weights` in `optimize.tune`, on good
    replies: in this process (LoRA adapters, or with the option `full` all weights), or by their provider's fine-tuning jobs."""

    name: ClassVar[str] = "sft"
    Config: ClassVar[type[Options]] = Options
    tunes = frozenset({"weights"})
    takes_teachers = True
    compares_runs = True
    finetunes = frozenset(
        {"rows", "samples", "temperature", "at_least", "keep", "teachers", "labelled", "repeats", "credit", "job"}
    )
    runs = staticmethod(run_counts.sft)
    lm_calls = staticmethod(call_counts.sft)

    def __init__(self, config: Options) -> None:
        self.config = config

    @staticmethod
    def packages(plan: Plan) -> tuple[str, ...]:
        """Return the packages that the stage needs for a plan, by import name: those for training here, none where
        providers train.
        """
        return () if trained_by_providers(plan) else ("torch", "peft", "trl", "accelerate")

    def most_calls(self, program: Program, train: int, dev: int) -> int:
        """Return the most LM calls of the stage with `train` train rows and `dev` choosing dev rows, those of judges and
        teachers included."""
        return self.lm_calls(program.plan, self.config.model_dump(), train, dev)

    def other_runs(self, program: Program) -> list[tuple[Plan, int]]:
        """Return the plans of the teachers, each with the largest number of its runs, in the order of the option
        `teachers`; empty without teachers. Raises RowsError where the train rows cannot be read."""
        from lmprog.optimizers.strategies.teachers import runs_of_teachers

        return runs_of_teachers(program, self.config.teachers, self.config.rows)

    def fees(self, program: Program, run: Sequence[CallBound], train: int) -> list[TrainingFee]:
        """Return what providers are paid for the fine-tuning jobs; empty where the weights are trained in this process.

        `run` bounds the LM calls of one run of the program, `train` is the number of train rows.
        """
        from lmprog.spending.fees import TrainingFee

        config, job = self.config, self.config.job
        kept = min(config.keep, config.samples + sum(teacher.rollouts for teacher in config.teachers))
        runs = min(config.rows, train) * kept + min(config.labelled, train)
        lms = program.plan.lms
        return [TrainingFee.of(lms[lm], job.model, run, runs, job.epochs) for lm in trained_by_providers(program.plan)]

    def results(self, program: Program) -> list[Candidate]:
        """Return the models that providers would train, as one change to the program, for the forecast of the cost: their
        calls may cost more than those of the models that they are trained from. Empty where this process trains.
        """
        from lmprog.optimizers.candidate import Candidate
        from lmprog.optimizers.sft.provider_stage import model_of

        lms = [program.plan.lms[id] for id in trained_by_providers(program.plan)]
        models = {lm.id: model_of(lm, tuned_name(lm, self.config.job.model)) for lm in lms}
        return [Candidate(models=models)] if models else []

    def most_proposals(self, program: Program, train: int, dev: int) -> int:
        """Return 0, since the stage asks no proposer."""
        return 0

    def optimize(self, task: Task) -> Candidate:
        """Train the weights; return them (adapters or models) as a change to the program, or START, no change, where
        they are not better on the choosing dev rows, or there is no reply to learn. Raises what `WeightStage.run` or,
        where providers train, `ProviderStage.run` raises, and UsageError and LmprogError where the weights cannot be
        trained so."""
        from lmprog.optimizers.sft.provider_stage import ProviderStage

        if trained_by_providers(task.program.plan):
            return ProviderStage(task, self.config).run()
        from lmprog.optimizers.sft.stage import sft_stage

        return sft_stage(task, self.config).run()
