"""Attention over a tree in pieces against one with the tree's whole mask: outputs, and the gradients of all inputs."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.optimizers.grpo.prefix_tree import PrefixTree  # noqa: E402
from lmprog.optimizers.grpo.torch import tree_attention  # noqa: E402
from lmprog.optimizers.grpo.torch.tree_attention import TreeAttention  # noqa: E402

HEAD = st.lists(st.integers(0, 9), max_size=6)
TAILS = st.lists(st.lists(st.integers(0, 2), max_size=7), min_size=1, max_size=7)


@pytest.mark.slow
@given(HEAD, TAILS, st.sampled_from([1, 2, 3, 64]))
@settings(deadline=None, max_examples=120)
def test_pieces_give_what_the_whole_mask_gives(head: list[int], tails: list[list[int]], block: int) -> None:
    sequences = [head + tail for tail in tails if head + tail] or [[1]]
    tree = PrefixTree.pack(sequences)
    draw = torch.Generator().manual_seed(len(tree))

    def inputs(heads: int) -> torch.Tensor:
        return torch.randn(1, heads, len(tree), 8, generator=draw, requires_grad=True)

    query, key, value = inputs(4), inputs(2), inputs(2)
    weights = torch.randn(1, len(tree), 4, 8, generator=draw)
    with patch.object(tree_attention, "BLOCK", block):
        attention = TreeAttention(tree)
    found = attention.attend(query, key, value, 0.3)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), attn_mask=tree.mask, scale=0.3
    ).transpose(1, 2)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    gradients = torch.autograd.grad((found * weights).sum(), [query, key, value])
    expected = torch.autograd.grad((wanted * weights).sum(), [query, key, value])
    for got, want in zip(gradients, expected, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)


def test_a_block_asks_itself_and_what_is_above_it_alone() -> None:
    """Trunks of 100 and of 70 tokens, 200 branches of 30 and one of 1,000: about as many scores as are seen, in few pieces."""
    trunks = [[7, 8, *range(100)], [7, 9, *range(70)]]
    branches = [[*trunk, 1000 + n, *range(2000, 2029)] for trunk in trunks for n in range(100)]
    tree = PrefixTree.pack([*branches, [*trunks[0], *range(3000, 4000)]])
    pieces = TreeAttention(tree)._pieces
    whole = [piece for piece in pieces if piece.hidden is None]
    assert [(piece.asking.numel(), piece.asked.numel()) for piece in whole] == [(4000, 101), (3000, 71)]
    scores = sum(piece.hidden.numel() for piece in pieces if piece.hidden is not None)
    assert int(tree.mask.sum()) - 700_000 < scores < 7000**2 / 25
    assert len(pieces) <= 12


def test_the_engines_attention_takes_it(tuned_llama, monkeypatch) -> None:
    """A model that the engine loaded, whose log-probabilities over a tree equal those of rows one by one."""
    from lmprog.lms.local import attention
    from lmprog.optimizers.grpo.torch.logprobs import padded_logprobs, tree_logprobs

    model = tuned_llama()
    sequences = [[5, 6, 7, 8, 9, 10 + n % 3, 20 + n] for n in range(6)] + [[5, 6, 7, 30, 31, 32]]
    replies = [2, 2, 2, 1, 2, 2, 3]
    expected, _ = padded_logprobs(model, sequences, replies)
    model.set_attn_implementation(attention.NAME)
    seen = []
    before = TreeAttention.attend

    def attend(self, *inputs):
        seen.append(1)
        return before(self, *inputs)

    monkeypatch.setattr(TreeAttention, "attend", attend)
    found, _ = tree_logprobs(model, sequences, replies)
    assert seen
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
