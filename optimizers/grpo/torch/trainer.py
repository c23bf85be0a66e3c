"""TRL's GRPOTrainer, with the program's rollouts in place of its own, and a prefix-tree forward pass.

How this departs from the stock trainer:

* A row of the data set is an example of the program, not a prompt; one step runs the whole program on each example as often
  as a group has members, and every LM call of those runs becomes a training row with its own prompt (`_prepare_inputs`).
* Advantages come from `advantages.py` over the groups of `groups.py`, not from contiguous blocks of rows.
* Rows of groups whose rewards are all equal are gone before the forward pass, but with `beta`, whose KL term counts them. A
  step with no row left changes nothing.
* Log-probabilities are computed over the tree of all prompts and replies, each shared token once (`logprobs.py`), under the
  temperature and the masks that the replies were sampled with.
* Each pass goes back before the next goes forward, so that memory is that of one pass: the losses of rows add up.
* The mask of a reply holds what each of its tokens counts (`training_rows.py`), so that a run of several calls is one member.
* The old log-probabilities of a second update are those of the first one's own pass, and with `beta: 0` there is no
  reference pass.
* Each token's part of the loss is multiplied by its probability here over that where it was sampled, capped
  (`importance.py`): the engine that samples and the trainer have different kernels and number formats.
* Each row goes through the network with the adapter of its module, in a tree of that adapter alone (`trained.py`).
* For `sft` the rows are replies to learn, and the loss is their mean negative log-likelihood; all else is the same.

The loss of a token, KL, clipping, the optimizer, checkpoints and accelerate are TRL's and transformers' own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME
from trl import GRPOTrainer

from lmprog.compiler.tokens import USUAL_REPLY
from lmprog.errors import Handled
from lmprog.lms.local.thread_count import alone, computing
from lmprog.lms.local.writing import writing
from lmprog.optimizers import processes
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.health import flat
from lmprog.optimizers.grpo.math.importance import importance_weights, mismatch, sampler_logprobs
from lmprog.optimizers.grpo.math.training_rows import Row, loss_weights
from lmprog.optimizers.grpo.ranks import shares
from lmprog.optimizers.grpo.stopwatch import Stopwatch
from lmprog.optimizers.grpo.torch.logprobs import Allowed, logprobs, passes
from lmprog.optimizers.grpo.torch.pass_metrics import PassMetrics
from lmprog.optimizers.grpo.torch.settings import forward_as_it_was, trl_config
from lmprog.optimizers.grpo.torch.sharded import takes_whole_state, whole_state
from lmprog.optimizers.grpo.torch.stage_callback import AfterUpdate
from lmprog.optimizers.grpo.torch.trained import OneAdapter, TrainedAdapters

TRAINED_WEIGHTS = "trained.safetensors"


class Stopped(Handled):
    """The error raised in the other processes when the first process has ended the training before its last step."""


def _unconstrained(row: Row) -> Any:
    raise AssertionError("no row is constrained")


class ProgramTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPOTrainer on the training rows that `collect(step)` returns for each step; a step without rows changes no
    weight, but counts as a step.
    """

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
        imitates: bool = False,
        reply_limit: int = USUAL_REPLY,
        allowed: Callable[[Row], Allowed] = _unconstrained,
        health: Callable[[], Mapping[str, Any]] = dict,
        clock: Stopwatch | None = None,
    ) -> None:
        """Set up the trainer.

        `collect(step)` returns the rows of the update that follows a step, once for `updates` updates, in the first process.
        Checkpoints go into `folder`; torch's draws follow from `seed`. With `imitates` the loss is the mean negative
        log-likelihood of the replies, whatever their advantages, which must not be 0.

        `reply_limit` is the longest a reply may be, in tokens; `allowed` returns the packed masks that a constrained reply
        was sampled under.

        `health` returns the metrics of the rollouts, once they are collected, for the trackers of `report_to`; `clock`
        measures the time of the parts of a step (None: nothing does).
        """
        self._collect, self._config, self._allowed, self._imitates = collect, config, allowed, imitates
        self._health, self._clock = health, clock or Stopwatch()
        self._rows: Sequence[Row] = ()
        self._inputs: dict[str, Tensor] = {}
        self._pass: list[int] = []
        """The places of the rows that go through the network now."""
        self._of_pass: dict[str, Tensor] = {}
        self._mismatch: list[Tensor] = []
        with warnings.catch_warnings(), forward_as_it_was(trained.models[0]):
            warnings.simplefilter("ignore")
            super().__init__(
                model=trained.models[0],  # for what TRL asks of a model; what it trains is set below
                reward_funcs=[_unused_reward],
                args=trl_config(config, folder, seed, reply_limit),
                # TRL draws rows of it only to count steps: which examples a step takes, `collect` decides.
                train_dataset=Dataset.from_dict({"prompt": [""] * max(2, processes.count())}),
                processing_class=tokenizer,
                callbacks=callbacks,
            )
        self.beta = config.beta
        self.model = self.model_wrapped = trained
        # Leaves shared weights where they are, and does not wrap them in DDP.
        self.is_distributed_loading_by_transformers = trained.shares
        from transformers.trainer_callback import PrinterCallback

        self.remove_callback(PrinterCallback)
        self.callback_handler.callbacks.insert(0, AfterUpdate(trained))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Tensor]:
        """Return the tensors of the step's rows by TRL's names; for `updates` steps in a row the same ones, with the
        log-probabilities that the first of them has measured."""
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
        weights = loss_weights(
            rows,
            config.loss,
            reply_limit=self.max_completion_length,
            weighting=config.weighting,
            normalise=config.normalise,
        )
        # A row of advantage 0 moves nothing, but for the KL term.
        kept = [(row, pair) for row, pair in zip(rows, weights, strict=True) if row.advantage or self.beta]
        self._rows = [row for row, _ in kept]
        if not kept:
            return {"advantages": torch.zeros(0, device=device)}
        # TRL weighs the policy's loss and the KL term alike. The mask holds the weight of the latter where there is one; the
        # former is linear in the advantage, which makes up for the difference.
        weight_of = [divergence if self.beta else policy for _, (policy, divergence) in kept]
        advantage_of = [
            row.advantage * (policy / weight) for (row, (policy, _)), weight in zip(kept, weight_of, strict=True)
        ]
        # TRL sums the mask of a row, and at least 1, so no weight may be below 1; what they are scaled by divides the loss.
        scale = max(1.0, 1 / min(weight_of))
        if self.accelerator.num_processes > 1:
            split = shares(self._rows, self.accelerator.num_processes)
            own = split[self.accelerator.process_index]
            # TRL gathers figures of each row, so all ranks take as many: what a rank lacks is a row that counts nothing.
            lacking = max(len(share) for share in split) - len(own)
            self._rows = [self._rows[row] for row in [*own, *(own or [0])[:1] * lacking]]
            weight_of = [weight_of[row] for row in own] + [0.0] * lacking
            advantage_of = [advantage_of[row] for row in [*own, *(own or [0])[:1] * lacking]]
        completion_ids = _padded([torch.tensor(row.reply_ids) for row in self._rows], 0)
        masks = [
            torch.full((len(row.reply_ids),), weight * scale) for row, weight in zip(self._rows, weight_of, strict=True)
        ]
        inputs = {
            "prompt_ids": completion_ids[:, :0],
            "prompt_mask": completion_ids[:, :0],
            "completion_ids": completion_ids,
            "completion_mask": _padded(masks, 0.0),
            "advantages": torch.tensor(advantage_of, dtype=torch.float32),
            "num_items_in_batch": torch.tensor(scale),
            # The first update of a wave, which is on policy, writes those that later ones are compared with.
            "old_per_token_logps": torch.zeros(completion_ids.shape),
        }
        # Asked of all rows, not of this process's: what follows from it is gathered from all processes.
        if any(row.sampled is not None for row, _ in kept):
            inputs["sampling_per_token_logps"] = sampler_logprobs(
                [row.sampled for row in self._rows], [len(row.reply_ids) for row in self._rows]
            )
            inputs["importance_weights"] = torch.ones(completion_ids.shape)
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        if self.beta != 0.0:
            reference = torch.zeros(completion_ids.shape, device=device)
            with torch.no_grad():
                places = self._passes()
                lacking = self._lacking(places) if self._trained.shares else 0
                for own in [*places, *places[:1] * lacking]:
                    reference[own] = self._logprobs(own, reference.shape[1], reference=True)[0]
            inputs["ref_per_token_logps"] = reference
        return inputs

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Tensor:
        # What is neither rollout, score nor forward in it is the backward pass.
        with self._clock.part("backward"):
            with computing(self.accelerator.device.type):
                loss: Tensor = super().training_step(model, *args, **kwargs)
            if self.accelerator.num_processes > 1:
                self._trained.combine_gradients()
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # Between a step and its checkpoint the first process scores, which a spent budget may end; then it broadcasts None.
        # Here the others would wait for it in collectives: of the shared weights, and of transformers' count of operations.
        if processes.from_first(True) is None:
            raise Stopped
        with writing(Path(self.args.output_dir)):
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the trained weights alone, by name, whatever adapters they are of.

        A checkpoint is for this stage only.
        """
        weights = self._trained.whole_weights()  # by all processes, which may share them
        if not self.args.should_save:  # the first process does
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / TRAINED_WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any | None = None) -> None:
        self._trained.set_weights(load_file(Path(resume_from_checkpoint) / TRAINED_WEIGHTS))

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().create_optimizer(*args, **kwargs)
        if self._trained.shares:
            takes_whole_state(optimizer)
        return optimizer

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._trained.shares:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = whole_state(self.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    @property
    def _trained(self) -> TrainedAdapters:
        # Not as accelerate wraps it: the hooks of DDP add gradients up otherwise than `ranks.py`.
        trained: TrainedAdapters = self.accelerator.unwrap_model(self.model)
        return trained

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card; TRL would write one with every checkpoint."""

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the loss of all passes.

        Only the last pass still has its graph, the others have been back-propagated.
        """
        if inputs["advantages"].numel() == 0:
            # Touches no weight, so no gradient exists and the optimizer leaves every weight and moment as it is.
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        places = self._passes()
        # TRL gathers figures in each pass, so all ranks make as many: what a rank lacks is a pass that counts nothing.
        lacking = self._lacking(places)
        pass_metrics = PassMetrics(self._metrics["train"])
        total = torch.zeros((), device=self.accelerator.device)
        self._mismatch.clear()
        for number, self._pass in enumerate([*places, *places[:1] * lacking]):
            self._of_pass = {name: value[self._pass] if value.dim() else value for name, value in inputs.items()}
            if number >= len(places):
                self._of_pass["completion_mask"] = torch.zeros_like(self._of_pass["completion_mask"])
            with self._clock.part("forward"), alone():
                loss: Tensor = self._imitation() if self._imitates else super()._compute_loss(model, self._of_pass)
            pass_metrics.end_of_pass(self.accelerator.reduce(self._of_pass["completion_mask"].sum()).item())
            if number + 1 < len(places) + lacking:
                self.accelerator.backward(loss)
                total += loss.detach()
        pass_metrics.join()
        if self._mismatch:
            self._record_mismatch()
        return loss + total

    def _imitation(self) -> Tensor:
        """Return the negative log-likelihood of this pass.

        It is divided as TRL divides `dapo`, so that the passes of all ranks add up.
        """
        mask, tokens = self._of_pass["completion_mask"], self._of_pass["num_items_in_batch"]
        logps, entropies = self._logprobs(self._pass, mask.shape[1])
        counted = mask.sum().clamp(min=1.0)
        entropy = (entropies.detach() * mask).sum() / counted
        self._metrics["train"]["entropy"].append(self.accelerator.gather(entropy).nanmean().item())
        return -(logps * mask).sum() * self.accelerator.num_processes / tokens

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, None]:
        """Return the log-probabilities and entropies of the rows of this pass.

        TRL's padded ids stand for these rows.
        """
        inputs = self._of_pass
        logps, entropies = self._logprobs(self._pass, inputs["completion_ids"].shape[1])
        if self.state.global_step % self._config.updates == 0:
            self._keep("old_per_token_logps", logps.detach())
            if "importance_weights" in inputs:
                sampled, cap = inputs["sampling_per_token_logps"], self._config.importance_sampling_cap
                self._keep("importance_weights", importance_weights(logps.detach(), sampled, cap))
                self._mismatch.append(mismatch(logps.detach(), sampled, cap, inputs["completion_mask"] > 0))
        if "importance_weights" in inputs:
            # Every loss but its KL term is linear in the advantages.
            inputs["advantages"] = inputs["advantages"].unsqueeze(1) * inputs["importance_weights"]
        return logps, entropies if compute_entropy else None, None

    def _keep(self, name: str, of_pass: Tensor) -> None:
        """Keep a value for this pass, and for the passes of later updates on its rows."""
        self._inputs[name][self._pass] = self._of_pass[name] = of_pass

    def _record_mismatch(self) -> None:
        of_ranks = self.accelerator.gather(torch.stack(self._mismatch))
        apart, tokens, truncated, _, far = of_ranks.sum(0).tolist()
        metrics = {
            "mismatch": apart / max(1.0, tokens),
            "mismatch_max": of_ranks[:, 3].max().item(),
            "mismatch_outside": far / max(1.0, tokens),
            "truncated": truncated / max(1.0, tokens),
        }
        for name, value in metrics.items():
            self._metrics["train"][f"sampler/{name}"].append(value)

    def _passes(self) -> list[list[int]]:
        """Return the places of the rows that go through the network together, all of one adapter."""
        return [
            [own[place] for place in part]
            for adapter, own in self._by_adapter().items()
            for part in passes(
                self._model_of(adapter),
                [[*self._rows[place].prompt_ids, *self._rows[place].reply_ids] for place in own],
                self._config.tree_tokens,
            )
        ]

    def _lacking(self, places: Sequence[Sequence[int]]) -> int:
        """Return how many passes fewer than another process this one has."""
        of_ranks = self.accelerator.gather(torch.tensor([len(places)], device=self.accelerator.device))
        return int(of_ranks.max()) - len(places)

    def _by_adapter(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for place, row in enumerate(self._rows):
            found.setdefault(row.adapter, []).append(place)
        return found

    def _model_of(self, adapter: int, reference: bool = False) -> OneAdapter:
        return OneAdapter(self._trained, adapter, reference)

    def _logprobs(self, places: Sequence[int], width: int, reference: bool = False) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities and entropies (B, width) of the replies' tokens; 0 where padded.

        With `reference` they are by the base model.
        """
        rows = [self._rows[place] for place in places]
        with computing(self.accelerator.device.type):
            found = logprobs(
                self._model_of(rows[0].adapter, reference),
                [[*row.prompt_ids, *row.reply_ids] for row in rows],
                [len(row.reply_ids) for row in rows],
                [self._config.temperature_of(row.module) for row in rows],
                [None if row.constraint is None else self._allowed(row) for row in rows],
            )
        logps, entropies = (_padded(each, 0.0) for each in zip(*found, strict=True))
        room = (0, width - logps.shape[1])
        return torch.nn.functional.pad(logps, room), torch.nn.functional.pad(entropies, room)


def _padded(rows: Sequence[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _unused_reward(**kwargs: Any) -> list[float]:
    """Raise AssertionError if called.

    TRL wants a reward function at construction; rewards come with the program's rollouts, so it is never called.
    """
    raise AssertionError("rewards come from the program's metric")
