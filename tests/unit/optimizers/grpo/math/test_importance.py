"""Truncated importance weights, and the gradient that they make, against what is written out token by token."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("trl", reason="needs the extra 'local'")

from transformers import AutoTokenizer, TrainerCallback  # noqa: E402

from lmprog.errors import LmprogError  # noqa: E402
from lmprog.optimizers.grpo.config import Config  # noqa: E402
from lmprog.optimizers.grpo.math.importance import importance_weights, mismatch, sampler_logprobs  # noqa: E402
from lmprog.optimizers.grpo.math.training_rows import Row  # noqa: E402
from lmprog.optimizers.grpo.sampling.rollouts import Rollout  # noqa: E402
from lmprog.optimizers.grpo.sampling.token_check import NO_IDS, NO_LOGPROBS, OTHER_TOKENS, drop_untrainable, unmatched  # noqa: E402
from lmprog.optimizers.grpo.torch.trained import TrainedAdapters  # noqa: E402
from lmprog.optimizers.grpo.torch.trainer import ProgramTrainer  # noqa: E402

LOGPROB = st.floats(-20, 0, width=32)
REPLY = st.lists(st.tuples(LOGPROB, LOGPROB), min_size=1, max_size=6)


@given(st.lists(st.tuples(REPLY, st.booleans()), min_size=1, max_size=5), st.floats(0.5, 5, width=32))
def test_weights_and_mismatch_equal_those_written_out(replies, cap: float) -> None:
    lengths = [len(reply) for reply, _ in replies]
    sampler = sampler_logprobs([[q for _, q in reply] if known else None for reply, known in replies], lengths)
    trainer = torch.zeros(len(replies), max(lengths))
    for row, (reply, _) in enumerate(replies):
        trainer[row, : len(reply)] = torch.tensor([p for p, _ in reply])
    weights = importance_weights(trainer, sampler, cap)
    assert weights.shape == trainer.shape
    apart = []
    for row, (reply, known) in enumerate(replies):
        for place in range(max(lengths)):
            expected = 1.0
            if known and place < len(reply):
                p, q = reply[place]
                expected = min(math.exp(p - q), cap)
                apart.append(p - q)
            assert float(weights[row, place]) == pytest.approx(expected, rel=1e-4)
    found = mismatch(trainer, sampler, cap, torch.ones_like(trainer, dtype=torch.bool)).tolist()
    assert found[0] == pytest.approx(sum(map(abs, apart)), rel=1e-4)
    assert found[1] == len(apart)
    assert found[3] == pytest.approx(max(map(abs, apart), default=0.0), rel=1e-4)


def test_a_token_that_the_server_held_for_impossible_counts_as_much_as_the_cap() -> None:
    weights = importance_weights(torch.tensor([[-1.0]]), torch.tensor([[-9999.0]]), 2.0)
    assert weights.tolist() == [[2.0]]


class Grab(TrainerCallback):
    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        self.found.append({n: p.grad.clone() for n, p in model.models[0].named_parameters() if p.grad is not None})


def rows() -> list[Row]:
    draw = torch.Generator().manual_seed(5)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 64, (count,), generator=draw).tolist()

    def logprobs(count: int) -> list[float]:
        return (-3 - 3 * torch.rand(count, generator=draw)).tolist()

    head = ids(6)
    return [
        Row(head, ids(length), advantage, sampled=logprobs(length) if length != 2 else None)
        for length, advantage in ((1, 1.0), (3, -0.5), (2, 0.7), (4, -1.2))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "beta"), [("dapo", 0.3), ("cispo", 0.0)])
def test_the_gradient_is_the_one_of_the_weighted_loss(tuned_llama, tmp_path: Path, loss: str, beta: float) -> None:
    from lmprog.lms.embedded import model_folder

    cap, model, grab = 1.5, tuned_llama(), Grab()
    config = Config(
        steps=1, rollouts=2, loss=loss, beta=beta, temperature=0.8, max_grad_norm=1e9, importance_sampling_cap=cap
    )
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    trainer = ProgramTrainer(
        TrainedAdapters([(model, "default")]), tokenizer, config, lambda step: rows(), tmp_path, 0, [grab]
    )

    def logprobs(row: Row) -> Any:
        ids = torch.tensor([[*row.prompt_ids, *row.reply_ids]])
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float() / 0.8
        return logits.log_softmax(-1).gather(1, torch.tensor(row.reply_ids).unsqueeze(1)).squeeze(1)

    total, tokens, weights = 0.0, sum(len(row.reply_ids) for row in rows()), []
    for row in rows():
        own = logprobs(row)
        with torch.no_grad(), model.disable_adapter():
            base = logprobs(row)
        for place in range(len(row.reply_ids)):
            weight = 1.0
            if row.sampled is not None:
                weight = min(math.exp(float(own[place].detach()) - row.sampled[place]), cap)
                weights.append(weight)
            # On policy all ratios are 1, and the gradient of each loss is that of the log-probability.
            kl = (base[place] - own[place]).exp() - (base[place] - own[place]) - 1
            ratio = (own[place] - own[place].detach()).exp()
            total = total + (-row.advantage * weight * ratio + beta * ratio * kl) / tokens
    total.backward()
    assert min(weights) < 1 < max(weights) == cap
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    trainer.train()
    (found,) = grab.found
    assert found.keys() == expected.keys() and len(found) > 10
    for name, gradient in found.items():
        assert float((gradient - expected[name]).norm()) <= 1e-4 * float(expected[name].norm()), name


@dataclass(frozen=True)
class Made:
    """A call as the server told it."""

    module: str = "say"
    parent: str | None = None
    text: str | None = "ab"
    prompt_token_ids: tuple[int, ...] | None = (1, 2)
    token_ids: tuple[int, ...] | None = (97, 98)
    logprobs: tuple[float, ...] | None = (-0.5, -1.0)


class Letters:
    """A model whose tokens are the codes of characters."""

    vocabulary = 128

    def text(self, ids: Any) -> str:
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, None),
        ({"text": "a"}, None),  # cut at a `stop`
        ({"text": ""}, None),  # a call of a tool
        ({"text": "a\ufffd"}, None),  # half a character
        ({"token_ids": None}, NO_IDS),
        ({"token_ids": ()}, NO_IDS),
        ({"prompt_token_ids": None}, NO_IDS),
        ({"logprobs": None}, NO_LOGPROBS),
        ({"logprobs": (-0.5,)}, NO_LOGPROBS),
        ({"logprobs": (-0.5, float("nan"))}, NO_LOGPROBS),
        ({"token_ids": (97, 128)}, OTHER_TOKENS),
        ({"prompt_token_ids": (-1, 2)}, OTHER_TOKENS),
        ({"text": "abc"}, OTHER_TOKENS),
        ({"text": "x"}, OTHER_TOKENS),
    ],
)
def test_which_calls_of_a_server_can_be_trained(changed: dict[str, Any], why: str | None) -> None:
    assert unmatched(replace(Made(), **changed), Letters()) == why


def test_calls_that_cannot_be_trained_are_left_out_and_counted() -> None:
    lacking = Made(token_ids=None)
    own = Rollout(
        0, 0, 1.0, (Made(), lacking, Made(module="other", token_ids=None), Made(parent="step", logprobs=None))
    )
    taught = Rollout(0, 1, 1.0, (Made(logprobs=None),), teacher="big.yaml")
    unanswered = Rollout(0, 2, 0.0, (Made(text=None, token_ids=None),))
    kept, count = drop_untrainable([own, taught, unanswered], {"say": Letters()}, {"say": "hf/letters"})
    assert count == 1
    assert [len(rollout.invocations) for rollout in kept] == [3, 1, 1]
    with pytest.raises(LmprogError, match=r"none of 1 replies .* 'say' came without the ids of its tokens"):
        drop_untrainable([Rollout(0, 0, 1.0, (lacking,))], {"say": Letters()}, {"say": "hf/letters"})
    assert drop_untrainable([unanswered], {"say": Letters()}, {"say": "hf/letters"}) == ([unanswered], 0)
