"""Selection of a server's trainable replies: with token ids and logprobs, tokenized as by the local model. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Protocol

from lmprog.errors import LmprogError
from lmprog.optimizers.grpo.sampling.rollouts import Rollout

NO_IDS = "without the ids of its tokens; serve it with a vLLM that knows `return_token_ids`"
NO_LOGPROBS = "without a log-probability for each token; serve it with a vLLM that gives `logprobs`, as numbers"
OTHER_TOKENS = (
    "of other tokens than those of {model}; serve the model that `weights` names, with its tokenizer and without "
    "--reasoning-parser"
)


class Reader(Protocol):
    """The interface of the local model's tokenizer: the size of its vocabulary, and text from token ids."""

    @property
    def vocabulary(self) -> int: ...

    def text(self, ids: Any) -> str: ...


def unmatched(made: Any, reader: Reader) -> str | None:
    """Return why a server's reply cannot be trained, as the end of a sentence; None where it can. `reader` is the local
    tokenizer. `made` is the record of the call."""
    prompt, reply, logprobs = made.prompt_token_ids, made.token_ids, made.logprobs
    if not prompt or not reply:
        return NO_IDS
    if logprobs is None or len(logprobs) != len(reply) or not all(isfinite(value) for value in logprobs):
        return NO_LOGPROBS
    known = all(0 <= token < reader.vocabulary for ids in (prompt, reply) for token in ids)
    # What the server takes off the end is a part of the reply too: a `stop`, the call of a tool, half a character.
    if not known or not reader.text(reply).startswith((made.text or "").rstrip("\ufffd")):
        return OTHER_TOKENS
    return None


def drop_untrainable(
    rollouts: Iterable[Rollout], readers: Mapping[str, Reader], models: Mapping[str, str]
) -> tuple[list[Rollout], int]:
    """Drop the LM calls, of modules in `readers`, that cannot be trained; return the rollouts and the number of calls
    dropped.

    `readers` has the local tokenizer by module, `models` the name of the trained model. Calls of sub-programs and
    without a reply (`text` None) are kept, and so are teachers' replies, which are in the trained model's tokens
    already. A rollout may be left without calls. Raises LmprogError where calls were dropped and not one can be
    trained.
    """
    kept, refused, fit = [], [], 0
    for rollout in rollouts:
        calls = []
        for made in rollout.invocations:
            reader = None if rollout.teacher is not None or made.parent is not None else readers.get(made.module)
            why = None
            if reader is not None and made.text is not None:
                why = unmatched(made, reader)
                fit += why is None
            if why is None:
                calls.append(made)
            else:
                refused.append((made, why))
        kept.append(replace(rollout, invocations=tuple(calls)))
    if refused and not fit:
        made, why = refused[0]
        raise LmprogError(
            f"none of {len(refused)} replies of the server can be trained: that of the module {made.module!r} came "
            + why.format(model=models[made.module])
        )
    return kept, len(refused)
