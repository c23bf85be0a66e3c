"""The training of a policy's weights, together with all other processes of this optimization."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from lmprog.lms.local.thread_count import alone
from lmprog.optimizers import processes
from lmprog.optimizers.grpo.checkpoints import Checkpoints
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.overlong import divisor
from lmprog.optimizers.grpo.math.training_rows import Row
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.torch.sharded import TrainedCopy
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer, Stopped
from lmprog.optimizers.grpo.train_request import TrainRequest
from lmprog.runtime.program import Program
from lmprog.seeds import derive


@processes.others_wait(False)
def train(
    policy: Policy,
    request: TrainRequest,
    rows: Callable[[int], list[Row]],
    *,
    callbacks: Sequence[TrainerCallback] = (),
    health: Callable[[], Mapping[str, Any]] = dict,
    clock: Stopwatch | None = None,
) -> None:
    """Train the policy's weights from the last whole checkpoint on to the last step, as `request` describes; called in each
    process, inside `policy.training`.

    `rows` returns the training rows of the update that follows a step, in the first process alone, which sends them to the
    others; what it raises ends the training. `callbacks` are those of the trainer, `health` returns further metrics of the
    step, and `clock` measures the time of its parts (None: nothing does). In another process return also where the first
    ends the training early.
    """
    config, checkpoints, plan = request.config, Checkpoints(request.folder), policy.start.plan
    trainer = ProgramTrainer(
        _trained(policy, config),
        policy.weights[policy.adapters[0]].tokenizer,
        config,
        rows,
        checkpoints.trainer,
        derive(request.seed, "trainer") % 2**32,
        [*callbacks],
        imitates=request.imitates,
        reply_limit=max(divisor(plan, each.lm, config.loss) for each in policy.adapters),
        allowed=policy.allowed,
        health=health,
        clock=clock,
    )
    done = request.done
    with suppress(Stopped), alone(), warnings.catch_warnings():
        # Names that transformers renames; TRL still uses the old.
        warnings.simplefilter("ignore", FutureWarning)
        trainer.train(str(checkpoints.of_trainer(done.step)) if done is not None else None)


def _trained(policy: Policy, config: Config) -> TrainedAdapters:
    """Return the weights in training: the adapters beside their models, or a copy where processes share the weights or all
    of them are trained.
    """
    adapters = [policy.weights[adapter].in_peft(name) for adapter, name in policy.trained.items()]
    checkpoints = config.gradient_checkpointing
    if not processes.shards() and not config.full:
        return TrainedAdapters(adapters, checkpoints=checkpoints)
    return TrainedCopy(*adapters[0], shares=processes.shards(), checkpoints=checkpoints)


def join(program: Program, request: TrainRequest) -> None:
    """Take part, in a process beside the first, in the training that the first process began with `request`, until it ends;
    `program` is the one that this process has loaded.
    """

    def nothing(text: str) -> None:
        """Do nothing: the first process writes the journal."""

    def no_rows(step: int) -> list[Row]:
        raise AssertionError("the first process samples")

    own = replace(program, plan=request.plan, resources=replace(program.resources))
    policy = Policy(own, request.folder, nothing, full=request.config.full)
    with policy.training(request.config.lora, request.seed):
        train(policy, request, no_rows)
