"""The record of one LM call: the central record of lmprog. Scoring, demos and training read nothing else of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lmprog.lms.lm import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One call of one module's LM, whether it went well or not."""

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
    text: str | None
    """The reply as it came; None where the LM gave none."""
    outputs: Mapping[str, Any] | None
    """The values read from the reply; None where it could not be read."""
    error: str | None = None
    forgiven: Sequence[str] = ()
    prompt_token_ids: Sequence[int] | None = None
    token_ids: Sequence[int] | None = None
    logprobs: Sequence[float] | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    seconds: float = 0.0
    """From the request to the reply; rows of one batch share their time."""
    seed: int | None = None
    prompt_sha256: str = ""
    weights: str = ""
    """The model, and the digest of the adapter on it."""
    parent: str | None = None
    """The path of the step of the outer program, for a call within a sub-program."""

    def as_json(self) -> dict[str, Any]:
        """The record as plain values, fields that say nothing left out."""
        record = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Usage):
                value = {
                    "prompt_tokens": value.prompt_tokens,
                    "completion_tokens": value.completion_tokens,
                    "usd": value.usd,
                }
            if value is not None and value != () and value != "":
                record[field.name] = value
        return record
