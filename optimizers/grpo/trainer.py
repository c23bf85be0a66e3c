"""TRL's GRPOTrainer, with the program's rollouts in place of its own, and a prefix-tree forward pass.

How this departs from the stock trainer:

* A row of the data set is an example of the program, not a prompt; one step runs the whole program on each example as often
  as a group has members, and every LM call of those runs becomes a training row with its own prompt (`_prepare_inputs`).
* Advantages come from `advantages.py` over the groups of `groups.py`, not from contiguous blocks of rows.
* Rows of groups whose rewards are all equal are gone before the forward pass. A step with no row left changes nothing.
* Log-probabilities are computed over the tree of all prompts and replies, each shared token once (`logprobs.py`), under the
  temperature and the masks that the replies were sampled with.
* The mask of a reply holds what each of its tokens counts (`rows.py`), so that a run of several calls is one member.
* The old log-probabilities of a second update are those of the first one's own pass, and with `beta: 0` there is no
  reference pass.
* Tokens that a server has sampled count as likely as they are here against there (`importance.py`).
* Each row goes through the network with the adapter of its module, in a tree of that adapter alone (`trained.py`).

The loss of a token, KL, clipping, the optimizer, checkpoints and accelerate are TRL's and transformers' own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy
from trl import GRPOConfig, GRPOTrainer

from lmprog.optimizers import processes
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.health import flat
from lmprog.optimizers.grpo.importance import importance_weights, mismatch, told
from lmprog.optimizers.grpo.logprobs import Allowed, logprobs
from lmprog.optimizers.grpo.ranks import average_gradients, shares
from lmprog.optimizers.grpo.rows import Row, token_weights
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.trained import OneAdapter, TrainedAdapters

TRAINED_WEIGHTS = "trained.safetensors"


class Stopped(Exception):
    """The first process has ended the training before its last step."""


def _unconstrained(row: Row) -> Any:
    raise AssertionError("no row is constrained")


class ProgramTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains adapters on what `collect(step)` gives: the rows of one step, none where nothing can be learnt."""

    def __init__(
        self,
        trained: TrainedAdapters,
        tokenizer: Any,
        config: Config,
        collect: Callable[[int], list[Row]],
        folder: Path,
        seed: int,
        callbacks: list[TrainerCallback],
        *,
        reply_limit: int = 256,
        allowed: Callable[[Row], Allowed] = _unconstrained,
        health: Callable[[], Mapping[str, Any]] = dict,
        clock: Stopwatch | None = None,
    ) -> None:
        """`reply_limit` is the longest a reply may be; `allowed` gives the masks that a constrained reply was sampled under.

        `health` gives the figures of the rollouts, once they are collected, for those who log; `clock` splits each step.
        """
        self._collect, self._config, self._allowed = collect, config, allowed
        self._health, self._clock = health, clock or Stopwatch()
        self._rows: Sequence[Row] = ()
        self._inputs: dict[str, Tensor] = {}
        on_gpu = torch.cuda.is_available()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(
                model=trained.models[0],  # for what TRL asks of a model; what it trains is set below
                reward_funcs=[_unused_reward],
                args=GRPOConfig(
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
                ),
                # TRL draws rows of it only to count steps: which examples a step takes, `collect` decides.
                train_dataset=Dataset.from_dict({"prompt": [""] * max(2, processes.count())}),
                processing_class=tokenizer,
                callbacks=callbacks,
            )
        self.beta = config.beta
        self.model = self.model_wrapped = trained
        from transformers.trainer_callback import PrinterCallback

        self.remove_callback(PrinterCallback)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Tensor]:
        """The step's rows; for `updates` steps in a row the same ones."""
        # The trainer's own count of steps, which a checkpoint keeps; TRL's begins anew.
        step = self.state.global_step
        if step % self._config.updates == 0:
            rows = self._collected(step)
            with self._clock.part("forward"):
                self._inputs = self._inputs_of(rows)
        return self._inputs

    def _collected(self, step: int) -> Sequence[Row]:
        rows: Sequence[Row] | None = processes.from_first(self._collect(step) if processes.first() else None)
        if rows is None:
            raise Stopped
        for name, value in flat(self._health()):
            self._metrics["train"][name].append(value)
        return rows

    def _inputs_of(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        config, device = self._config, self.accelerator.device
        weights = token_weights(rows, config.loss, reply_limit=self.max_completion_length, weighting=config.weighting)
        # A row of advantage 0 moves nothing, but for the KL term.
        kept = [(row, weight) for row, weight in zip(rows, weights, strict=True) if row.advantage or self.beta]
        self._rows = [row for row, _ in kept]
        if not kept:
            return {"advantages": torch.zeros(0, device=device)}
        weight_of = [weight for _, weight in kept]
        # TRL sums the mask of a row, and at least 1, so no weight may be below 1; what they are scaled by divides the loss.
        scale = max(1.0, 1 / min(weight_of))
        if self.accelerator.num_processes > 1:
            split = shares(self._rows, self.accelerator.num_processes)
            own = split[self.accelerator.process_index]
            # TRL gathers figures of each row, so all ranks take as many: what a rank lacks is a row that counts nothing.
            lacking = max(len(share) for share in split) - len(own)
            self._rows = [self._rows[row] for row in [*own, *(own or [0])[:1] * lacking]]
            weight_of = [weight_of[row] for row in own] + [0.0] * lacking
        completion_ids = _padded([torch.tensor(row.reply_ids) for row in self._rows], 0)
        masks = [
            torch.full((len(row.reply_ids),), weight * scale) for row, weight in zip(self._rows, weight_of, strict=True)
        ]
        inputs = {
            "prompt_ids": completion_ids[:, :0],
            "prompt_mask": completion_ids[:, :0],
            "completion_ids": completion_ids,
            "completion_mask": _padded(masks, 0.0),
            "advantages": torch.tensor([row.advantage for row in self._rows], dtype=torch.float32),
            "num_items_in_batch": torch.tensor(scale),
        }
        # Asked of all rows, not of this process's: what follows from it is gathered from all processes.
        if any(row.sampled is not None for row, _ in kept):
            inputs["sampling_per_token_logps"] = told(
                [row.sampled for row in self._rows], [len(row.reply_ids) for row in self._rows]
            )
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        if self.beta != 0.0:
            with torch.no_grad():
                inputs["ref_per_token_logps"] = self._logprobs(self.model, reference=True)[0]
        return inputs

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Tensor:
        # What is neither rollout, score nor forward in it is the backward pass.
        with self._clock.part("backward"):
            loss: Tensor = super().training_step(model, *args, **kwargs)
            if self.accelerator.num_processes > 1:
                average_gradients(weight for _, weight in self._trained_weights())
        return loss

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """The trained weights alone, by name, whatever adapters they are of: a checkpoint is for this stage only."""
        if not self.args.should_save:  # the first process does
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach() for name, weight in self._trained_weights()}, folder / TRAINED_WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any | None = None) -> None:
        kept = load_file(Path(resume_from_checkpoint) / TRAINED_WEIGHTS)
        for name, weight in self._trained_weights():
            weight.data.copy_(kept[name])

    def _trained_weights(self) -> Iterator[tuple[str, Tensor]]:
        model = self.accelerator.unwrap_model(self.model)
        return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: TRL would write one with every checkpoint."""

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        if inputs["advantages"].numel() == 0:
            # Touches no weight, so no gradient exists and the optimizer leaves every weight and moment as it is.
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        with self._clock.part("forward"):
            return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, None]:
        """Those of the step's rows, which TRL's padded ids stand for."""
        logps, entropies = self._logprobs(model)
        # The first update of a wave is on policy: what it computes is what later ones are compared with.
        if "old_per_token_logps" not in self._inputs:
            self._inputs["old_per_token_logps"] = logps.detach()
            if "sampling_per_token_logps" in self._inputs:
                self._weigh(logps.detach(), self._inputs["sampling_per_token_logps"])
        return logps, entropies if compute_entropy else None, None

    def _weigh(self, logps: Tensor, sampled: Tensor) -> None:
        """Multiply the importance weights into the advantages, in which every loss but its KL term is linear."""
        cap, counted = self._config.importance_sampling_cap, self._inputs["completion_mask"] > 0
        weights = importance_weights(logps, sampled, cap)
        self._inputs["advantages"] = self._inputs["advantages"].unsqueeze(1) * weights
        of_ranks = self.accelerator.gather(mismatch(logps, sampled, cap, counted).unsqueeze(0))
        apart, tokens, truncated = of_ranks[:, :3].sum(0).tolist()
        figures = {
            "mismatch": apart / max(1.0, tokens),
            "mismatch_max": of_ranks[:, 3].max().item(),
            "truncated": truncated / max(1.0, tokens),
        }
        for name, value in figures.items():
            self._metrics["train"][f"sampler/{name}"].append(value)

    def _logprobs(self, model: Any, reference: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies (B, T) of the replies' tokens, by the base with `reference`; 0 where padded."""
        rows = self._rows
        if isinstance(model, DistributedDataParallel):
            model = model.module  # whose hooks add gradients up otherwise than `ranks.py`
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for adapter in dict.fromkeys(row.adapter for row in rows):
            own = [place for place, row in enumerate(rows) if row.adapter == adapter]
            of_own = [rows[place] for place in own]
            for place, *of_row in logprobs(
                OneAdapter(model, self.accelerator.unwrap_model(model), adapter, reference),
                [[*row.prompt_ids, *row.reply_ids] for row in of_own],
                [len(row.reply_ids) for row in of_own],
                [self._config.temperature_of(row.module) for row in of_own],
                [None if row.constraint is None else self._allowed(row) for row in of_own],
                self._config.tree_tokens,
            ):
                found[own[place]] = tuple(of_row)
        logps, entropies = zip(*(found[place] for place in range(len(rows))), strict=True)
        return _padded(logps, 0.0), _padded(entropies, 0.0)


def _padded(rows: Sequence[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _unused_reward(**kwargs: Any) -> list[float]:
    """TRL wants a reward function at construction; rewards come with the program's rollouts, so it is never called."""
    raise AssertionError("rewards come from the program's metric")
