"""Log-probabilities of sampled replies under the distribution that they were sampled from: temperature and masks included.

1. Rows: each sequence is a prompt and its reply. All of one pass form a tree, each shared token once (`prefix_tree.py`); a
   model for which a tree is not the same as rows one by one gets padded rows (`shares_prefixes`).
2. Places: the token at index i of a sequence is predicted at the token before it, i - 1. Of the M reply tokens many are
   predicted at one place, as the first tokens of all replies to a prompt. Those of one place, temperature and mask share a
   distribution; there are U of them (`_Wanted`).
3. Logits (U, V): the vocabulary head runs at those places alone.
4. Distributions: logits over the temperature, minus infinity where the sampler's mask barred a token, as the replies were
   sampled. The log-softmax is taken in fp32.
5. Pick: log p = s[token] - log sum exp(s) for each of the M tokens, and the entropy of its distribution (`_Picked`). Fp32
   scores of the vocabulary are held for AT_ONCE distributions at a time, and computed again for the gradient: (U, V) in fp32
   would be the largest tensor of the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmprog.lms.local import attention
from lmprog.lms.local.constraint import unpacked
from lmprog.optimizers.grpo.prefix_tree import PrefixTree, split
from lmprog.optimizers.grpo.torch.tree_attention import TreeAttention

Allowed = NDArray[numpy.int32]
"""(T, W): for each token of a reply the bits of the tokens that might have come in its place."""


def passes(model: Any, sequences: Sequence[Sequence[int]], cap: int) -> list[list[int]]:
    """Divide sequences into forward passes of at most `cap` tokens (a longer sequence goes alone); return the indices
    of each pass. Tokens that sequences share count once where `shares_prefixes`; else padding counts too. `model` is a
    causal LM of transformers."""
    return list(split(sequences, cap) if shares_prefixes(model) else _even(sequences, cap))


def logprobs(
    model: Any,
    sequences: Sequence[Sequence[int]],
    replies: Sequence[int],
    temperatures: Sequence[float],
    allowed: Sequence[Allowed | None],
) -> list[tuple[Tensor, Tensor]]:
    """Return for each sequence s the log-probabilities and the entropies (T,) of its last T = `replies[s]` tokens, by
    one pass. Gradients flow through the log-probabilities alone.

    `temperatures` and `allowed` (the tokens that a grammar allowed, None: all) are those that the replies were sampled
    with. `model` is a causal LM of transformers.
    """
    score = tree_logprobs if shares_prefixes(model) else padded_logprobs
    found, entropies = score(model, sequences, replies, temperatures, allowed)
    lengths = list(replies)
    return list(zip(found.split(lengths), entropies.split(lengths), strict=True))


def shares_prefixes(model: Any) -> bool:
    """Return whether one pass over a tree of sequences gives the same as a pass for each sequence.

    It does where positions are rotary, so that a token's place is the position passed for it; where every layer attends
    to everything before the token; and where nothing is dropped at random. `model` is a causal LM of transformers.
    """
    rotary = any("rotary" in type(module).__name__.lower() for module in model.modules())
    return rotary and attention.window_of(model) is None and not (model.training and _drops(model))


def _drops(model: Any) -> bool:
    def rate(module: Any) -> float:
        found = module.p if isinstance(module, torch.nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        return float(found) if isinstance(found, int | float) else 0.0

    return any(rate(module) > 0 for module in model.modules())


def tree_logprobs(
    model: Any,
    sequences: Sequence[Sequence[int]],
    replies: Sequence[int],
    temperature: float | Sequence[float] = 1.0,
    allowed: Sequence[Allowed | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities and the entropies of the last `replies[s]` tokens of each sequence s, concatenated,
    (sum(replies),) each.

    They are computed by one forward pass over the tree of the sequences, and equal to a pass for each sequence where
    `shares_prefixes`. `temperature` (one for all or one for each sequence) and `allowed` (the tokens that a grammar
    allowed, None: all) are those that the replies were sampled with. `model` is a causal LM of transformers.
    """
    tree = PrefixTree.pack([sequence[:-1] for sequence in sequences])  # nothing is predicted from the last token
    device = next(model.parameters()).device
    # A path has the nodes of all tokens but the last, so its last n nodes are where the last n tokens are predicted.
    places = [path[len(path) - n :] for path, n in zip(tree.paths, replies, strict=True)]
    wanted = _Wanted(places, temperature, allowed)
    logits = model(
        input_ids=tree.tokens.unsqueeze(0).to(device),
        position_ids=tree.positions.unsqueeze(0).to(device),
        logits_to_keep=torch.tensor(wanted.places, device=device),
        use_cache=False,
        **_seen(tree, model, device),
    ).logits[0]  # (U, V)
    return wanted.picked(logits, sequences, replies)


def _seen(tree: PrefixTree, model: Any, device: torch.device) -> dict[str, Any]:
    """Return the model arguments that define which nodes of the tree attend to which.

    On a CPU, where the engine's attention runs, they are pieces; else a mask.
    """
    dtype = model.get_input_embeddings().weight.dtype
    if device.type == "cpu" and model.config.get_text_config()._attn_implementation == attention.NAME:
        # A mask of four dimensions is handed on untouched; the context says what is seen.
        return {"attention_mask": torch.zeros(1, 1, 1, 1, dtype=dtype), "context": TreeAttention(tree)}
    mask = torch.zeros(tree.mask.shape, dtype=dtype).masked_fill_(~tree.mask, torch.finfo(dtype).min)
    return {"attention_mask": mask[None, None].to(device)}


def padded_logprobs(
    model: Any,
    sequences: Sequence[Sequence[int]],
    replies: Sequence[int],
    temperature: float | Sequence[float] = 1.0,
    allowed: Sequence[Allowed | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the same as `tree_logprobs` (log-probabilities and entropies, (sum(replies),) each; `allowed` None: all
    tokens), by a batch with one padded row for each sequence.

    The padding is on the right, where no token before it can see it. `model` is a causal LM of transformers.
    """
    device = next(model.parameters()).device
    # (B, width), filled with token 0: it is masked, and stands behind everything that is read
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(list(sequence)) for sequence in sequences], batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences]).unsqueeze(1)
    width = ids.shape[1]
    # A model gives the logits of the last `keep` tokens of all rows alike: from the first place that any row needs on.
    keep = width - min(len(ids) - n for ids, n in zip(sequences, replies, strict=True)) + 1
    logits = model(
        input_ids=ids.to(device),
        attention_mask=(torch.arange(width) < lengths).long().to(device),
        logits_to_keep=keep,
        use_cache=False,
    ).logits  # (B, keep, V)
    # A place is a row and a token of it, as one number into the rows laid end to end, B * keep. The first token of a reply is
    # predicted at index len - n - 1 of its row, from which the width - keep tokens without logits are taken off.
    starts = [
        row * keep + len(ids) - n - 1 - (width - keep)
        for row, (ids, n) in enumerate(zip(sequences, replies, strict=True))
    ]
    wanted = _Wanted([range(start, start + n) for start, n in zip(starts, replies, strict=True)], temperature, allowed)
    return wanted.picked(logits.flatten(0, 1)[torch.tensor(wanted.places, device=device)], sequences, replies)


class _Wanted:
    """The distributions that some replies were drawn from: each place, with its temperature and mask, once."""

    def __init__(
        self,
        places: Sequence[Sequence[int]],
        temperature: float | Sequence[float],
        allowed: Sequence[Allowed | None] | None,
    ) -> None:
        """Prepare the predictions; `places[s]` holds the places where the tokens of reply s are predicted."""
        temperatures = [temperature] * len(places) if isinstance(temperature, int | float) else temperature
        masks = [None] * len(places) if allowed is None else allowed
        index: dict[tuple[int, float, bytes], int] = {}
        # (M,) the distribution of each reply token, numbered as they first come: a dict keeps that order.
        self._back = [
            index.setdefault((place, own_temperature, b"" if bits is None else bits[t].tobytes()), len(index))
            for of_reply, own_temperature, bits in zip(places, temperatures, masks, strict=True)
            for t, place in enumerate(of_reply)
        ]
        self.places = [place for place, _, _ in index]
        self._temperatures = [own_temperature for _, own_temperature, _ in index]
        self._bits = [bits for _, _, bits in index]

    def picked(
        self, logits: Tensor, sequences: Sequence[Sequence[int]], replies: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probability and entropy of each token of the replies, joined.

        `logits[i]` (V,) are the logits at `places[i]`.
        """
        device = logits.device
        bound = [i for i, bits in enumerate(self._bits) if bits]
        barred = None
        if bound:
            width = logits.shape[1]
            # Only the U_b bound distributions have bits, (U_b, W); the other rows of `barred` stay False.
            bits = numpy.frombuffer(b"".join(self._bits), numpy.int32).reshape(len(bound), -1)
            barred = torch.zeros(logits.shape, dtype=torch.bool, device=device)
            barred[bound] = ~torch.from_numpy(unpacked(bits, width)).to(device)
        tokens = [token for ids, n in zip(sequences, replies, strict=True) for token in ids[len(ids) - n :]]
        found: tuple[Tensor, Tensor] = _Picked.apply(
            logits,
            torch.tensor(self._temperatures, device=device),
            barred,
            torch.tensor(self._back, device=device, dtype=torch.long),
            torch.tensor(tokens, device=device, dtype=torch.long),
        )
        return found


class _Picked(torch.autograd.Function):  # type: ignore[misc]
    """Log-softmax at some tokens and the entropy there, with no more of the vocabulary in fp32 than `AT_ONCE` rows of it."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, temperatures: Tensor, barred: Tensor | None, places: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return each token's log-probability and its distribution's entropy.

        `logits` (U, V), `temperatures` (U,), `barred` (U, V) or None; the token `tokens[m]` is of the distribution
        `places[m]`, both (M,), as are the results. With s = logits / temperature and p = softmax(s):

            log p[token] = s[token] - log sum exp(s)        entropy = log sum exp(s) - sum p * s
        """
        total = torch.empty(len(logits), device=logits.device)
        entropy = torch.empty_like(total)
        for rows, spread in _spread(logits, temperatures, barred):
            # exp(s - max) cannot overflow. Every mask leaves a token, so the maximum is finite.
            highest = spread.amax(-1, keepdim=True)
            shares = (spread - highest).exp_()
            mass = _sums(shares)
            total[rows] = highest.squeeze(1) + mass.log()
            if barred is not None:
                # Its share is 0, and 0 * -inf would be NaN.
                spread.masked_fill_(barred[rows], 0.0)
            entropy[rows] = total[rows] - _sums(shares.mul_(spread)) / mass
        ctx.save_for_backward(logits, temperatures, barred, places, tokens, total)
        picked = logits[places, tokens].float() / temperatures[places] - total[places]
        entropy = entropy[places]
        ctx.mark_non_differentiable(entropy)  # it is measured, and in no loss
        return picked, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of the logits (U, V), from that of the log-probabilities (M,); the entropies have none.

        d log p[token] / d logits[v] = ((v == token) - p[v]) / temperature. Summed over the tokens of one distribution, the
        second part is p times the sum of their gradients, so p is computed once for all of them.
        """
        logits, temperatures, barred, places, tokens, total = ctx.saved_tensors
        gradient = gradients[0]
        of_place = torch.zeros_like(total).index_add_(0, places, gradient)
        found = torch.empty_like(logits)
        for rows, spread in _spread(logits, temperatures, barred):
            shares = spread.sub_(total[rows].unsqueeze(1)).exp_()
            of_rows = shares.mul_(-of_place[rows].unsqueeze(1))
            # Two tokens may be the same token of the same distribution, hence the accumulation.
            here = (places >= rows.start) & (places < rows.stop)
            of_rows.index_put_((places[here] - rows.start, tokens[here]), gradient[here], accumulate=True)
            found[rows] = of_rows.div_(temperatures[rows].unsqueeze(1))
        return found, None, None, None, None


def _sums(rows: Tensor) -> Tensor:
    """Return the sum of each row (R,). A single one is summed as two equal ones: torch sums it by the number of threads."""
    return rows.sum(-1) if len(rows) > 1 else rows.expand(2, -1).sum(-1)[:1]


AT_ONCE = 64
"""Distributions over the vocabulary that stand in fp32 at once."""


def _spread(logits: Tensor, temperatures: Tensor, barred: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Yield the logits over the temperature in fp32, some rows at a time; their memory is reused for the next."""
    room = torch.empty(min(AT_ONCE, len(logits)), logits.shape[1], device=logits.device)
    for start in range(0, len(logits), AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, len(logits)))
        spread = torch.div(logits[rows], temperatures[rows].unsqueeze(1), out=room[: rows.stop - start])
        yield rows, spread if barred is None else spread.masked_fill_(barred[rows], float("-inf"))


def _even(sequences: Sequence[Sequence[int]], cap: int) -> Iterator[list[int]]:
    """Yield the indices of sequences in parts of at most `cap` tokens when padded, like lengths together."""
    part: list[int] = []
    for s in sorted(range(len(sequences)), key=lambda s: len(sequences[s])):
        if part and (len(part) + 1) * len(sequences[s]) > cap:
            yield part
            part = []
        part.append(s)
    if part:
        yield part
