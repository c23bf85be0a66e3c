"""What an LM is to lmprog: something that completes a request. Tests, caches and other engines implement the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lmprog.compiler.plan import AdapterReference
from lmprog.compiler.types import Type


@dataclass(frozen=True)
class Request:
    """One call of an LM.

    `params` are those of the spec (`temperature`, `max_tokens`, ...), already merged with what a run overrides.
    """

    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    adapter: AdapterReference | None = None
    output_type: Type | None = None
    format: Literal["text", "fields", "json"] = "text"
    """How the reply is to hold the outputs."""
    constant: tuple[int, int] = (0, 0)
    """(m, c): the first m messages and the first c characters of message m are the same for every row."""
    key: tuple[int | str, ...] = ()
    """Where the call stands in its run; an LM that batches puts its rows in this order, whatever the clock did."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, and money in US dollars where the price is known (0.0 for a model in this process)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None


@dataclass(frozen=True)
class Completion:
    """A reply. Token ids and log-probabilities are those of the sampled reply, its end token included."""

    text: str
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    prompt_token_ids: Sequence[int] | None = None
    usage: Usage | None = None
    finish_reason: str = "stop"


@runtime_checkable
class LM(Protocol):
    """Raises ProviderError where no reply could be had; a reply of any quality is a Completion."""

    async def complete(self, request: Request) -> Completion: ...
