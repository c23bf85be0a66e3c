"""One step of the trainer against the gradient written out by hand: rows one by one, plain PyTorch, fp32, LoRA on."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from transformers import TrainerCallback  # noqa: E402

from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.torch.sharded import TrainedCopy  # noqa: E402
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters  # noqa: E402
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer, Row  # noqa: E402

TEMPERATURE = 0.8


class Grab(TrainerCallback):
    """Keeps the gradients of each update, as the optimizer gets them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({n: p.grad.clone() for n, p in model.models[0].named_parameters() if p.grad is not None})


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    from lmprog.lms.embedded import model_folder

    return AutoTokenizer.from_pretrained(model_folder())


def rows() -> list[Row]:
    draw = torch.Generator().manual_seed(3)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 64, (count,), generator=draw).tolist()

    head, tails = ids(12), [ids(2), ids(4)]
    lengths, advantages = (1, 3, 2, 5, 4, 1), (1.0, -0.5, -0.5, 1.5, -0.7, 0.3)
    return [
        Row(head + tails[n // 3], ids(length), adv)
        for n, (length, adv) in enumerate(zip(lengths, advantages, strict=True))
    ]


def by_hand(model, loss: str, beta: float, reply_limit: int) -> dict[str, torch.Tensor]:
    """The gradient of the loss on policy, where every importance ratio is 1 and only its gradient counts."""

    def logprobs(row: Row) -> torch.Tensor:
        ids = torch.tensor([[*row.prompt_ids, *row.reply_ids]])
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float() / TEMPERATURE
        return logits.log_softmax(-1).gather(1, torch.tensor(row.reply_ids).unsqueeze(1)).squeeze(1)

    model.zero_grad()
    total, tokens = 0.0, sum(len(row.reply_ids) for row in rows())
    for row in rows():
        own = logprobs(row)
        ratio = torch.exp(own - own.detach())
        per_token = -row.advantage * ratio
        if beta:
            with torch.no_grad(), model.disable_adapter():
                base = logprobs(row)
            # Times the ratio, so that its gradient is that of the reverse KL (arXiv 2512.02556), as TRL has it.
            per_token = per_token + beta * ratio * (torch.exp(base - own) - (base - own) - 1)
        divisor = {
            "dapo": tokens,
            "bnpo": tokens,
            "grpo": len(row.reply_ids) * len(rows()),
            "dr_grpo": len(rows()) * reply_limit,
        }[loss]
        total = total + per_token.sum() / divisor
    total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["dapo", "bnpo", "grpo", "dr_grpo"])
def test_the_gradient_of_a_step_is_the_one_written_out_by_hand(
    tokenizer, tuned_llama, tmp_path: Path, loss: str, beta: float
) -> None:
    model, grab = tuned_llama(), Grab()
    config = Config(steps=1, rollouts=2, loss=loss, beta=beta, temperature=TEMPERATURE, max_grad_norm=1e9)
    trained = TrainedAdapters([(model, "default")])
    trainer = ProgramTrainer(trained, tokenizer, config, lambda step: rows(), tmp_path, 0, [grab])
    expected = by_hand(model, loss, beta, trainer.max_completion_length)
    trainer.train()
    (found,) = grab.steps
    assert found.keys() == expected.keys() and len(found) > 10
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name


@pytest.mark.slow
def test_the_gradient_of_all_weights_is_the_one_written_out_by_hand(tokenizer, tuned_llama, tmp_path: Path) -> None:
    model, grab = tuned_llama().unload().requires_grad_(True), Grab()
    config = Config(steps=1, rollouts=2, full=True, temperature=TEMPERATURE, max_grad_norm=1e9)
    expected, before = by_hand(model, "dapo", 0.0, 1), model.lm_head.weight.detach().clone()
    trained = TrainedCopy(model, "", shares=False)
    ProgramTrainer(trained, tokenizer, config, lambda step: rows(), tmp_path, 0, [grab]).train()
    (found,) = grab.steps
    assert found.keys() == expected.keys() and len(found) > 10
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name
    assert torch.equal(model.lm_head.weight, trained.models[0].lm_head.weight)
    assert not torch.equal(model.lm_head.weight, before)


@pytest.mark.slow
def test_the_loss_of_replies_to_learn_is_their_mean_negative_log_likelihood(
    tokenizer, tuned_llama, tmp_path: Path
) -> None:
    model, grab, logged = tuned_llama(), Grab(), []

    class Logged(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append(logs)

    config = Config(steps=1, rollouts=2, max_grad_norm=1e9)
    expected = 0.0
    for row in rows():
        ids = torch.tensor([[*row.prompt_ids, *row.reply_ids]])
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float()
        expected = expected + torch.nn.functional.cross_entropy(logits, torch.tensor(row.reply_ids), reduction="sum")
    expected = expected / sum(len(row.reply_ids) for row in rows())
    expected.backward()
    by_hand = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    trained = TrainedAdapters([(model, "default")])
    # Small passes: what they add up to is the loss of one.
    learnt = config.model_copy(update={"tree_tokens": 24})
    trainer = ProgramTrainer(
        trained, tokenizer, learnt, lambda step: rows(), tmp_path, 0, [grab, Logged()], imitates=True
    )
    trainer.train()
    (found,) = grab.steps
    for name, gradient in found.items():
        assert float((gradient - by_hand[name]).norm()) <= 1e-4 * float(by_hand[name].norm()), name
    assert logged[0]["loss"] == pytest.approx(float(expected.detach()), rel=1e-3)


@pytest.mark.slow
def test_a_step_without_rows_changes_neither_weights_nor_moments(tokenizer, tuned_llama, tmp_path: Path) -> None:
    model = tuned_llama()
    seen: list[dict[str, torch.Tensor]] = []

    def collect(step: int) -> list[Row]:
        seen.append({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        return rows() if step == 0 else []

    config = Config(steps=4, rollouts=2, temperature=TEMPERATURE)
    ProgramTrainer(TrainedAdapters([(model, "default")]), tokenizer, config, collect, tmp_path, 0, []).train()
    assert any(not torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert all(torch.equal(seen[1][name], later[name]) for later in seen[2:] for name in later)
