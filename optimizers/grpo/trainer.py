"""TRL's GRPOTrainer, with the program's rollouts in place of its own, and a prefix-tree forward pass.

How this departs from the stock trainer:

* A row of the data set is an example of the program, not a prompt; one step runs the whole program on each example as often
  as a group has members, and every LM call of those runs becomes a training row with its own prompt (`_prepare_inputs`).
* Advantages come from `advantages.py` over the groups of `groups.py`, not from contiguous blocks of rows.
* Rows of groups whose rewards are all equal are gone before the forward pass. A step with no row left changes nothing.
* Log-probabilities are computed over the tree of all prompts and replies, each shared token once, and the vocabulary head
  runs only where a sampled token is predicted.
* On policy there are no old log-probabilities, and with `beta: 0` there is no reference pass.

Losses, KL, clipping, the optimizer, checkpoints and accelerate are TRL's and transformers' own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy
from trl import GRPOConfig, GRPOTrainer

from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.prefix_tree import PrefixTree, split


@dataclass(frozen=True)
class Row:
    """One sampled reply to train on: the token ids that were sent, those that were sampled, and its advantage."""

    prompt_ids: Sequence[int]
    reply_ids: Sequence[int]
    advantage: float


class ProgramTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains the adapter of `model` on what `collect(step)` gives: the rows of one step, none where nothing can be learnt."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: Config,
        collect: Callable[[int], list[Row]],
        folder: Path,
        seed: int,
        callbacks: list[TrainerCallback],
    ) -> None:
        self._collect = collect
        self._tree_tokens = config.tree_tokens
        on_gpu = torch.cuda.is_available()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super().__init__(
                model=model,
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
                    temperature=config.temperature,
                    max_grad_norm=config.max_grad_norm,
                    loss_type=config.loss,
                    beta=0.0,  # set below: TRL would copy the adapter as its reference, and ours is the base model
                    scale_rewards="none",
                    use_cpu=not on_gpu,
                    bf16=False,  # the weights' own number format rules; the adapter stays in fp32
                    gradient_checkpointing=False,
                    disable_dropout=True,
                    save_strategy=SaveStrategy.NO,
                    logging_steps=1,
                    report_to=[],
                    disable_tqdm=True,
                    seed=seed,
                ),
                # TRL draws rows of it only to count steps: which examples a step takes, `collect` decides.
                train_dataset=Dataset.from_dict({"prompt": [""] * 2}),
                processing_class=tokenizer,
                callbacks=callbacks,
            )
        self.beta = config.beta
        from transformers.trainer_callback import PrinterCallback

        self.remove_callback(PrinterCallback)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Tensor]:
        rows = self._collect(self._step)
        device = self.accelerator.device
        if not rows:
            return {"advantages": torch.zeros(0, device=device)}
        pad = self._tokenizer.pad_token_id
        prompts = [torch.tensor(row.prompt_ids) for row in rows]
        replies = [torch.tensor(row.reply_ids) for row in rows]
        prompt_ids = _padded(prompts, pad, "left")
        completion_ids = _padded(replies, pad, "right")
        inputs = {
            "prompt_ids": prompt_ids,
            "prompt_mask": _padded([torch.ones_like(ids) for ids in prompts], 0, "left"),
            "completion_ids": completion_ids,
            "completion_mask": _padded([torch.ones_like(ids) for ids in replies], 0, "right"),
            "advantages": torch.tensor([row.advantage for row in rows], dtype=torch.float32),
            "num_items_in_batch": torch.tensor(float(sum(len(row.reply_ids) for row in rows))),
        }
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        if self.beta != 0.0:
            with torch.no_grad(), self.accelerator.unwrap_model(self.model).disable_adapter():
                inputs["ref_per_token_logps"] = self._get_per_token_logps_and_entropies(
                    self.model,
                    torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
                    torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
                    completion_ids.size(1),
                )[0]
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        if inputs["advantages"].numel() == 0:
            # Touches no weight, so no gradient exists and the optimizer leaves every weight and moment as it is.
            return torch.zeros((), device=self.accelerator.device, requires_grad=True)
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **multimodal: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """Log-probabilities (B, T) of the T last tokens of each row, and the entropies there; 0 where a row is padded."""
        rows, width = input_ids.shape[0], logits_to_keep
        sequences = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
        replies = attention_mask[:, -width:].sum(1).tolist()
        logps = torch.zeros(rows, width, device=input_ids.device)
        entropies = torch.zeros(rows, width, device=input_ids.device)
        for part in split(sequences, self._tree_tokens):
            found, entropy = tree_logprobs(
                model, [sequences[row] for row in part], [replies[row] for row in part], self.temperature
            )
            row_index = torch.tensor([row for row in part for _ in range(replies[row])], device=input_ids.device)
            place = torch.tensor([t for row in part for t in range(replies[row])], device=input_ids.device)
            logps = logps.index_put((row_index, place), found)
            entropies = entropies.index_put((row_index, place), entropy.detach())
        return logps, entropies if compute_entropy else None, None


def tree_logprobs(
    model: Any, sequences: list[list[int]], replies: list[int], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the last `replies[s]` tokens of each sequence s, joined in their order (sum(replies),).

    With them the entropies of the distributions they were drawn from. One forward pass over the tree of the sequences;
    equal to a pass for each sequence alone, for models with rotary positions and no dropout.
    """
    tree = PrefixTree.pack(sequences)
    device = next(model.parameters()).device
    predicting = [
        path[t - 1] for path, n in zip(tree.paths, replies, strict=True) for t in range(len(path) - n, len(path))
    ]
    predicted = [token for ids, n in zip(sequences, replies, strict=True) for token in ids[len(ids) - n :]]
    nodes, back = torch.tensor(predicting, device=device).unique(return_inverse=True)
    dtype = model.get_input_embeddings().weight.dtype
    mask = torch.zeros(tree.mask.shape, dtype=dtype).masked_fill_(~tree.mask, torch.finfo(dtype).min)
    logits = model(
        input_ids=tree.tokens.unsqueeze(0).to(device),
        position_ids=tree.positions.unsqueeze(0).to(device),
        attention_mask=mask[None, None].to(device),
        logits_to_keep=nodes,
        use_cache=False,
    ).logits[0]
    spread = (logits.float() / temperature).log_softmax(-1)
    entropy = -(spread.exp() * spread).sum(-1)
    picked = spread[back, torch.tensor(predicted, device=device)]
    return picked, entropy[back]


def _padded(rows: list[Tensor], value: int, side: str) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)


def _unused_reward(**kwargs: Any) -> list[float]:
    """TRL wants a reward function at construction; rewards come with the program's rollouts, so it is never called."""
    raise AssertionError("rewards come from the program's metric")
