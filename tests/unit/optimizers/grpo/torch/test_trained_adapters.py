"""Several adapters in one step: each learns from its own rows alone, exactly as written out row by row in plain PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from transformers import TrainerCallback  # noqa: E402

from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters  # noqa: E402
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer, Row  # noqa: E402

TEMPERATURE = 0.8
Gradients = dict[str, Any]


class Grab(TrainerCallback):
    """Keeps the gradients of each update, as the optimizer gets them, and how often each model was passed through."""

    def __init__(self) -> None:
        self.steps: list[Gradients] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from lmprog.lms.embedded import model_folder

    return AutoTokenizer.from_pretrained(model_folder())


@pytest.fixture(params=["one model", "two models"])
def adapters(request, tuned_llama) -> list[tuple[Any, str]]:
    """Two adapters that are not zero, beside each other on one model or each on a model of its own."""
    first = tuned_llama()
    if request.param == "two models":
        second = tuned_llama()
        for parameter in second.parameters():
            parameter.data.mul_(1.1)
        return [(first, "default"), (second, "default")]
    first.add_adapter("second", first.peft_config["default"])
    return [(first, "default"), (first, "second")]


def rows() -> list[Row]:
    """Two modules of a program in turn, on prompts with one head and some equal whole: trees must not join across adapters."""
    draw = torch.Generator().manual_seed(3)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 64, (count,), generator=draw).tolist()

    head, tails = ids(12), [ids(2), ids(4)]
    lengths, advantages = (1, 3, 2, 5, 4, 1, 2, 3), (1.0, -0.5, -0.5, 1.5, -0.7, 0.3, 0.9, -1.2)
    return [
        Row(head + tails[n // 4], ids(length), adv, adapter=n % 2)
        for n, (length, adv) in enumerate(zip(lengths, advantages, strict=True))
    ]


def by_hand(trained: TrainedAdapters, adapters: list[tuple[Any, str]], loss: str, beta: float, limit: int) -> Gradients:
    """The gradient on policy, each row by itself with the adapter of its module switched on."""

    def logprobs(model: Any, row: Row) -> Any:
        ids = torch.tensor([[*row.prompt_ids, *row.reply_ids]])
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float() / TEMPERATURE
        return logits.log_softmax(-1).gather(1, torch.tensor(row.reply_ids).unsqueeze(1)).squeeze(1)

    trained.zero_grad()
    tokens = sum(len(row.reply_ids) for row in rows())
    for row in rows():
        model, name = adapters[row.adapter]
        model.set_adapter(name)
        own = logprobs(model, row)
        ratio = torch.exp(own - own.detach())
        per_token = -row.advantage * ratio
        if beta:
            with torch.no_grad(), model.disable_adapter():
                base = logprobs(model, row)
            model.set_adapter(name)
            per_token = per_token + beta * ratio * (torch.exp(base - own) - (base - own) - 1)
        divisor = {
            "dapo": tokens,
            "bnpo": tokens,
            "grpo": len(row.reply_ids) * len(rows()),
            "dr_grpo": len(rows()) * limit,
        }[loss]
        (per_token.sum() / divisor).backward()
    found = {name: p.grad.clone() for name, p in trained.named_parameters() if p.grad is not None}
    trained.zero_grad()
    for model, name in adapters:
        model.set_requires_grad(name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "beta"), [("dapo", 0.0), ("dapo", 0.3), ("grpo", 0.3), ("dr_grpo", 0.0)])
def test_each_adapter_gets_the_gradient_of_its_own_rows(
    tokenizer, adapters, tmp_path: Path, loss: str, beta: float
) -> None:
    grab, trained = Grab(), TrainedAdapters(adapters)
    config = Config(steps=1, rollouts=2, loss=loss, beta=beta, temperature=TEMPERATURE, max_grad_norm=1e9)
    trainer = ProgramTrainer(trained, tokenizer, config, lambda step: rows(), tmp_path, 0, [grab])
    expected = by_hand(trained, adapters, loss, beta, trainer.max_completion_length)
    trainer.train()
    (found,) = grab.steps
    assert found.keys() == expected.keys() and len(found) > 20
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name


@pytest.mark.slow
def test_an_adapter_without_rows_stays_as_it_is(tokenizer, adapters, tmp_path: Path) -> None:
    trained = TrainedAdapters(adapters)
    before = {name: p.detach().clone() for name, p in trained.named_parameters()}
    config = Config(steps=2, rollouts=2, temperature=TEMPERATURE)
    first = [row for row in rows() if row.adapter == 0]
    ProgramTrainer(trained, tokenizer, config, lambda step: first, tmp_path, 0, []).train()
    changed = {name for name, p in trained.named_parameters() if not torch.equal(p, before[name])}
    of_first = {name for name in before if "lora_" in name and name.startswith("models.0") and ".default." in name}
    assert changed == of_first
