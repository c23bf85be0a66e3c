"""A wave: the replies to all waiting requests, sampled together.

1. Head: the P tokens that all prompts begin with go through the model once; later waves take their keys and values from
   the `HeadCache`.
2. Prompts: the M distinct prompts, without their head, form a tree: tokens that several of them begin with are one node
   each, as the question that stands in the prompts of all rollouts of an example. The N nodes lie in one row, with no
   padding. One pass gives their keys and values, and the logits (M, V) that predict the first token of a reply.
3. Branches: replies to one prompt whose tokens are the same so far have the same logits. They are one branch of the tree of
   replies; there are B of them, at first one for each prompt, and `branch` (R,) is that of each reply.
4. Step: mask what a constraint bars, draw one token a reply from the logits (B, V), and drop the replies that end. Those that
   go on make the next branches, each continued by one token. These tokens lie in one row: one pass gives the next logits.
   Repeat until no reply is left.

The model sees a batch of one row in every pass; what token attends to what is in the `Context` (attention.py).
The draws of a reply come from its own seed, one for each step, whatever else is in the wave.

D is the size of an attention head, T how many tokens of a reply there is room for, V the size of the vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from lmprog.lms.local.attention import Context, PromptPass, ReplyPass
from lmprog.lms.local.choosing import Sampling, choose
from lmprog.lms.local.constraint import Constraint

BEFORE_STOP = 16
"""Tokens that are decoded before those of a stop text: some decode to nothing, or otherwise where a text begins."""


@dataclass(frozen=True)
class Prompt:
    """The token ids of one prompt; the first `head` of them are shared with the other prompts of a wave."""

    ids: tuple[int, ...]
    head: int = 0


@dataclass
class Reply:
    """A sampled reply: its token ids, the end token included, and each token's log-probability (natural log,
    `logprobs`) in the distribution it was drawn from (of a greedy reply in that of temperature 1).

    `finish_reason` is `stop` for an end token or a stop text, `length` where the limit of tokens or a cancellation
    ended it.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = "length"


class HeadCache:
    """A cache of the keys and values of shared prompt beginnings (heads), of at most `tokens` tokens together or a single
    longer head; the least recently used go first.
    """

    def __init__(self, tokens: int = 16384) -> None:
        self.tokens = tokens
        self._kept: OrderedDict[tuple[Any, tuple[int, ...]], list[tuple[Tensor, Tensor]]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """The bytes of all keys and values that are cached."""
        return sum(each.nbytes for layers in list(self._kept.values()) for layer in layers for each in layer)

    def get(self, model: Any, weights: Any, head: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
        """Return the keys and values (kv_heads, P, D) of each layer for the P tokens (at least one) of `head`, computed
        by `model` and cached where they are not cached yet.

        `weights` is a name for the present weights of the model; keys and values are cached under it.
        """
        key = (weights, head)
        if key not in self._kept:
            ids = torch.tensor([head], device=model.device)  # (1, P)
            # Nothing is predicted from the head: 1 is the fewest logits that a model can be asked for.
            output = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            self._kept[key] = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
            while len(self._kept) > 1 and sum(len(held) for _, held in self._kept) > self.tokens:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


@torch.no_grad()  # type: ignore[untyped-decorator]
def sample(
    model: Any,
    prompts: Sequence[Prompt],
    samplings: Sequence[Sampling],
    *,
    end_ids: frozenset[int],
    heads: HeadCache,
    weights: Any,
    decode: Callable[[list[int]], str],
    constraints: Sequence[Constraint | None] = (),
    is_cancelled: Callable[[int], bool] = lambda row: False,
    on_tokens: Callable[[int, list[int]], None] = lambda row, ids: None,
) -> list[Reply]:
    """Sample one reply to each of `prompts` (at least one); return the replies in that order. Equal prompts are
    computed once, and all prompts must begin with the same head, and be no longer than the model can attend to.

    `samplings`, and `constraints` where there are any (None in it: the reply is free), have one entry for each prompt.
    `end_ids` end a reply, `decode` turns token ids into text, and `weights` is the name of the weights in the cache
    `heads`. `on_tokens` is called after each token with the number of the prompt and the reply's tokens so far;
    `is_cancelled` with the number of each prompt whose reply would go on, and True ends it there. `model` is a causal
    LM of transformers whose attention is `wave_attention`.
    """
    distinct = list(dict.fromkeys(prompts))
    index = {prompt: place for place, prompt in enumerate(distinct)}
    branch = [index[prompt] for prompt in prompts]  # (R,) into `distinct`
    shared = distinct[0].ids[: distinct[0].head]
    head = heads.get(model, weights, shared) if shared else None
    context, last = _read_prompts(model, distinct, len(shared), head)
    return _decode(
        model, last, branch, context, distinct, samplings, end_ids, decode, constraints, is_cancelled, on_tokens
    )


def _read_prompts(
    model: Any, distinct: list[Prompt], head: int, shared: list[tuple[Tensor, Tensor]] | None
) -> tuple[Context, Tensor]:
    """Run the model on the prompts after their first `head` tokens, tokens that they begin with alike once; return their
    context, which holds `shared` (the keys and values of the head, None: no head), and the logits (M, V) after each
    prompt's last token.
    """
    tails = [numpy.array(prompt.ids[head:]) for prompt in distinct]
    paths, row, slot = _tree(tails)
    device = model.device
    lengths = torch.tensor([len(tail) for tail in tails], device=device)  # (M,)
    # (M, L); what fills the right of a shorter prompt is hidden from all that read it.
    nodes = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(path) for path in paths], batch_first=True).to(device)
    own = PromptPass(nodes, torch.from_numpy(row).to(device), torch.from_numpy(slot).to(device))
    context = Context(shared, lengths, own)
    ids = torch.tensor([[int(tails[of][place]) for of, place in zip(row, slot, strict=True)]], device=device)  # (1, N)
    last = torch.tensor([int(path[-1]) for path in paths], device=device)
    return context, _forward(model, ids, head + own.slot, context, last)


Numbers = NDArray[numpy.int64]


def _tree(sequences: Sequence[Numbers]) -> tuple[list[Numbers], Numbers, Numbers]:
    """Return the tree of distinct token sequences: for each sequence its nodes, one a token, and for each of the N nodes
    the number of a sequence through it and its place there, both (N,).
    """
    paths: list[Numbers] = [numpy.empty(0, numpy.int64)] * len(sequences)
    rows, slots, count = [], [], 0
    # In this order each sequence has its longest common beginning with any earlier one in common with its neighbour.
    before: int | None = None
    for own in sorted(range(len(sequences)), key=lambda number: sequences[number].tolist()):
        common = 0 if before is None else _common(sequences[before], sequences[own])
        fresh = len(sequences[own]) - common
        inherited = paths[before][:common] if before is not None else paths[own]
        paths[own] = numpy.concatenate([inherited, numpy.arange(count, count + fresh)])
        rows.append(numpy.full(fresh, own))
        slots.append(numpy.arange(common, common + fresh))
        count, before = count + fresh, own
    return paths, numpy.concatenate(rows), numpy.concatenate(slots)


def _common(left: Numbers, right: Numbers) -> int:
    """Return how many tokens two sequences begin with alike."""
    length = min(len(left), len(right))
    differ = left[:length] != right[:length]
    return int(differ.argmax()) if differ.any() else length


def _forward(model: Any, ids: Tensor, positions: Tensor, context: Context, keep: Tensor | int) -> Tensor:
    """Run the model on `ids` (1, N) at `positions` (N,), and return logits for the tokens that `keep` names.

    Logits are (K, V) for indices `keep` (K,), and (N, V) for 0.
    """
    output = model(
        input_ids=ids,
        position_ids=positions.unsqueeze(0),
        # A mask of four dimensions is handed on untouched; the context says what is seen.
        attention_mask=torch.zeros(1, 1, 1, 1, device=ids.device, dtype=model.dtype),
        use_cache=False,
        logits_to_keep=keep,
        context=context,
    )
    logits: Tensor = output.logits[0]
    return logits


def _decode(
    model: Any,
    last: Tensor,
    branch: list[int],
    context: Context,
    distinct: list[Prompt],
    samplings: Sequence[Sampling],
    end_ids: frozenset[int],
    decode: Callable[[list[int]], str],
    constraints: Sequence[Constraint | None],
    is_cancelled: Callable[[int], bool],
    on_tokens: Callable[[int, list[int]], None],
) -> list[Reply]:
    replies = [Reply() for _ in samplings]
    running = list(range(len(samplings)))
    longest = max(sampling.max_tokens for sampling in samplings)
    # All draws of a reply come from its own seed, so that neither its neighbours nor their number change it.
    draws = [
        numpy.random.Generator(numpy.random.Philox(sampling.seed)).random(sampling.max_tokens, dtype=numpy.float64)
        if sampling.temperature > 0
        else numpy.zeros(sampling.max_tokens)
        for sampling in samplings
    ]
    sizes = torch.tensor([len(prompt.ids) for prompt in distinct], device=last.device)  # (M,) head included
    logits = last  # (B, V), of each branch: at first the prompts
    prompt_of = torch.arange(len(distinct), device=last.device)  # (B,) into `distinct`
    # Keys and values of the branches, by layer: (B, kv_heads, T, D), with T = 0 until the first token is in.
    context.replies = [
        (keys.new_empty(len(distinct), keys.shape[1], 0, keys.shape[3]),) * 2 for keys, _ in context.prompts
    ]
    for step in range(longest):
        tokens, logprobs = choose(
            logits,
            branch,
            [samplings[row] for row in running],
            [draws[row][step] for row in running],
            [constraints[row] for row in running] if constraints else (),
        )
        going: list[int] = []  # the replies of `running` that go on
        next_branch: list[int] = []  # of each of them
        grown: dict[tuple[int, int], int] = {}  # the next branches: each is a branch of now and a token
        for row, of, token, logprob in zip(running, branch, tokens.tolist(), logprobs.tolist(), strict=True):
            reply, sampling = replies[row], samplings[row]
            reply.ids.append(token)
            reply.logprobs.append(logprob)
            on_tokens(row, reply.ids)
            if constraints and (constraint := constraints[row]) is not None:
                constraint.advance(token)
            if token in end_ids or (sampling.stop and _stops(reply.ids, sampling.stop, decode)):
                reply.finish_reason = "stop"
            elif step + 1 < sampling.max_tokens and not is_cancelled(row):
                going.append(row)
                next_branch.append(grown.setdefault((of, token), len(grown)))
        if not going:
            break
        running, branch = going, next_branch
        parents = [of for of, _ in grown]
        if parents != list(range(len(logits))):
            kept = torch.tensor(parents, device=last.device)
            prompt_of = prompt_of[kept]
            context.replies = [(keys[kept], values[kept]) for keys, values in context.replies]
        _make_room(context, step, longest)
        context.now = ReplyPass(prompt_of, *_places(prompt_of), step)
        ids = torch.tensor([[token for _, token in grown]], device=last.device)  # (1, B)
        # Token `step` of a reply stands `step` places behind its prompt, whose length may differ from its neighbours'.
        logits = _forward(model, ids, sizes[prompt_of] + step, context, 0)
    return replies


def _stops(ids: list[int], stop: tuple[str, ...], decode: Callable[[list[int]], str]) -> bool:
    """Return whether the last token of a reply completes one of the texts `stop`.

    Only the end of the reply is decoded: a token of a text has at least one byte of it.
    """
    longest = max((len(text.encode(errors="replace")) for text in stop), default=0)
    if not longest:
        return bool(stop)  # the empty text is in every reply
    end = decode(ids[-(longest + BEFORE_STOP) :])
    return any(text in end for text in stop)


def _make_room(context: Context, step: int, longest: int) -> None:
    """Grow the branches' keys and values by half as they fill, so that a long limit costs nothing until it is used."""
    room = context.replies[0][0].shape[2]  # T
    if step < room:
        return
    grown = min(longest, max(16, room + room // 2))

    def enlarge(kept: Tensor) -> Tensor:
        larger = kept.new_empty(*kept.shape[:2], grown, kept.shape[3])
        larger[:, :, :room] = kept
        return larger

    context.replies = [(enlarge(keys), enlarge(values)) for keys, values in context.replies]


def _places(owner: Tensor) -> tuple[Tensor, int]:
    """Return for each branch how many earlier ones continue the same prompt, and the most branches of any prompt."""
    seen: dict[int, int] = {}
    places = []
    for prompt in owner.tolist():
        places.append(seen.get(prompt, 0))
        seen[prompt] = places[-1] + 1
    return torch.tensor(places, device=owner.device), max(seen.values())
