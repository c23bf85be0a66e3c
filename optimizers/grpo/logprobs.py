"""Log-probabilities of sampled replies under the distribution that they were sampled from: temperature and masks included.

One forward pass goes over the tree of all prompts and replies, each shared token once; the vocabulary head runs only where
a sampled token is predicted. A model for which a tree is not the same as rows one by one gets padded rows.
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
from lmprog.optimizers.grpo.tree_attention import TreeAttention

Allowed = NDArray[numpy.int32]
"""(T, W): for each token of a reply the bits of the tokens that might have come in its place."""


def logprobs(
    model: Any,
    sequences: Sequence[Sequence[int]],
    replies: Sequence[int],
    temperatures: Sequence[float],
    allowed: Sequence[Allowed | None],
    cap: int,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each sequence s its place, and of its last `replies[s]` tokens the log-probabilities and entropies (T,) each.

    In the order of the passes, which have at most `cap` tokens each (a longer sequence has a pass of its own).
    """
    whole = shares_prefixes(model)
    score = tree_logprobs if whole else padded_logprobs
    for part in split(sequences, cap) if whole else _even(sequences, cap):
        lengths = [replies[s] for s in part]
        found, entropies = score(
            model, [sequences[s] for s in part], lengths, [temperatures[s] for s in part], [allowed[s] for s in part]
        )
        yield from zip(part, found.split(lengths), entropies.split(lengths), strict=True)


def shares_prefixes(model: Any) -> bool:
    """Whether a pass over a tree gives what rows one by one give.

    It does where positions enter by rotation, so that a token's place is what it is told; where every layer attends to all
    that is before it; and where nothing is dropped at random.
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
    """Log-probabilities of the last `replies[s]` tokens of each sequence s, joined in their order (sum(replies),).

    With them the entropies of the distributions they were drawn from. One forward pass over the tree of the sequences;
    equal to a pass for each sequence alone where `shares_prefixes`. `temperature` may be one for each sequence.
    """
    tree = PrefixTree.pack([sequence[:-1] for sequence in sequences])  # nothing is predicted from the last token
    device = next(model.parameters()).device
    places = [path[len(path) - n :] for path, n in zip(tree.paths, replies, strict=True)]
    wanted = _Wanted(places, temperature, allowed)
    logits = model(
        input_ids=tree.tokens.unsqueeze(0).to(device),
        position_ids=tree.positions.unsqueeze(0).to(device),
        logits_to_keep=torch.tensor(wanted.places, device=device),
        use_cache=False,
        **_seen(tree, model, device),
    ).logits[0]
    return wanted.picked(logits, sequences, replies)


def _seen(tree: PrefixTree, model: Any, device: torch.device) -> dict[str, Any]:
    """What tells the model which nodes see which: in pieces on a processor, where the engine's attention runs; else a mask."""
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
    """As `tree_logprobs`, with a row for each sequence, padded on the right, where no token before it can see the padding."""
    device = next(model.parameters()).device
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(list(sequence)) for sequence in sequences], batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences]).unsqueeze(1)
    width = ids.shape[1]
    keep = width - min(len(ids) - n for ids, n in zip(sequences, replies, strict=True)) + 1
    logits = model(
        input_ids=ids.to(device),
        attention_mask=(torch.arange(width) < lengths).long().to(device),
        logits_to_keep=keep,
        use_cache=False,
    ).logits
    # A place is a row and a token of it, as one number into the rows laid end to end.
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
        """`places[s]` says where each token of reply s is predicted."""
        heats = [temperature] * len(places) if isinstance(temperature, int | float) else temperature
        masks = [None] * len(places) if allowed is None else allowed
        index: dict[tuple[int, float, bytes], int] = {}
        self._back = [
            index.setdefault((place, heat, b"" if bits is None else bits[t].tobytes()), len(index))
            for of_reply, heat, bits in zip(places, heats, masks, strict=True)
            for t, place in enumerate(of_reply)
        ]
        self.places = [place for place, _, _ in index]
        self._temperatures = [heat for _, heat, _ in index]
        self._bits = [bits for _, _, bits in index]

    def picked(
        self, logits: Tensor, sequences: Sequence[Sequence[int]], replies: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Of each token of the replies, joined: its log-probability and entropy. `logits[i]` (V,) are those at `places[i]`."""
        spread = logits.float() / torch.tensor(self._temperatures, device=logits.device).unsqueeze(1)
        bound = [i for i, bits in enumerate(self._bits) if bits]
        if bound:
            width = logits.shape[1]
            bits = numpy.frombuffer(b"".join(self._bits), numpy.int32).reshape(len(bound), -1)
            barred = torch.zeros(spread.shape, dtype=torch.bool, device=logits.device)
            barred[bound] = ~torch.from_numpy(unpacked(bits, width)).to(logits.device)
            spread = spread.masked_fill(barred, float("-inf"))
        spread = spread.log_softmax(-1)
        entropy = torch.special.entr(spread.detach().exp()).sum(-1)
        tokens = [token for ids, n in zip(sequences, replies, strict=True) for token in ids[len(ids) - n :]]
        back = torch.tensor(self._back, device=logits.device, dtype=torch.long)
        return spread[back, torch.tensor(tokens, device=logits.device, dtype=torch.long)], entropy[back]


def _even(sequences: Sequence[Sequence[int]], cap: int) -> Iterator[list[int]]:
    """Indices of the sequences in parts of at most `cap` tokens when padded, those of like length together."""
    part: list[int] = []
    for s in sorted(range(len(sequences)), key=lambda s: len(sequences[s])):
        if part and (len(part) + 1) * len(sequences[s]) > cap:
            yield part
            part = []
        part.append(s)
    if part:
        yield part
