"""The settings of TRL's trainer that follow from those of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_utils import SaveStrategy
from trl import GRPOConfig

from lmprog.optimizers.grpo.config import Config


def trl_config(config: Config, folder: Path, seed: int, reply_limit: int) -> GRPOConfig:
    """Return TRL's settings for a stage with the options `config`; checkpoints go into `folder`, every `checkpoint_every`
    steps rounded up to whole waves of `updates`, and no reply is longer than `reply_limit` tokens. `beta` is 0 in them.
    """
    on_gpu = torch.cuda.is_available()
    return GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=config.rollouts,
        num_generations=config.rollouts,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        max_grad_norm=config.max_grad_norm,
        # Of the others TRL's losses differ only in how tokens are weighed, which `token_weights` does.
        loss_type="cispo" if config.loss == "cispo" else "dapo",
        importance_sampling_level=config.importance_sampling_level,
        epsilon=config.epsilon,
        epsilon_high=config.highest_ratio,
        max_completion_length=reply_limit,
        beta=0.0,  # set below: TRL would copy the adapter as its reference, and ours is the base model
        scale_rewards="none",
        use_cpu=not on_gpu,
        bf16=False,  # the weights' own number format rules; the adapter stays in fp32
        gradient_checkpointing=False,
        disable_dropout=True,
        save_strategy=SaveStrategy.STEPS,
        # Where the next step samples anew: the rows of a wave and their old log-probabilities are not kept.
        save_steps=-(-config.checkpoint_every // config.updates) * config.updates,
        logging_steps=1,
        report_to=config.report_to,
        disable_tqdm=True,
        seed=seed,
    )


@contextmanager
def forward_as_it_was(model: Any) -> Iterator[None]:
    """Return a context for making TRL's trainer of `model`, at the end of which the model (under an adapter: its base model)
    has the `forward` that it had.

    TRL sets one of its own, for losses that are not used here. It holds the model itself, so that a later copy of the model
    would compute with the weights of the model and not with its own.
    """
    of = vars(model.get_base_model() if hasattr(model, "get_base_model") else model)
    had, before = "forward" in of, of.get("forward")
    yield
    of.pop("forward", None)
    if had:
        of["forward"] = before
