"""Log-probabilities of replies under what they were sampled from: by a tree, by padded rows, and as the sampler told them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
pytest.importorskip("llguidance", reason="needs the extra 'local'")

from lmprog.compiler.types.lattice import STR, Enum, Object  # noqa: E402
from lmprog.lms.lm import Request  # noqa: E402
from lmprog.lms.local import LocalLM  # noqa: E402
from lmprog.lms.local.weights import Weights  # noqa: E402
from lmprog.optimizers.grpo.prefix_tree import PrefixTree, split  # noqa: E402
from lmprog.optimizers.grpo.torch.logprobs import logprobs, padded_logprobs, passes, shares_prefixes, tree_logprobs  # noqa: E402

VOCABULARY = 64


def batch() -> tuple[list[list[int]], list[int], list[float], list[Any]]:
    """Sequences with shared beginnings, equal ones under other temperatures, and masks for some replies."""
    draw = torch.Generator().manual_seed(7)

    def ids(count: int) -> list[int]:
        return torch.randint(2, VOCABULARY, (count,), generator=draw).tolist()

    head, sequences, replies = ids(11), [], []
    for place in range(6):
        reply = ids(1 + place)
        sequences.append([*head, *ids(place % 3), *reply])
        replies.append(len(reply))
    sequences += sequences[:2]
    replies += replies[:2]
    temperatures = [0.7, 1.0, 1.0, 0.7, 1.3, 1.0, 1.0, 1.0]
    allowed: list[Any] = [None] * len(sequences)
    for place in (3, 7):
        allowed[place] = numpy.zeros((replies[place], VOCABULARY // 32), numpy.int32)
        for t, token in enumerate(sequences[place][-replies[place] :]):
            for some in (token, 5, 9 + t):
                allowed[place][t, some // 32] |= numpy.int32(numpy.uint32(1 << some % 32).view(numpy.int32))
    return sequences, replies, temperatures, allowed


def one_by_one(model: Any) -> tuple[list[Any], list[Any]]:
    """The same, each row by itself."""
    found, entropies = [], []
    for ids, n, temperature, bits in zip(*batch(), strict=True):
        logits = model(input_ids=torch.tensor([ids])).logits[0, len(ids) - n - 1 : -1].float() / temperature
        for t in range(n if bits is not None else 0):
            barred = [token for token in range(VOCABULARY) if not bits[t, token // 32] >> (token % 32) & 1]
            logits[t, barred] = float("-inf")
        spread = logits.log_softmax(-1)
        found.append(spread.gather(1, torch.tensor(ids[-n:]).unsqueeze(1)).squeeze(1))
        entropies.append(torch.distributions.Categorical(logits=logits.detach()).entropy())
    return found, entropies


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0)
    config.attn_pdrop = config.embd_pdrop = 0.0
    return GPT2LMHeadModel(config)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("cap", [4096, 30])
def test_replies_have_the_log_probabilities_entropies_and_gradients_of_rows_alone(
    tuned_llama, monkeypatch, kind: str, cap: int
) -> None:
    monkeypatch.setattr("lmprog.optimizers.grpo.torch.logprobs.AT_ONCE", 4)
    model = tuned_llama() if kind == "llama" else gpt2()
    assert shares_prefixes(model) == (kind == "llama")
    weights = [torch.linspace(-1, 1, n) for n in batch()[1]]

    def gradients(values: list[Any]) -> dict[str, Any]:
        model.zero_grad()
        torch.cat([value * weight for value, weight in zip(values, weights, strict=True)]).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    expected, entropies = one_by_one(model)
    wanted = gradients(expected)
    sequences, *of_sequence = batch()
    parts = passes(model, sequences, cap)
    assert sorted(place for part in parts for place in part) == list(range(len(expected)))
    assert (len(parts) == 1) == (cap == 4096)
    by_place = {}
    for part in parts:
        own = [[values[place] for place in part] for values in (sequences, *of_sequence)]
        by_place.update(zip(part, logprobs(model, *own), strict=True))
    found = [by_place[place] for place in range(len(expected))]
    for (values, entropy), own, its in zip(found, expected, entropies, strict=True):
        torch.testing.assert_close(values, own, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(entropy, its, atol=2e-6, rtol=1e-5)
    got = gradients([values for values, _ in found])
    assert got.keys() == wanted.keys() and len(got) > 10
    for name, gradient in got.items():
        assert float((gradient - wanted[name]).norm()) <= 1e-4 * float(wanted[name].norm()) + 1e-7, name


def test_padded_rows_and_the_tree_are_one_on_a_model_that_both_fit(tuned_llama) -> None:
    model = tuned_llama()
    sequences, replies, temperatures, allowed = batch()
    for one, other in zip(
        tree_logprobs(model, sequences, replies, temperatures, allowed),
        padded_logprobs(model, sequences, replies, temperatures, allowed),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-5)


def test_models_that_drop_out_or_see_no_further_than_a_window_get_padded_rows() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

    sizes = {
        "vocab_size": 8,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    dropping = LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=2, attention_dropout=0.1))
    assert not shares_prefixes(dropping.train()) and shares_prefixes(dropping.eval())
    assert not shares_prefixes(MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=2, sliding_window=4)))
    assert shares_prefixes(MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=2, sliding_window=None)))


def test_a_split_pays_a_shared_head_once_a_part_and_no_example_twice_needlessly() -> None:
    draw = torch.Generator().manual_seed(2)
    head = torch.randint(0, 9, (200,), generator=draw).tolist()
    examples = [[*head, place, *torch.randint(0, 9, (20,), generator=draw).tolist()] for place in range(8)]
    sequences = [[*example, reply, 1] for reply in range(6) for example in examples]
    whole = len(PrefixTree.pack(sequences))
    parts = list(split(sequences, 300))
    nodes = [len(PrefixTree.pack([sequences[place] for place in part])) for part in parts]
    assert max(nodes) <= 300 and len(parts) == 3
    # Beside what the whole tree has, each further part has the head once more, and at most one example's own prompt.
    assert sum(nodes) <= whole + (len(parts) - 1) * (200 + 21)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LocalLM:
    """A small Llama of random fp32 weights with the tokenizer of the embedded model, as an LM."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from lmprog.lms.embedded import model_folder

    folder: Path = tmp_path_factory.mktemp("small")
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LocalLM(Weights(f"hf/{folder}", dtype=torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "outputs"),
    [
        ("text", Object((("label", Enum(("card lost", "card arrival", "refund"))),))),
        ("json", Object((("label", Enum(("yes", "no"))), ("why", STR)))),
    ],
)
def test_constrained_replies_have_the_log_probabilities_that_were_sampled(small, format: str, outputs: Object) -> None:
    temperatures = [0.6, 1.0, 1.0, 1.4, 0.6, 1.0]
    requests = [
        Request(
            messages=[{"role": "user", "content": f"message {place % 2}"}],
            params={"temperature": temperature, "max_tokens": 12},
            seed=place,
            output_type=outputs,
            format=format,
            decoding="constrained",
        )
        for place, temperature in enumerate(temperatures)
    ]

    async def answers() -> list[Any]:
        return await asyncio.gather(*map(small.complete, requests))

    said = asyncio.run(answers())
    model = small.weights.model
    found = logprobs(
        model,
        [[*one.prompt_token_ids, *one.token_ids] for one in said],
        [len(one.token_ids) for one in said],
        temperatures,
        [small.allowed(format, outputs, one.token_ids) for one in said],
    )
    forced, free = [], []
    for (values, entropies), one in zip(found, said, strict=True):
        torch.testing.assert_close(values, torch.tensor(one.logprobs), atol=1e-4, rtol=1e-4)
        masks = small.allowed(format, outputs, one.token_ids)
        for value, entropy, bits in zip(values, entropies, masks, strict=True):
            if sum(int(word).bit_count() for word in bits.view(numpy.uint32)) == 1:
                assert float(value.detach()) == float(entropy) == 0.0
                forced.append(value)
            else:
                free.append(value)
    assert len(forced) > 3 and len(free) > 3

    def moved(values: list[Any]) -> float:
        model.zero_grad()
        torch.stack(values).sum().backward(retain_graph=True)
        return max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)

    assert moved(forced) == 0.0 < moved(free)
