"""Adapters beside one base model: each answers for itself, several may be in training, and the base stays as it was."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
peft = pytest.importorskip("peft", reason="needs the extra 'local'")

from lmprog.lms.lm import Request  # noqa: E402
from lmprog.lms.local import LocalLM  # noqa: E402
from lmprog.lms.local.weights import Weights  # noqa: E402

LORA = peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False)
REQUEST = Request([{"role": "user", "content": "a message that is longer than a head"}], {"max_tokens": 12})


@pytest.fixture
def weights(tiny_model) -> Weights:
    return Weights(f"hf/{tiny_model()}", dtype=torch.float32)


def answers(lm: LocalLM, *requests: Request) -> list[str]:
    async def all_at_once() -> list[str]:
        return [reply.text for reply in await asyncio.gather(*map(lm.complete, requests))]

    return asyncio.run(all_at_once())


def test_each_request_is_answered_with_its_own_adapter_in_training(weights: Weights) -> None:
    lm = LocalLM(weights)
    (base,) = answers(lm, REQUEST)
    torch.manual_seed(0)
    first, second = (weights.begin_training(LORA) for _ in range(2))
    asked = [replace(REQUEST, adapter=adapter, key=(n,)) for n, adapter in enumerate((first, None, second, first))]
    together = answers(lm, *asked)
    assert together == [answers(lm, request)[0] for request in asked]
    assert together[1] == base and len({*together}) == 3
    weights.end_training()
    assert answers(lm, REQUEST) == [base]


def test_answering_leaves_all_that_is_trained_open_to_gradients(weights: Weights) -> None:
    lm = LocalLM(weights)
    trained = [weights.begin_training(LORA) for _ in range(2)]
    learning = {name for name, p in weights.model.named_parameters() if p.requires_grad}
    assert {name.split(".")[-2] for name in learning} == {weights.in_peft(each)[1] for each in trained}
    answers(lm, REQUEST, replace(REQUEST, adapter=trained[0]))
    assert {name for name, p in weights.model.named_parameters() if p.requires_grad} == learning


def test_what_is_read_with_an_adapter_is_read_again_when_it_has_changed(weights: Weights) -> None:
    lm = LocalLM(weights)
    asked = replace(REQUEST, constant=(0, 30), adapter=weights.begin_training(LORA))
    before = answers(lm, asked)
    for parameter in weights.model.parameters():
        if parameter.requires_grad:
            parameter.data.mul_(-2)
    weights.trained_step()
    after = answers(lm, asked)
    assert after != before and after == answers(LocalLM(weights), asked)


def test_two_models_answer_in_turn(tiny_model, monkeypatch) -> None:
    lms = [LocalLM(Weights(f"hf/{tiny_model(seed)}", dtype=torch.float32), wave=1) for seed in (0, 1)]
    active: list[int] = []
    most = []

    def counted(run):
        def work(batch):
            active.append(1)
            most.append(len(active))
            time.sleep(0.02)
            replies = run(batch)
            active.pop()
            return replies

        return work

    for lm in lms:
        monkeypatch.setattr(lm, "_run", counted(lm._run))

    async def all_at_once() -> None:
        await asyncio.gather(*(lm.complete(replace(REQUEST, key=(n,))) for n in range(3) for lm in lms))

    asyncio.run(all_at_once())
    assert most == [1] * 6
