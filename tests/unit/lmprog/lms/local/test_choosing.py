"""The choice of the next token, beside one softmax over the whole vocabulary in fp64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.lms.local.choosing import ROWS, Sampling, choose  # noqa: E402


def test_a_draw_that_rounds_up_to_1_takes_a_token_that_may_be_drawn() -> None:
    logits = torch.tensor([[0.0, 1.0, -torch.inf, 0.5, -torch.inf]])
    for draw, token in ((0.0, 0), (1 - 2**-53, 3)):
        tokens, logprobs = choose(logits, [0], [Sampling(1, temperature=1.0)], [draw])
        assert tokens.item() == token and torch.isfinite(logprobs).all()


@pytest.mark.parametrize("width", [5, 128, 129, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tokens_and_log_probabilities_are_those_of_the_whole_distribution(width: int, dtype) -> None:
    torch.manual_seed(width)
    rows = 3 * ROWS + 2
    logits = (torch.randn(rows, width) * 4).to(dtype)
    draws = torch.rand(rows, dtype=torch.float64).tolist()
    samplings = [Sampling(1, temperature=(0.0, 0.7, 1.0, 1.5)[row % 4]) for row in range(rows)]
    tokens, logprobs = choose(logits, range(len(samplings)), samplings, draws)
    for row, (sampling, draw) in enumerate(zip(samplings, draws, strict=True)):
        exact = (logits[row].double() / (sampling.temperature or 1.0)).log_softmax(-1)
        assert logprobs[row].item() == pytest.approx(exact[tokens[row]].item(), abs=1e-5)
        if not sampling.temperature:
            assert tokens[row] == logits[row].argmax()
            continue
        mass = exact.exp().cumsum(-1)
        before = 0.0 if tokens[row] == 0 else mass[tokens[row] - 1].item()
        assert before - 1e-6 <= draw <= mass[tokens[row]].item() + 1e-6


def test_no_draw_takes_a_token_without_mass() -> None:
    """One token a block has mass, and the draws fall where the blocks meet."""
    logits = torch.full((1, 1000), -torch.inf)
    logits[0, 127::128] = 0.0  # 7 tokens
    for seventh in range(8):
        for draw in (seventh / 7 - 2**-30, seventh / 7, seventh / 7 + 2**-30):
            tokens, logprobs = choose(logits, [0], [Sampling(1, temperature=1.0)], [min(max(draw, 0.0), 1 - 2**-53)])
            assert tokens.item() % 128 == 127 and logprobs.item() == pytest.approx(-torch.tensor(7.0).log().item())


def test_few_blocks_after_many_are_found_in_fp32() -> None:
    """The last block's mass is near what fp32 resolves beside all others."""
    logits = torch.zeros(1, 128 * 100)
    logits[0, -128:] = -14.0
    for draw in torch.linspace(0.99, 1.0, 200, dtype=torch.float64).tolist():
        tokens, _ = choose(logits, [0], [Sampling(1, temperature=1.0)], [min(draw, 1 - 2**-53)])
        assert 0 <= tokens.item() < logits.shape[1]


@pytest.mark.parametrize(("more", "among"), [({"top_p": 0.0}, [1]), ({"top_k": -1}, [0, 1, 2]), ({"top_k": 1}, [1])])
def test_the_likeliest_token_always_stays_and_no_top_k_cuts_nothing(more, among) -> None:
    logits = torch.tensor([[0.0, 1.0, 0.5]])
    draws = [place / 50 for place in range(50)]
    tokens, logprobs = choose(logits, [0] * 50, [Sampling(1, temperature=1.0, **more)] * 50, draws)
    assert sorted(set(tokens.tolist())) == among and torch.isfinite(logprobs).all()
