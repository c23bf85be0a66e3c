"""Fine-tuning at a provider: the interface of its files and jobs. Another package implements it for its backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lmprog.compiler import plan
from lmprog.compiler.plugins import function_of
from lmprog.errors import UsageError


@dataclass(frozen=True)
class RowLimits:
    """The limits of a provider on the rows that it trains on; it refuses fewer rows and larger files, and cuts longer rows."""

    rows: int
    """The fewest rows."""
    bytes: int
    """The most bytes of the file of all rows."""
    tokens: int
    """The most tokens of a row."""


@dataclass(frozen=True)
class JobOptions:
    """The settings of a job: the base model, and how to train it; None leaves a choice to the provider."""

    model: str
    epochs: int
    seed: int
    suffix: str
    """Part of the name of the model that comes out."""
    batch: int | None = None
    learning_rate_multiplier: float | None = None


@dataclass(frozen=True)
class JobState:
    """A job as its provider shows it."""

    id: str
    status: Literal["running", "succeeded", "failed", "cancelled"]
    shown: str
    """The status in the provider's own word."""
    model: str | None = None
    """The name of the model that came out, for the LM's `model`."""
    trained_tokens: int | None = None
    error: str = ""
    """The reason of a failure, in the provider's words."""


class FineTuning(Protocol):
    """The interface of a provider's fine-tuning for one LM. All methods raise ProviderError where the provider gives no answer
    after all tries, with place, cause and fix.
    """

    def limits(self, model: str) -> RowLimits:
        """Return what is asked of the rows that a base model is trained on."""
        ...

    async def upload(self, name: str, data: bytes, *, seek: bool) -> str:
        """Store the rows (JSON lines of `messages`) as a file named `name`, and return its id.

        With `seek`, an earlier process may have done so: a file of that name is taken, and not stored again.
        """
        ...

    async def start(self, file: str, options: JobOptions, *, seek: bool) -> JobState | None:
        """Start a job on a file; None where the provider has no such file any more. No file has two jobs.

        With `seek`, an earlier process may have done so: a job on that file is taken, and none is started.
        """
        ...

    async def state(self, job: str) -> JobState:
        """Return a job as it is now."""
        ...

    async def events(self, job: str) -> Sequence[str]:
        """Return the latest messages of a job, the newest last; empty where there are none, or they cannot be had."""
        ...

    async def cancel(self, job: str) -> JobState:
        """Cancel a job, and return it as it is then."""
        ...

    async def answers(self, model: str) -> bool:
        """Return whether the provider is ready to answer with a model that has come out of a job."""
        ...

    def not_deployed(self, model: str) -> str:
        """Return what to do where the model that came out gives no answer; empty where nothing is to be done."""
        ...


def fine_tuning_of(lm: plan.LM) -> FineTuning:
    """Return the fine-tuning of an LM's provider. Raises UsageError where its backend has none."""
    found = lm.backend.finetunes
    if found is None:
        raise UsageError(f"the LM {lm.id!r} ({lm.model}) cannot be fine-tuned: its backend registers no `finetunes`")
    made: FineTuning = function_of(found)(lm)
    return made


def row_of(messages: Sequence[Mapping[str, Any]], reply: str) -> dict[str, Any]:
    """Return a row of training in OpenAI's form. Only the reply is learnt: earlier turns of the assistant weigh nothing."""
    before = [{**message, "weight": 0} if message.get("role") == "assistant" else dict(message) for message in messages]
    return {"messages": [*before, {"role": "assistant", "content": reply}]}
