"""The local engine against transformers, on a small Llama of random weights in fp32: the same answers, without its costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.aio.threads import in_thread  # noqa: E402
from lmprog.compiler.plan import AdapterReference  # noqa: E402
from lmprog.errors import LmprogError  # noqa: E402
from lmprog.lms.lm import Completion, Request  # noqa: E402
from lmprog.lms.local import LocalLM, _Pieces, attention, shared, wave  # noqa: E402
from lmprog.lms.local.attention import NAME  # noqa: E402
from lmprog.lms.local.choosing import Sampling  # noqa: E402
from lmprog.lms.local.wave import HeadCache, Prompt, sample  # noqa: E402

END = 1
SCORED = """
    inputs: {text: str}
    outputs: {said: "${{ steps.ask.said }}"}
    modules: {ask: {lm: lm, inputs: {text: str}, outputs: {said: str}, format: text}}
    steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
    metrics: {slow: {python: "./metrics.py:slow", with: {said: "${{ outputs.said }}"}}}
"""


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        initializer_range=0.6,
        max_position_embeddings=256,
        attn_implementation=NAME,
    )
    return LlamaForCausalLM(config).eval()


def prompts(count: int, head: int, seed: int = 0) -> list[Prompt]:
    draw = torch.Generator().manual_seed(seed)
    shared = torch.randint(2, 96, (head,), generator=draw).tolist()
    tails = [torch.randint(2, 96, (3 + place % 4,), generator=draw).tolist() for place in range(count)]
    return [Prompt((*shared, *tail), head) for tail in tails]


def run(model, asked, samplings, **kwargs):
    options = {"end_ids": frozenset({END}), "heads": HeadCache(), "weights": "base", "decode": str} | kwargs
    return sample(model, asked, samplings, **options)


@torch.no_grad()
def one_by_one(model, prompt: Prompt, ids: list[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities of a reply by a plain forward pass over the whole row."""
    row = torch.tensor([[*prompt.ids, *ids]])
    logits = model(input_ids=row).logits[0, len(prompt.ids) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(ids).unsqueeze(1)).squeeze(1).tolist()


@pytest.mark.parametrize("head", [0, 40])
def test_greedy_replies_are_those_of_transformers(model, head: int) -> None:
    asked = prompts(7, head)
    replies = run(model, asked, [Sampling(max_tokens=20)] * 7)
    for prompt, reply in zip(asked, replies, strict=True):
        expected = model.generate(
            torch.tensor([prompt.ids]), max_new_tokens=20, do_sample=False, eos_token_id=END, pad_token_id=0
        )[0, len(prompt.ids) :].tolist()
        assert reply.ids == expected
        assert reply.logprobs == pytest.approx(one_by_one(model, prompt, reply.ids), abs=1e-4)
        assert reply.finish_reason == ("stop" if reply.ids[-1] == END else "length")


def test_log_probabilities_of_branched_samples_are_those_of_the_rows_alone(model) -> None:
    asked = [prompt for prompt in prompts(3, 30) for _ in range(5)]
    samplings = [Sampling(max_tokens=4 + place, temperature=0.8, seed=place) for place in range(15)]
    replies = run(model, asked, samplings)
    assert len({tuple(reply.ids) for reply in replies}) > 10
    for prompt, reply, sampling in zip(asked, replies, samplings, strict=True):
        assert len(reply.ids) <= sampling.max_tokens
        assert reply.logprobs == pytest.approx(one_by_one(model, prompt, reply.ids, 0.8), abs=1e-4)


def test_replies_that_are_the_same_so_far_are_computed_once(model, monkeypatch) -> None:
    """Cold samples of two prompts, some greedy, some warm: a pass has one token for each branch of their tree."""
    passes, forward = [], wave._forward

    def counted(model, ids, *more):
        passes.append(ids.shape[1])
        return forward(model, ids, *more)

    monkeypatch.setattr(wave, "_forward", counted)
    asked = [prompt for prompt in prompts(2, 30) for _ in range(12)]
    heat = (0.0, 0.2, 0.2, 0.9)
    samplings = [
        Sampling(max_tokens=8 - place % 3, temperature=heat[place % 4], top_k=0 if place % 5 else 2, seed=place)
        for place in range(24)
    ]
    replies = run(model, asked, samplings)
    rows = [(prompt.ids, *reply.ids) for prompt, reply in zip(asked, replies, strict=True)]
    # The last token of a reply is drawn, and not read.
    branches = [{row[: length + 1] for row in rows if len(row) > length + 1} for length in range(1, 8)]
    assert passes[1:] == [len(of_length) for of_length in branches if of_length]
    assert sum(passes[1:]) < sum(len(reply.ids) - 1 for reply in replies) / 2
    for prompt, reply, sampling in zip(asked, replies, samplings, strict=True):
        if not sampling.top_k:
            alone = one_by_one(model, prompt, reply.ids, sampling.temperature or 1.0)
            assert reply.logprobs == pytest.approx(alone, abs=1e-4)
        assert run(model, [prompt], [sampling])[0].ids == reply.ids


@pytest.mark.parametrize("head", [0, 20])
def test_tokens_that_prompts_begin_with_alike_are_computed_once(model, monkeypatch, head: int) -> None:
    """Prompts of every relation: equal beginnings of two and of all, one within another, none, and another order."""
    passes, forward = [], wave._forward

    def counted(model, ids, *more):
        passes.append(ids.shape[1])
        return forward(model, ids, *more)

    monkeypatch.setattr(wave, "_forward", counted)
    draw = torch.Generator().manual_seed(1)
    shared = torch.randint(2, 96, (head,), generator=draw).tolist()
    question, other = (torch.randint(2, 96, (12,), generator=draw).tolist() for _ in range(2))
    tails = [
        [*question, 5, 6], [*other, 5, 6, 7], [*question, 5, 7, 8], question, [*other[:3], 9], [90, *question],
        [*question, 5, 6, 3, 4],
    ]  # fmt: skip
    asked = [Prompt((*shared, *tail), head) for tail in tails]
    replies = run(model, asked, [Sampling(max_tokens=6, temperature=0.9, seed=place) for place in range(len(asked))])
    assert passes[0] == len({tuple(tail[: length + 1]) for tail in tails for length in range(len(tail))})
    for prompt, reply in zip(asked, replies, strict=True):
        assert reply.logprobs == pytest.approx(one_by_one(model, prompt, reply.ids, 0.9), abs=1e-4)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
def test_a_prompt_is_attended_to_in_parts(monkeypatch, length: int) -> None:
    monkeypatch.setattr(attention, "BLOCK", 8)
    monkeypatch.setattr(attention, "SCORES", 4 * 2 * 3 * 8 * 16 * 2)  # two prompts at once, where they see 16 keys
    query = torch.randn(5, 2, 3, length, 8)
    key, value = torch.randn(5, 2, 1, length, 8), torch.randn(5, 2, 1, length, 8)
    later = torch.zeros(length, length).masked_fill_(torch.ones(length, length).triu(1).bool(), float("-inf"))
    output, weight = attention._attend_before(query, key, value, 0.3, later)
    scores = query @ key.transpose(-1, -2) * 0.3 + later
    assert torch.allclose(output, scores.softmax(-1) @ value, atol=1e-5)
    assert torch.allclose(weight, scores.logsumexp(-1), atol=1e-5)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 100])
def test_a_long_head_is_attended_to_in_parts(monkeypatch, rows: int) -> None:
    monkeypatch.setattr(attention, "SCORES", 4 * 2 * 30 * 20)  # 20 rows at once
    query, key, value = torch.randn(2, rows, 8), torch.randn(2, 30, 8), torch.randn(2, 30, 8)
    output, weight = attention._attend_head(query, key, value, 0.3)
    scores = query @ key.transpose(1, 2) * 0.3
    assert torch.allclose(output, scores.softmax(-1) @ value, atol=1e-5)
    assert torch.allclose(weight, scores.logsumexp(-1), atol=1e-5)


def test_a_reply_depends_on_its_seed_and_not_on_who_shares_the_wave(model) -> None:
    asked = prompts(6, 30)
    samplings = [Sampling(max_tokens=10, temperature=1.0, seed=place) for place in range(6)]
    together = run(model, asked, samplings)
    alone = [run(model, [prompt], [sampling])[0] for prompt, sampling in zip(asked, samplings, strict=True)]
    assert [reply.ids for reply in together] == [reply.ids for reply in alone]
    other = run(model, asked, [replace(sampling, seed=sampling.seed + 99) for sampling in samplings])
    assert [reply.ids for reply in together] != [reply.ids for reply in other]


def test_samples_follow_the_distribution(model) -> None:
    (prompt,) = prompts(1, 0)
    replies = run(model, [prompt] * 4000, [Sampling(max_tokens=1, temperature=1.3, seed=seed) for seed in range(4000)])
    with torch.no_grad():
        wanted = (model(input_ids=torch.tensor([prompt.ids])).logits[0, -1] / 1.3).softmax(-1)
    found = torch.bincount(torch.tensor([reply.ids[0] for reply in replies]), minlength=96) / 4000
    assert float((found - wanted).abs().max()) < 0.03


def test_top_k_and_top_p_cut_the_distribution_and_its_log_probabilities(model) -> None:
    (prompt,) = prompts(1, 0)
    with torch.no_grad():
        likely = model(input_ids=torch.tensor([prompt.ids])).logits[0, -1].softmax(-1).sort(descending=True)
    best = set(likely.indices[:3].tolist())
    samplings = [Sampling(max_tokens=1, temperature=1.0, top_k=3, seed=seed) for seed in range(60)]
    assert {reply.ids[0] for reply in run(model, [prompt] * 60, samplings)} <= best
    narrow = [Sampling(max_tokens=1, temperature=1.0, top_p=1e-6, seed=seed) for seed in range(20)]
    replies = run(model, [prompt] * 20, narrow)
    assert {reply.ids[0] for reply in replies} == {int(likely.indices[0])}
    assert replies[0].logprobs == pytest.approx([0.0], abs=1e-6)


def test_the_head_is_read_once_for_given_weights(model) -> None:
    heads, calls = HeadCache(), []
    forward = model.forward

    def counted(*args, **kwargs):
        calls.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    model.forward = counted
    try:
        for weights in ("base", "base", "adapter"):
            run(model, prompts(2, 30), [Sampling(max_tokens=1)] * 2, heads=heads, weights=weights)
    finally:
        model.forward = forward
    assert calls.count(30) == 2


def test_a_row_that_nobody_waits_for_leaves_the_wave(model) -> None:
    alone = run(model, prompts(2, 0)[1:], [Sampling(max_tokens=12)])
    cancelled, stays = run(model, prompts(2, 0), [Sampling(max_tokens=12)] * 2, is_cancelled=lambda row: row == 0)
    assert len(cancelled.ids) == 1
    assert stays.ids == alone[0].ids


def test_the_embedded_model_shares_the_constant_head_and_keeps_what_was_sampled() -> None:
    lm = shared("embedded/smollm2-135m")
    head = [
        {"role": "system", "content": "Say which of two animals the text is about: cat or dog. One word."},
        {"role": "user", "content": "It barks at the postman."},
        {"role": "assistant", "content": "dog"},
    ]
    rows = [{"role": "user", "content": text} for text in ("It purrs.", "Its bark is loud.", " 1, 2", '"quoted"')]
    requests = [Request([*head, row], {"max_tokens": 4}, constant=(3, 0), key=(row["content"],)) for row in rows]

    async def ask(lm: LocalLM):
        return await asyncio.gather(*(lm.complete(request) for request in requests))

    replies = asyncio.run(ask(lm))
    for request, reply in zip(requests, replies, strict=True):
        prompt = lm.prompt(request.messages, request.constant)
        assert 40 < prompt.head < len(prompt.ids)
        assert reply.prompt_token_ids == prompt.ids
        assert lm.weights.tokenizer.decode(prompt.ids).endswith("<|im_start|>assistant\n")
        assert len(reply.token_ids) == len(reply.logprobs) <= 4
        assert reply.usage.prompt_tokens == len(prompt.ids)
    alone = [asyncio.run(lm.complete(request)).text for request in requests]
    assert [reply.text for reply in replies] == alone


def test_a_prompt_that_is_all_head_shares_none() -> None:
    class Joined(LocalLM):
        """A model whose chat template joins the messages and adds nothing; a token is a character."""

        def _ids(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
            return tuple(ord(character) for message in messages for character in message["content"])

    lm = Joined(None)  # type: ignore[arg-type]
    constant = "Translate what follows. "
    heads = [lm.prompt([{"content": constant + text}], (0, len(constant))).head for text in ("", "x", "an ox")]
    assert heads == [0, len(constant), len(constant)]


def test_an_unknown_parameter_is_refused_by_name() -> None:
    with pytest.raises(LmprogError, match="params: logit_bias is not known"):
        asyncio.run(shared("embedded/smollm2-135m").complete(Request([], {"logit_bias": {}})))


def test_what_one_request_lacks_is_no_failure_of_its_neighbours(monkeypatch, tmp_path) -> None:
    lm = LocalLM(shared("embedded/smollm2-135m").weights)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}one"
    monkeypatch.setattr(lm.weights.tokenizer, "chat_template", refusing)

    def request(role: str, adapter: AdapterReference | None = None) -> Request:
        return Request(({"role": role, "content": "one"},), {"max_tokens": 1}, adapter=adapter)

    async def ask() -> list[object]:
        asked = [request("user"), request("system"), request("user", AdapterReference(tmp_path))]
        return await asyncio.gather(*map(lm.complete, asked), return_exceptions=True)

    good, refused, lacking = asyncio.run(ask())
    assert isinstance(good, Completion)
    assert isinstance(refused, LmprogError) and "takes no such messages: no system here; change" in str(refused)
    assert isinstance(lacking, LmprogError) and "there is no adapter in" in str(lacking)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"temperature": -1.0}, "temperature is -1.0, and .* takes 0 or more"),
        ({"temperature": "hot"}, "could not convert string to float"),
        ({"max_tokens": -3}, "max_tokens is -3, and .* takes 1 or more"),
        ({"stop": ["", "x"]}, "stop is .* takes texts that are not empty"),
        ({"stop": [1]}, "stop is .* takes texts that are not empty"),
        ({"stop": 5}, "not iterable"),
    ],
)
def test_a_value_that_no_reply_can_be_sampled_by_is_refused(params, said) -> None:
    with pytest.raises(LmprogError, match=f"params: .*{said}"):
        asyncio.run(LocalLM(None).complete(Request([], params)))


def test_the_pieces_of_a_reply_are_its_text_without_the_stop_text() -> None:
    async def heard(reply: str, stop: list[str], whole: str) -> list[str]:
        told: list[str] = []
        request = Request([], {"stop": stop}, on_text=told.append)
        future = asyncio.get_running_loop().create_future()
        pieces = _Pieces(request, future, lambda ids: bytes(ids).decode(errors="replace"))
        for size in range(1, len(reply.encode()) + 1):
            pieces.add(list(reply.encode()[:size]))
        pieces.send(whole)
        await asyncio.sleep(0)
        return told

    assert asyncio.run(heard("a END", ["END"], "a ")) == ["a", " "]
    assert asyncio.run(heard("a EN", ["END"], "a EN")) == ["a", " ", "EN"]
    assert asyncio.run(heard("é EX", ["END", "\n"], "é EX")) == ["é", " ", "EX"]


@pytest.mark.parametrize("slow", [False, True])
def test_a_wave_waits_for_tools_but_not_for_slow_ones(monkeypatch, slow: bool) -> None:
    lm, sizes = shared("embedded/smollm2-135m"), []
    answers = lm._answers
    monkeypatch.setattr(lm, "_answers", lambda batch: sizes.append(len(batch)) or answers(batch))
    monkeypatch.setattr("lmprog.lms.local.TOOL_TURNS", 80 if slow else 10_000)

    async def run(seconds: float) -> None:
        await in_thread(lambda: time.sleep(seconds))
        await lm.complete(Request(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 2}))

    async def together() -> None:
        await asyncio.gather(run(0.0), run(0.05), run(2.0 if slow else 0.3))

    asyncio.run(together())
    assert sizes == ([2, 1] if slow else [3])


def test_the_rows_of_a_wave_do_not_depend_on_how_long_a_metric_takes(monkeypatch, program) -> None:
    from lmprog.scoring.evaluation import evaluate

    lm, sizes = LocalLM(shared("embedded/smollm2-135m").weights), []
    monkeypatch.setattr(
        lm, "_answers", lambda batch: sizes.append(len(batch)) or [Completion("well", (), ()) for _ in batch]
    )
    monkeypatch.setattr("lmprog.lms.local.TOOL_TURNS", 0)  # a metric is no tool: it is waited for to its end
    made = program(SCORED, lm, metrics__py="import time\n\ndef slow(said):\n    time.sleep(0.02)\n    return 1.0\n")
    assert evaluate(made, [{"text": str(row)} for row in range(12)], "slow", concurrency=4).mean == 1.0
    assert sizes == [4, 4, 4]


def test_a_program_called_within_a_run_is_answered_while_the_outer_run_waits() -> None:
    from lmprog.aio.loops import run_async

    lm = shared("embedded/smollm2-135m")

    def request(text: str) -> Request:
        return Request([{"role": "user", "content": text}], {"max_tokens": 2}, key=(text,))

    async def outer() -> list[str]:
        waiting = asyncio.create_task(lm.complete(request("one")))
        await asyncio.sleep(0)
        inner = run_async(lambda: lm.complete(request("two")))  # blocks this loop, as a synchronous tool would
        return [(await waiting).text, inner.text]

    assert all(asyncio.run(asyncio.wait_for(outer(), 60)))


@pytest.mark.parametrize(
    ("kinds", "said"), [(None, "attend to 64 tokens"), (["linear_attention"], "do not attend to all")]
)
def test_what_a_window_hides_is_refused_and_not_answered_from(monkeypatch, kinds, said: str) -> None:
    lm = shared("embedded/smollm2-135m")
    monkeypatch.setattr(lm.weights.base.config, "sliding_window", 64, raising=False)
    monkeypatch.setattr(lm.weights.base.config, "layer_types", kinds, raising=False)

    def request(words: int) -> Request:
        return Request(messages=({"role": "user", "content": "one " * words},), params={"max_tokens": 4})

    async def ask() -> list[object]:
        return await asyncio.gather(*(lm.complete(request(words)) for words in (1, 80)), return_exceptions=True)

    short, long = asyncio.run(ask())
    assert isinstance(long, LmprogError) and said in str(long)
    assert isinstance(short, LmprogError) == (kinds is not None)
