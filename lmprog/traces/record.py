"""The records of one LM call and of one tool call, from which scoring, demos and training take all that they need of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lmprog.lms.digest import request_sha256
from lmprog.lms.lm import ToolCall, ToolOffer, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """The record of one LM call of a module, successful or not: where it was made, what was sent, what came back.

    `program`, `module`, `path` (the call site with the turns of loops) and `call` (the number of the call among the
    module's) say where; `example` (the row's number), `rollout` (the number of the row's sample) and `attempt` (0, and
    one more for each retry) which run and try. `inputs` are the module's; `messages`, `params`, `tools` and `seed` were
    sent; `constrained` is True where only a reply of the declared types could be sampled. `text` is the reply and
    `outputs` the values read from it, `forgiven` the repairs, `error` says what failed (None: nothing did). Token ids,
    `logprobs`, `usage` and `finish_reason` are None where the provider gave none. docs/traces.md has all fields.
    """

    program: str
    module: str
    path: str
    """The call site and the turns of the loops around it, as `research[1].query`."""
    call: int
    """k, from 0: the place of this call among the module's calls in the run, in the order of the plan."""
    example: int | str
    rollout: int
    attempt: int = 0
    """0, and one more for each retry; the retries of a call share its `call`."""
    inputs: Mapping[str, Any]
    messages: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the request: `temperature`, `max_tokens`, ..."""
    tools: Sequence[ToolOffer] = ()
    """Tools that the LM was offered in its own protocol."""
    constrained: bool = False
    """True if only a reply of the declared types could be sampled."""
    text: str | None
    """The reply as it came; None where the LM gave none."""
    outputs: Mapping[str, Any] | None
    """The values read from the reply; None where it could not be read, and for a turn in which an agent calls tools."""
    error: str | None = None
    forgiven: Sequence[str] = ()
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    cached: bool = False
    """True if the reply was cached in an earlier call."""
    started: float = 0.0
    """Time of the request, in seconds since 1970."""
    seconds: float = 0.0
    """Seconds from the request to the reply; rows of one batch share their time."""
    seed: int | None = None
    tool_calls: Sequence[ToolCall] = ()
    """Tool calls that the LM asks for in this reply, where it makes them by its API; calls written as text are in `text`."""
    message: Mapping[str, Any] | None = None
    """The turn as the provider wrote it, where it holds more than words and calls: reasoning, signatures."""
    response_model: str | None = None
    """The model that answered, as the provider names it."""
    response_id: str | None = None
    """The provider's own name of the reply."""
    lm: str | None = None
    """The id of the LM that answered, where several may (`fallback`, `balance`)."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """The LMs that were asked before it, each with the reason why it gave no reply."""
    weights: str = ""
    """The model's name, with the digest of its adapter if it has one."""
    parent: str | None = None
    """The path of the step of the outer program, for a call within a sub-program."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The tags of the run: `session`, `user` and others."""

    @property
    def prompt_sha256(self) -> str:
        """The SHA-256 of the messages as sent."""
        written = json.dumps(self.messages, ensure_ascii=False, default=str)
        return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()

    @property
    def request_sha256(self) -> str:
        """The SHA-256 of messages, parameters, weights, seed and tools, by which a replay finds the reply."""
        return request_sha256(self.weights, self.messages, self.params, self.seed, self.tools)

    def as_json(self) -> dict[str, Any]:
        """Return the record as a dictionary by field name with `kind` `lm`, with tools by their names, and with
        `prompt_sha256` and `request_sha256`; without the fields that are None, False, or an empty text or list, and
        without empty `tags` and `passed_over`."""
        digests = {"prompt_sha256": self.prompt_sha256, "request_sha256": self.request_sha256}
        return {"kind": "lm", **_plain(self), **digests}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolInvocation:
    """The record of one tool call by a step or an agent, successful or not, with its arguments, result, time
    (`started`, in seconds since 1970) and duration (`seconds`).

    `program` made it, as a sub-program in the step `parent` (None: it is no sub-program). `path` is the call site with
    the turns of loops, `example` the row's number, `rollout` the number of the row's sample, `attempt` 0 and one more
    for each retry, and `module` the agent that asked (None: a tool step). `error` is the message of a failure (None:
    none), `failure` its kind, and `wrote` True where the tool may have changed something.
    """

    program: str
    tool: str
    path: str
    """The call site, or that of the agent which asked, with the turns of the loops around it."""
    example: int | str
    rollout: int
    attempt: int = 0
    module: str | None = None
    """The agent that asked; None for a step of its own."""
    arguments: Mapping[str, Any]
    result: Any = None
    error: str | None = None
    failure: str | None = None
    """The kind of the failure (`lmprog.blame`): `tool` or `connection`; None where there is none, and for a call that was
    cancelled or ended by an error that concerns more than one run."""
    wrote: bool = False
    """True if the tool may change something (`effects: write`)."""
    started: float = 0.0
    seconds: float = 0.0
    parent: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the record as a dictionary by field name with `kind` `tool`; without the fields that are None, False,
        or an empty text or list, and without empty `tags`, but always with its `result`."""
        return {"kind": "tool", **_plain(self)}


Record = Invocation | ToolInvocation
"""A record of a trace: a call of an LM or of a tool."""


def _plain(record: Any) -> dict[str, Any]:
    found = {}
    for name in (known.name for known in fields(record)):
        value = getattr(record, name)
        if isinstance(value, Usage):
            value = asdict(value)
        elif name == "tool_calls":
            value = [asdict(call) for call in value]
        elif name == "tools":
            value = [offer.name for offer in value]
        if name in ("passed_over", "tags") and not value:
            continue
        if name == "result" or (
            value is not None and value is not False and value != () and value != [] and value != ""
        ):
            found[name] = value
    return found
