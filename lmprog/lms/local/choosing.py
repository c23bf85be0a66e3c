"""The choice of each reply's next token, from logits (L, V) in the number format of the model.

1. Replies that draw from the same logits by the same temperature and truncation draw from one distribution: there are D of
   them for R replies.
2. Take ROWS distributions at a time: fp32 numbers over the vocabulary exist for these alone, in memory that the next ones use
   again. For 128 of them and 150,000 tokens, fp32 copies of all logits would be 77 MB at each of several operations.
3. Scores (d, V): the logits over the temperature, minus infinity at each token that a constraint bars; cut by `top_k` and
   `top_p` where a reply has them.
4. Shares (d, V) = exp(score - highest score), and their sums over blocks of BLOCK tokens, (d, B).
5. Draw for each reply by inverse transform: the block in which the cumulated sums of blocks pass the draw, then the token in
   it. Only B + BLOCK numbers a reply are cumulated, rather than V.
6. The log-probability of the token is its score minus the logarithm of the sum of exp(score).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmprog.compiler.tokens import reply_tokens
from lmprog.errors import LmprogError
from lmprog.lms.lm import Request
from lmprog.lms.local.constraint import Constraint, allowed_bits, unpacked

ROWS = 16
"""Distributions whose scores stand in fp32 at once."""
BLOCK = 128
"""Tokens whose shares are summed before they are cumulated."""


@dataclass(frozen=True)
class Sampling:
    """The sampling parameters of one reply: its most tokens, the temperature (0 is greedy), truncation to the most probable
    tokens (`top_p`: the fewest of this total probability, but at least one; `top_k`: this many, 0 or less: all), and the seed.

    `stop` are texts (none of them empty) that end the reply; its token ids hold them, its text does not.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()


def sampling_of(request: Request) -> Sampling:
    """Return the sampling parameters of a request, greedy where it names no temperature, with the most tokens that a reply is
    assumed to have where it sets no limit. Raises LmprogError for a value that no reply can be sampled by.
    """
    params = request.params
    stop = params.get("stop") or ()
    try:
        found = Sampling(
            max_tokens=reply_tokens(params),
            temperature=float(params.get("temperature", 0.0)),
            top_p=float(params.get("top_p", 1.0)),
            top_k=int(params.get("top_k", 0)),
            seed=request.seed or 0,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
        )
    except (TypeError, ValueError) as error:
        raise LmprogError(f"params: a value that a model in this process cannot take: {error}") from None
    fits = {
        "max_tokens": found.max_tokens >= 1,
        "temperature": found.temperature >= 0,
        "stop": all(isinstance(text, str) and text for text in found.stop),
    }
    for name, fit in fits.items():
        if not fit:
            wanted = (
                "texts that are not empty" if name == "stop" else "1 or more" if name == "max_tokens" else "0 or more"
            )
            raise LmprogError(f"params: {name} is {params[name]!r}, and a model in this process takes {wanted}")
    return found


def choose(
    logits: Tensor,
    of: Sequence[int],
    samplings: Sequence[Sampling],
    draws: Sequence[float],
    constraints: Sequence[Constraint | None] = (),
) -> tuple[Tensor, Tensor]:
    """Draw the next token of each of R replies; return the token ids (R,) and their log-probabilities (R,) in fp32.

    `of` has the row of `logits` (L, V) that each reply draws from, `samplings` its parameters, `draws` a uniform draw
    from [0, 1) for it, and `constraints` its grammar (None: none; an empty sequence: no reply has one), which is not
    advanced. Log-probabilities are those of the distribution drawn from, after constraints, temperature and truncation
    (`top_p`, `top_k`); those of a greedy reply (`temperature` 0) are those of temperature 1. Rollouts for training are
    not truncated, so that the trainer computes the same.
    """
    width, device = logits.shape[1], logits.device
    members = _distributions(of, samplings, constraints)
    firsts = [replies[0] for replies in members]
    bits = allowed_bits([constraints[reply] for reply in firsts], width) if any(constraints) else None
    blocks = -(-width // BLOCK)
    # The end of the last block has no tokens, and a score of minus infinity, which `_scores` leaves alone.
    room = torch.full((min(ROWS, len(members)), blocks * BLOCK), float("-inf"), device=device)
    shares = torch.empty_like(room)
    tokens = torch.empty(len(of), dtype=torch.long, device=device)
    logprobs = torch.empty(len(of), device=device)
    for start in range(0, len(members), ROWS):
        part = firsts[start : start + ROWS]
        own = [samplings[reply] for reply in part]
        scores = room[: len(part)]
        _scores(
            logits[[of[reply] for reply in part]],
            own,
            None if bits is None else torch.from_numpy(unpacked(bits[start : start + ROWS], width)),
            scores[:, :width],
        )
        peak = scores.amax(-1, keepdim=True)
        spread = torch.sub(scores, peak, out=shares[: len(part)]).exp_()
        of_block = spread.unflatten(1, (blocks, BLOCK))  # (d, B, BLOCK)
        mass = of_block.sum(-1).cumsum(-1)  # (d, B), ending near the sum of all shares
        drawing = [reply for replies in members[start : start + ROWS] for reply in replies]  # (r,)
        row = torch.tensor(
            [place for place, replies in enumerate(members[start : start + ROWS]) for _ in replies], device=device
        )
        chosen = _drawn(of_block, mass, row, [draws[reply] for reply in drawing])
        greedy = torch.tensor([sampling.temperature == 0 for sampling in own], device=device)
        if bool(greedy.any()):
            chosen = torch.where(greedy[row], scores.argmax(-1)[row], chosen)
        tokens[drawing] = chosen
        logprobs[drawing] = scores[row, chosen] - peak[row, 0] - mass[row, -1].log()
    return tokens, logprobs


def _distributions(
    of: Sequence[int], samplings: Sequence[Sampling], constraints: Sequence[Constraint | None]
) -> list[list[int]]:
    """Return, for each distinct distribution, the numbers of the replies that draw from it: those with the same row of
    logits, temperature and truncation and, where they are constrained, with the same grammar and the same tokens so far.
    """
    members: dict[tuple[object, ...], list[int]] = {}
    for reply, (row, sampling) in enumerate(zip(of, samplings, strict=True)):
        constraint = constraints[reply] if constraints else None
        # What may come next depends on the grammar and on what was said.
        state = (constraint.key, constraint.said) if constraint is not None else None
        members.setdefault((row, sampling.temperature, sampling.top_p, sampling.top_k, state), []).append(reply)
    return list(members.values())


def _scores(logits: Tensor, samplings: Sequence[Sampling], allowed: Tensor | None, out: Tensor) -> None:
    """Write the scores of `logits` (r, V) to `out`: divided by the temperature, minus infinity where `allowed` (r, V; None:
    all are) is False and at tokens that `top_k` or `top_p` cut.
    """
    temperatures = torch.tensor([s.temperature or 1.0 for s in samplings], device=logits.device)
    torch.div(logits, temperatures.unsqueeze(1), out=out)
    if allowed is not None:
        out.masked_fill_(~allowed.to(out.device), float("-inf"))
    if any(sampling.top_p < 1 or sampling.top_k > 0 for sampling in samplings):
        out.copy_(_truncate(out.log_softmax(-1), samplings))


def _drawn(shares: Tensor, mass: Tensor, row: Tensor, draws: Sequence[float]) -> Tensor:
    """Return the token (r,) that each draw falls on, by the distribution `row` (r,) of each.

    `shares` (d, B, BLOCK) are those of the tokens of each distribution, `mass` (d, B) their sums cumulated over blocks.
    """
    masses = mass[row]  # (r, B)
    whole = masses[:, -1:]
    draw = torch.tensor(draws, device=mass.device, dtype=mass.dtype).unsqueeze(1)
    target = _below(draw * whole, whole)  # (r, 1)
    # The first block whose cumulated mass is above the draw: with `right=False` a draw of 0 would take the first one,
    # whatever its mass.
    block = torch.searchsorted(masses, target, right=True)  # (r, 1)
    before = torch.where(block > 0, masses.gather(1, (block - 1).clamp_(min=0)), 0.0)
    within = shares[row, block.squeeze(1)].cumsum(-1)  # (r, BLOCK)
    # The block has mass, so that a token with a share of it is found, wherever rounding puts the draw.
    place = torch.searchsorted(within, _below(target - before, within[:, -1:]), right=True)
    return (block * shares.shape[2] + place).squeeze(1)


def _below(target: Tensor, whole: Tensor) -> Tensor:
    """Return `target`, or the largest number below `whole` where it is not below it.

    Rounding may leave the whole mass below 1, where a draw between the two is beyond the last token, and fp32 rounds a draw
    just below 1 up to it, above which no mass is.
    """
    return torch.minimum(target, torch.nextafter(whole, torch.zeros_like(whole)))


def _truncate(logprobs: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Return the log-probabilities (r, V) with minus infinity at all but the `top_k` likeliest tokens of each row, and of those
    the fewest that hold `top_p` of the mass (at least one), normalized again.
    """
    ordered, order = logprobs.sort(-1, descending=True)
    # Mass of the likelier tokens, without the token's own: so the one that crosses `top_p` stays, and always the first.
    before = ordered.exp().cumsum(-1) - ordered.exp()
    top_p = torch.tensor([s.top_p for s in samplings], device=logprobs.device).unsqueeze(1)
    most = logprobs.shape[1]
    top_k = torch.tensor([s.top_k if s.top_k > 0 else most for s in samplings], device=logprobs.device).unsqueeze(1)
    rank = torch.arange(most, device=logprobs.device)
    # The likeliest token stays, also where `top_p` is 0.
    ordered = ordered.masked_fill(((before >= top_p) & (rank > 0)) | (rank >= top_k), float("-inf"))
    # Back in the order of the vocabulary; log_softmax spreads the mass of what is cut over what stays.
    return torch.empty_like(logprobs).scatter_(1, order, ordered).log_softmax(-1)
