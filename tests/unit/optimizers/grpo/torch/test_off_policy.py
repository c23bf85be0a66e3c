"""Several updates on one wave: ratios against its own log-probabilities, clipped, by token and by reply, in plain PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from pydantic import ValidationError  # noqa: E402
from transformers import AutoTokenizer, TrainerCallback  # noqa: E402

from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.math.training_rows import Row, token_weights  # noqa: E402
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters  # noqa: E402
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer  # noqa: E402


def rows() -> list[Row]:
    draw = torch.Generator().manual_seed(5)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 64, (count,), generator=draw).tolist()

    prompt = ids(9)
    of_rows = zip((1, 4, 3, 6), (1.0, -0.8, 0.6, -1.2), ("a", "b", "a", "b"), strict=True)
    return [Row([*prompt, *ids(place % 2)], ids(n), adv, module) for place, (n, adv, module) in enumerate(of_rows)]


class ByHand(TrainerCallback):
    """Before each update: the gradient of the trainer, and the one written out."""

    def __init__(self, model: Any, config: Config) -> None:
        self.model, self.config = model, config
        self.old: list[torch.Tensor] = []
        self.ratios: list[float] = []
        self.found: list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        got = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        if state.global_step % self.config.updates == 0:
            self.old = [self.logprobs(row).detach() for row in rows()]
        self.model.zero_grad()
        self.loss().backward()
        self.found.append((got, {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}))

    def logprobs(self, row: Row) -> torch.Tensor:
        ids = torch.tensor([[*row.prompt_ids, *row.reply_ids]])
        logits = self.model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float()
        spread = (logits / self.config.temperature_of(row.module)).log_softmax(-1)
        return spread.gather(1, torch.tensor(row.reply_ids).unsqueeze(1)).squeeze(1)

    def loss(self) -> torch.Tensor:
        config, total = self.config, torch.zeros(())
        weights = token_weights(rows(), config.loss, reply_limit=256, weighting=config.weighting)
        for row, old, weight in zip(rows(), self.old, weights, strict=True):
            own = self.logprobs(row)
            ratio = (own - old).exp()
            if config.importance_sampling_level == "sequence":
                ratio = (own - old).mean().exp().expand(len(own))
            self.ratios += ratio.tolist()
            if config.loss == "cispo":
                per_token = -ratio.clamp(max=config.epsilon_high or 5.0).detach() * row.advantage * own
            else:
                clipped = ratio.clamp(1 - config.epsilon, 1 + (config.epsilon_high or config.epsilon))
                per_token = -torch.minimum(ratio * row.advantage, clipped * row.advantage)
            if config.beta:
                with torch.no_grad(), self.model.disable_adapter():
                    base = self.logprobs(row)
                per_token = per_token + config.beta * ratio * ((base - own).exp() - (base - own) - 1)
            total = total + weight * per_token.sum()
        return total


@pytest.mark.slow
@pytest.mark.parametrize("tree_tokens", [1024, 20])  # one pass, and some
@pytest.mark.parametrize(
    "options",
    [
        {"loss": "dapo"},
        {"loss": "dapo", "epsilon": 0.05, "epsilon_high": 0.1, "beta": 0.1},
        {"loss": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.02},
        {"loss": "dapo", "importance_sampling_level": "sequence", "weighting": "modules", "beta": 0.1},
        {"loss": "cispo"},
        {"loss": "cispo", "epsilon_high": 1.1, "temperature": {"a": 0.6}},
        {"loss": "dr_grpo", "weighting": "modules", "temperature": {"a": 0.6, "b": 1.5}},
    ],
)
def test_each_update_on_a_wave_has_the_gradient_written_out(
    tuned_llama, tmp_path: Path, options: dict, tree_tokens: int
) -> None:
    from lmprog.lms.embedded import model_folder

    model, drawn = tuned_llama(), []
    config = Config(steps=4, rollouts=2, updates=2, learning_rate=0.02, max_grad_norm=1e9, **options)
    config = config.model_copy(update={"tree_tokens": tree_tokens})
    by_hand = ByHand(model, config)

    def collect(step: int) -> list[Row]:
        drawn.append(step)
        return rows()

    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    trained = TrainedAdapters([(model, "default")])
    ProgramTrainer(trained, tokenizer, config, collect, tmp_path, 0, [by_hand]).train()
    assert drawn == [0, 2]
    assert max(by_hand.ratios) > 1.1 and min(by_hand.ratios) < 0.95  # off policy, where clipping matters
    assert len(by_hand.found) == 4
    for got, expected in by_hand.found:
        assert got.keys() == expected.keys() and len(got) > 10
        for name, gradient in got.items():
            assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()) + 1e-7, name


def test_the_cap_of_cispo_is_a_ratio_and_no_distance() -> None:
    assert Config(loss="cispo").highest_ratio == 5.0
    assert Config(loss="dapo").highest_ratio == Config().epsilon == 0.2
    with pytest.raises(ValidationError, match="highest ratio itself"):
        Config(loss="cispo", epsilon_high=0.28)
