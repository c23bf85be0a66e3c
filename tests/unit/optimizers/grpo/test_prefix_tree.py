"""The prefix tree against the plain definition, and its forward pass against padded rows with LoRA on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra 'local'")

from lmprog.optimizers.grpo.prefix_tree import PrefixTree, split  # noqa: E402

SEQUENCES = st.lists(st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=8)


@given(SEQUENCES)
def test_each_path_spells_its_sequence_and_nodes_are_the_distinct_prefixes(sequences: list[list[int]]) -> None:
    tree = PrefixTree.pack(sequences)
    prefixes = {tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))}
    assert len(tree) == len(prefixes)
    for sequence, path in zip(sequences, tree.paths, strict=True):
        assert tree.tokens[path].tolist() == sequence
        assert tree.positions[path].tolist() == list(range(len(sequence)))


@given(SEQUENCES)
def test_a_node_sees_its_ancestors_and_itself(sequences: list[list[int]]) -> None:
    tree = PrefixTree.pack(sequences)
    seen = {node: set(path[: depth + 1]) for path in tree.paths for depth, node in enumerate(path)}
    for node in range(len(tree)):
        assert set(tree.mask[node].nonzero().flatten().tolist()) == seen[node]


@given(SEQUENCES, st.integers(1, 12))
def test_parts_hold_every_sequence_once_and_keep_the_cap(sequences: list[list[int]], cap: int) -> None:
    parts = list(split(sequences, cap))
    assert sorted(index for part in parts for index in part) == list(range(len(sequences)))
    for part in parts:
        assert len(PrefixTree.pack([sequences[index] for index in part])) <= cap or len(part) == 1


@pytest.fixture(scope="module")
def tuned_model(tuned_llama):
    return tuned_llama()


def padded_logprobs(model, prompts, replies):
    """The same log-probabilities, each row by itself."""
    rows = []
    for prompt, reply in zip(prompts, replies, strict=True):
        logits = model(input_ids=torch.tensor([prompt + reply])).logits[0, len(prompt) - 1 : -1]
        rows.append(logits.float().log_softmax(-1).gather(1, torch.tensor(reply).unsqueeze(1)).squeeze(1))
    return torch.cat(rows)


@pytest.mark.parametrize("cap", [4096, 40])
def test_log_probabilities_and_gradients_equal_those_of_rows_one_by_one(tuned_model, cap) -> None:
    from lmprog.optimizers.grpo.torch.logprobs import tree_logprobs

    draw = torch.Generator().manual_seed(1)
    head = torch.randint(0, 64, (20,), generator=draw).tolist()
    prompts, replies = [], []
    for example in range(3):
        tail = torch.randint(0, 64, (3 + example,), generator=draw).tolist()
        for _ in range(4):
            prompts.append(head + tail)
            replies.append(
                torch.randint(0, 64, (int(torch.randint(1, 6, (1,), generator=draw)),), generator=draw).tolist()
            )
    replies[1] = replies[0]  # two samples that came out the same share all their nodes
    sequences = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
    weights = [torch.randn(len(reply), generator=draw) for reply in replies]

    def gradients(total):
        tuned_model.zero_grad()
        total.backward()
        return {name: p.grad.clone() for name, p in tuned_model.named_parameters() if p.grad is not None}

    expected = padded_logprobs(tuned_model, prompts, replies)
    expected_gradients = gradients((expected * torch.cat(weights)).sum())
    parts = list(split(sequences, cap))
    assert (len(parts) > 1) == (cap == 40)
    total, found = 0.0, {}
    for part in parts:
        logprobs, entropies = tree_logprobs(tuned_model, [sequences[i] for i in part], [len(replies[i]) for i in part])
        total = total + (logprobs * torch.cat([weights[i] for i in part])).sum()
        for i, row in zip(part, logprobs.split([len(replies[i]) for i in part]), strict=True):
            found[i] = row
        assert bool((entropies >= 0).all())
    torch.testing.assert_close(torch.cat([found[i] for i in range(len(replies))]), expected, atol=2e-6, rtol=1e-5)
    got = gradients(total)
    assert got.keys() == expected_gradients.keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in got.values())
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=2e-5, rtol=1e-4)
