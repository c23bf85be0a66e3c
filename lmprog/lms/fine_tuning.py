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
    """The limits of a provider on the rows that it trains on: the fewest rows, the most bytes of the file, and the most
    tokens of a row.

    It refuses fewer rows and larger files, and cuts longer rows.
    """

    rows: int
    """The fewest rows."""
    bytes: int
    """The most bytes of the file of all rows."""
    tokens: int
    """The most tokens of a row."""


@dataclass(frozen=True)
class JobOptions:
    """The settings of a fine-tuning job: the base model, the epochs (passes over all rows), the seed, a part of the new
    model's name (`suffix`), the rows of one update (`batch`), and the factor of the learning rate.

    None, as `batch` or factor, leaves the choice to the provider.
    """

    model: str
    epochs: int
    seed: int
    suffix: str
    """Part of the name of the model that comes out."""
    batch: int | None = None
    learning_rate_multiplier: float | None = None


@dataclass(frozen=True)
class JobState:
    """A fine-tuning job as its provider reports it: its id, its status (`running` until it has ended), and that status
    in the provider's own word (`shown`).

    `model` is the name of the trained model and `trained_tokens` what it was trained on (None: not known yet); `error`
    says why it failed (empty: it did not).
    """

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
    """The interface of a provider's fine-tuning for one LM. `upload`, `start`, `state` and `cancel` raise ProviderError
    where the provider refuses or gives no answer after all tries, with place, cause and fix; the others raise nothing
    of the provider's.
    """

    def limits(self, model: str) -> RowLimits:
        """Return the provider's limits on the rows that it trains the base model `model` on; nothing is asked."""
        ...

    async def upload(self, name: str, data: bytes, *, seek: bool) -> str:
        """Store the rows (JSON lines of `messages`) at the provider as a file named `name`; return the provider's id of the
        file.

        With `seek`, an earlier process may have done so: a file of that name is taken, and not stored again.
        """
        ...

    async def start(self, file: str, options: JobOptions, *, seek: bool) -> JobState | None:
        """Start a job on the file with the provider's id `file`; return its state, or None where the provider no longer has
        the file.

        With `seek`, an earlier process may have started one: a job on that file is then taken, and none is started.
        """
        ...

    async def state(self, job: str) -> JobState:
        """Return the present state of the job with this id."""
        ...

    async def events(self, job: str) -> Sequence[str]:
        """Return the latest messages of the job with this id, the newest last; empty where there are none, or they cannot
        be read.
        """
        ...

    async def cancel(self, job: str) -> JobState:
        """Cancel the job with this id, and return its state after that."""
        ...

    async def answers(self, model: str) -> bool:
        """Return False where the provider says that it has no trained model `model` to answer with (yet), else True,
        also where it cannot be asked.
        """
        ...

    def not_deployed(self, model: str) -> str:
        """Return in a sentence what the user must do where the trained model does not answer yet (deploy it, say); empty
        for nothing.
        """
        ...


def fine_tuning_of(lm: plan.LM) -> FineTuning:
    """Return the fine-tuning of an LM's provider. Raises UsageError where its backend has none, or the LM has no
    address or key.
    """
    found = lm.backend.finetunes
    if found is None:
        raise UsageError(f"the LM {lm.id!r} ({lm.model}) cannot be fine-tuned: its backend registers no `finetunes`")
    made: FineTuning = function_of(found)(lm)
    return made


def row_of(messages: Sequence[Mapping[str, Any]], reply: str) -> dict[str, Any]:
    """Return a training row in OpenAI's form, `{"messages": [...]}`: the prompt's messages and the reply. Only the
    reply is learnt; earlier assistant messages get `weight` 0."""
    before = [{**message, "weight": 0} if message.get("role") == "assistant" else dict(message) for message in messages]
    return {"messages": [*before, {"role": "assistant", "content": reply}]}
