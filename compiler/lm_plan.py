"""LMs as the compiler passes them to the runtime: the model, what it is asked with, and what may answer in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lmprog.compiler.backends import Backend, backend_of

if TYPE_CHECKING:
    from lmprog.compiler.expressions.compiled import Expression


@dataclass(frozen=True)
class AdapterReference:
    """The location of the LoRA adapter of an LM or module: a folder, or a repository of the hub (`hf://...`).

    To be loaded it must have the digest `sha256`, and its model must be `base` with the digest `base_sha256`; None: any.
    """

    path: Path | str
    """A folder, or `hf://repo@commit`."""
    sha256: str | None = None
    base: str | None = None
    base_sha256: str | None = None

    @property
    def weights(self) -> str:
        """The name of an adapter's weights: their digest if the spec has one, else the adapter's location."""
        return self.sha256 or str(self.path)


@dataclass(frozen=True)
class Limits:
    """The limits of an LM behind an API: calls at a time, requests and tokens a minute (None: no limit), seconds of a try,
    number of tries, and megabytes of a reply.
    """

    concurrency: int | None = None
    """Calls in flight."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    """Tokens of prompts and replies together, per minute."""
    timeout: float = 120.0
    """Seconds of one try."""
    tries: int = 8
    """Maximum number of tries of one call, the first included."""
    reply_mb: float = 32.0
    """The longest body of a reply that is read, in millions of bytes."""


@dataclass(frozen=True)
class Cache:
    """The setting `cache:` of an LM: in which folder its replies are cached (None: the default), and whether they are
    `shared` with others.
    """

    shared: bool = False
    """True if others can read the replies."""
    folder: Path | None = None
    """The folder of the replies; None for the user's own cache, or, if `shared`, the folder that $LMPROG_SHARED_CACHE names."""


@dataclass(frozen=True)
class Fleet:
    """The servers that serve one model: their addresses in the spec, or a file of addresses (`discover`, None: the spec
    lists them) that is read again as it changes."""

    addresses: tuple[Expression, ...] = ()
    """The addresses, as expressions over the environment; empty with `discover`."""
    discover: Path | None = None
    """The file of addresses, one on a line."""


@dataclass(frozen=True)
class AdapterStore:
    """The place to which adapters are copied for servers: `write` is its path here, `read` the path under which servers see
    it.
    """

    write: str
    """A folder, or the URL of an fsspec file system, such as s3://bucket/run."""
    read: str
    """The name of the same place on the servers."""


Load = Literal["4bit"]
"""Ways to load a model in this process other than as its files have it."""
BATCH_SHARE = 0.5
"""The price of a call in a provider's batch, as a share of that of other calls."""


@dataclass(frozen=True)
class LM:
    """An LM of the program as the spec declares it: its id, its model's name, parameters, limits and prices.

    `api_key`, `api_base` and `headers` say how its server is reached (`api_key` None: the key of the environment),
    `adapter` is the adapter laid over the model (None: none). `context` is the size of its context window in tokens,
    `price` dollars for a million tokens (by `input`, `output`, `cached` and `training`), and `speed` tokens a second, each
    None where the spec does not set it. A `trusted` LM may be sent private values.
    """

    id: str
    model: str
    params: Mapping[str, Any] = field(default_factory=dict)
    trusted: bool = False
    api_key: Expression | None = None
    api_base: Expression | Fleet | None = None
    """The address of its server, or the servers that share its calls; None for the provider's own address."""
    adapter: AdapterReference | None = None
    context: int | None = None
    price: Mapping[str, float] | None = None
    speed: Mapping[str, float] | None = None
    """Tokens a second in this process: `input` of prompts, `output` of all replies together."""
    headers: Mapping[str, Expression] = field(default_factory=dict)
    limits: Limits = Limits()
    tool_protocol: Literal["native", "text"] = "text"
    """The way that an agent on this LM calls tools: natively in its API, or in the text of the reply."""
    cache: Cache | None = None
    """The cache of answers, so that an equal request is not sent again; None where they are not cached."""
    adapter_store: AdapterStore | None = None
    """The place where its servers find adapters; None where they see the folders of this machine."""
    weights: str | None = None
    """The model (`hf/...`) to load in this process for training, where a vLLM server serves it."""
    load: Load | None = None
    """The way to load the model in this process; None for as its files have it."""
    batch: bool = False
    """True if its calls wait for a batch of the provider, at BATCH_SHARE of the price."""
    balance: tuple[LM, ...] = ()
    """The LMs that share its calls; they have no others of their own."""
    fallback: tuple[LM, ...] = ()
    """The LMs to ask where it, and those that share its calls, give no reply, in this order."""

    @property
    def answering(self) -> tuple[LM, ...]:
        """The LMs that may answer its calls: first itself, then those that share its calls (`balance`) and its fallbacks."""
        return (self, *self.balance, *self.fallback)

    @property
    def answers_are_shared(self) -> bool:
        """True if others can read the cached replies to its calls, those of LMs that answer in its place included."""
        return any(each.cache is not None and each.cache.shared for each in self.answering)

    @property
    def backend(self) -> Backend:
        """The backend that the model's name chooses by its prefix."""
        return backend_of(self.model)

    @property
    def runs_here(self) -> bool:
        """True if the model runs in this process (`embedded/...`, `hf/...`, or a local backend of another package)."""
        return self.backend.local

    @property
    def base(self) -> str:
        """The name of the weights that answer without an adapter: the model's, with `:4bit` where it is loaded so."""
        return self.model if self.load is None else f"{self.model}:{self.load}"

    @property
    def trained_as(self) -> str | None:
        """The name of the local model whose weights can be trained for this LM: its own, or, where vLLM serves it, `weights`;
        None where nothing can be trained in this process."""
        return self.model if self.backend.trainable else self.weights

    @property
    def finetunes(self) -> bool:
        """True if its weights can be trained by a job of its provider, and not in this process."""
        return self.trained_as is None and self.backend.finetunes is not None
