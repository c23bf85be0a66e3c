"""The interface of an LM, which completes a request. Tests, caches and other engines implement it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from lmprog.compiler.plan import AdapterReference
from lmprog.compiler.types.lattice import Type


@dataclass(frozen=True)
class ToolOffer:
    """A tool that an LM is told it may call: its name, a description, and the JSON schema of its arguments, an object
    (`parameters`)."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class ToolCall:
    """A tool call in an LM's reply, in the API's own form: its `id`, by which the result refers to it, and the tool's
    name.

    `arguments` is None where the LM wrote no JSON object; `written` is the text of the arguments as it came.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    written: str = ""


@dataclass(frozen=True)
class Request:
    """A request to an LM: messages, and how to answer them. `params` are the parameters of the spec (`temperature`,
    `max_tokens`, ...), merged with the overrides of a run. `seed` is that of the sampling (None: none is sent),
    `adapter` the adapter to answer with (None: none). `output_type` is the type of the outputs that the reply is to
    hold (None: any reply), `format` how it holds them: `text`, `fields` or `json`. `decoding` is `free`, or
    `constrained`: nothing but such a reply can be sampled. `tools` are those that the LM may call in its own
    protocol. `constant` (m, c) says that the first m messages and c characters of message m are the same for every
    row. `key` is the place of the call (row, rollout, path, attempt), by which requests are ordered. `on_text` is
    called with each piece of the reply, with None when it starts again (None: the reply is not streamed).
    """

    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    adapter: AdapterReference | None = None
    output_type: Type | None = None
    format: Literal["text", "fields", "json"] = "text"
    """The format in which the reply holds the outputs."""
    constant: tuple[int, int] = (0, 0)
    """(m, c): the first m messages and the first c characters of message m are the same for every row."""
    key: tuple[int | str, ...] = ()
    """The place of the call in its run; an LM that batches orders its rows by it, regardless of timing."""
    decoding: Literal["free", "constrained"] = "free"
    """`constrained`: the reply is of `output_type` in `format`, whatever is sampled."""
    tools: Sequence[ToolOffer] = ()
    """Tools that the LM may call in its own protocol; empty for an LM without such a protocol."""
    on_text: Callable[[str | None], None] | None = None
    """Callback for each piece of the reply, where the LM can stream; None voids the pieces: the reply restarts."""


@dataclass(frozen=True)
class Usage:
    """The tokens of one call, and its cost in US dollars (None: unknown; 0.0 for a model in this process).

    `cached_tokens` are those of the prompt that the provider had cached, `reasoning_tokens` those of the reply's thinking.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    cached_tokens: int = 0
    """Number of the `prompt_tokens` that the provider cached in an earlier call."""
    reasoning_tokens: int = 0
    """Number of the `completion_tokens` that the model used for reasoning, and that are in no reply."""


@dataclass(frozen=True)
class Completion:
    """An LM's reply: its text, the tool calls in it, why it ended (`finish_reason`), and what it used (`usage`, None:
    not known).

    `token_ids` and `logprobs` are those of the sampled tokens, the end token included, `prompt_token_ids` those of the
    prompt; None where unknown. `cached` is True where the reply came from lmprog's cache. `message` is the reply in the
    provider's own form, where that holds more than text and calls; `model` and `id` are what the provider calls the
    model and the reply; `lm` is the id of the LM that answered, where several may.
    """

    text: str
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    prompt_token_ids: Sequence[int] | None = None
    usage: Usage | None = None
    finish_reason: str = "stop"
    tool_calls: Sequence[ToolCall] = ()
    """Calls that the LM asks for before it goes on; the text may then be empty."""
    cached: bool = False
    """True if lmprog's cache had the reply from an earlier call, so that it cost nothing."""
    message: Mapping[str, Any] | None = None
    """The assistant's turn as the provider wrote it, where it holds more than words and calls (reasoning, signatures):
    some providers refuse an agent's next turn without them."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    id: str | None = None
    """The provider's own name of the reply."""
    lm: str | None = None
    """The id of the LM that answered, where several may."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """The LMs that were asked before it, each with the reason why it gave no reply."""


@runtime_checkable
class LM(Protocol):
    """The interface of an LM: anything with an async `complete`. Other packages implement it to add a backend."""

    async def complete(self, request: Request) -> Completion:
        """Return the LM's reply to a request, even if it is unreadable or cut. Raises ProviderError where there is no
        reply, and another LmprogError for a request that the LM cannot answer, such as one with an unknown parameter.
        """


def innermost(lm: Any) -> Any:
    """Return the LM inside wrappers that count its calls, cache its replies, choose among several LMs (then the first), or
    create it at its first use: it is created now, which raises the errors of that.
    """
    while (inner := getattr(lm, "made", None) or getattr(lm, "lm", None)) is not None:
        lm = inner
    return lm
