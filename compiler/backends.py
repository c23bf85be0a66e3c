"""Backends of LMs: one record for each prefix of a model's name, of this package and of others.

A backend of another package is an entry point of the group `lmprog.lms` whose name is the prefix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lmprog.compiler.plugins import PluginFailed, names, plugin

GROUP = "lmprog.lms"
LOCAL = "lmprog.lms.local:make"
API = "lmprog.lms.api:ApiLM"
FINE_TUNING = "lmprog.lms.api.fine_tuning:OpenAIJobs"


@dataclass(frozen=True)
class Backend:
    """The record of a backend: how the LMs whose model names begin with its prefix are reached, and what they can do.

    `make` makes an LM from its declaration. `local` LMs run in this process; the weights of `trainable` ones can be trained
    here, and `finetunes` makes the jobs of providers (None: they train none). `adapters` and `constrained` say whether
    requests may name an adapter or constrain the reply, `tool_protocol` how agents call tools where the spec does not
    choose, `seeded` that it takes a seed, `self_hosted` that users run its servers, `packages` what must be installed, and
    `telemetry` is the provider's name in traces (None: the prefix).
    """

    prefix: str
    make: str | Callable[[Any], Any]
    """Function from `lmprog.compiler.plan.LM` to an LM, or its place as `package.module:name`; called at the first request."""
    local: bool = False
    """True if models run in this process: they cost nothing, and private values may reach them."""
    trainable: bool = False
    """True if transformers loads the weights here: the name after the prefix is a folder or a repository of the hub."""
    finetunes: str | Callable[[Any], Any] | None = None
    """Function from `lmprog.compiler.plan.LM` to the `FineTuning` of its provider (`lmprog/lms/fine_tuning.py`), or its place;
    None where its provider trains no weights."""
    adapters: bool = False
    """True if a request may name a LoRA adapter."""
    constrained: bool = False
    """True if `decoding: constrained` is guaranteed."""
    tool_protocol: Literal["native", "text"] = "native"
    """The way that agents call tools where the spec does not choose; `text` models have no native way."""
    telemetry: str | None = None
    """The name in OpenTelemetry's conventions (`gen_ai.provider.name`); None for the prefix."""
    seeded: bool = True
    """False where its API takes no seed, so that none is sent."""
    self_hosted: bool = False
    """True if users run the servers themselves: calls cost nothing where the spec sets no price, also those of a model whose
    name a provider's table has."""
    packages: tuple[str, ...] = ()
    """Packages of an extra of lmprog that must be installed for it."""

    def __post_init__(self) -> None:
        if self.trainable and not self.local:
            raise ValueError(
                f"the backend {self.prefix!r} is trainable and not local: weights are trained in this process"
            )
        if self.finetunes is not None and self.local:
            raise ValueError(
                f"the backend {self.prefix!r} is local and finetunes: only a provider's models are trained by its jobs"
            )


def _in_process(prefix: str) -> Backend:
    """Return the record of a backend whose models transformers loads in this process."""
    return Backend(
        prefix,
        LOCAL,
        local=True,
        trainable=True,
        adapters=True,
        constrained=True,
        tool_protocol="text",
        telemetry="lmprog",
        packages=("torch", "transformers", "peft", "safetensors"),
    )


_LITELLM = (
    "groq", "cohere", "deepseek", "together_ai", "fireworks_ai", "openrouter", "huggingface", "replicate", "nvidia_nim",
    "cerebras", "text-completion-openai", "litellm_proxy", "github", "moonshot", "dashscope", "codestral",
)  # fmt: skip
"""Prefixes of providers behind litellm whose records have nothing but the prefix."""
_SEEDLESS = ("anthropic", "perplexity", "sambanova", "deepinfra", "databricks")
"""Prefixes of providers behind litellm that take no seed."""
_SELF_HOSTED = ("ollama", "ollama_chat", "vllm", "lm_studio", "llamafile")
"""Prefixes of servers behind litellm that users run themselves."""

BUILT_IN = {
    backend.prefix: backend
    for backend in (
        _in_process("embedded"),
        _in_process("hf"),
        Backend("hosted_vllm", API, adapters=True, self_hosted=True),
        Backend("openai", API, finetunes=FINE_TUNING),
        Backend("azure", API, finetunes=FINE_TUNING, telemetry="azure.ai.openai"),
        Backend("azure_ai", API, telemetry="azure.ai.inference"),
        Backend("bedrock", API, telemetry="aws.bedrock", seeded=False),
        Backend("gemini", API, telemetry="gcp.gemini"),
        Backend("mistral", API, telemetry="mistral_ai"),
        Backend("vertex_ai", API, telemetry="gcp.vertex_ai"),
        Backend("watsonx", API, telemetry="ibm.watsonx.ai"),
        Backend("xai", API, telemetry="x_ai"),
        *(Backend(prefix, API) for prefix in _LITELLM),
        *(Backend(prefix, API, seeded=False) for prefix in _SEEDLESS),
        *(Backend(prefix, API, self_hosted=True) for prefix in _SELF_HOSTED),
    )
}
"""The backends of this package, by prefix. litellm knows more providers: any other prefix is left to it."""
VLLM_PREFIX = "hosted_vllm/"
"""Name prefix of models on a vLLM server, which accepts adapters."""


def registered(prefix: str) -> Backend | None:
    """Return the record of a backend by its prefix, without the slash; None where there is none, so that only litellm
    may know the prefix.

    Raise PluginFailed where another package registers the prefix and its record cannot be used.
    """
    return BUILT_IN.get(prefix) or plugin(GROUP, prefix, Backend, "prefix")


def prefixes() -> Iterable[str]:
    """Return the prefixes of all backends, without their slash, those of other packages among them, also of such as
    cannot be used."""
    return (*BUILT_IN, *names(GROUP))


@cache
def backend_of(model: str) -> Backend:
    """Return the backend of a model by its name: the record of its prefix, or that of an LM behind litellm where the
    prefix has no record, or a broken one.

    A name without a prefix is one of OpenAI's, as for litellm, and can be fine-tuned. Each name is looked up once.
    """
    prefix, slash, _ = model.partition("/")
    if not slash:
        return Backend("", API, finetunes=FINE_TUNING, telemetry="openai")
    try:
        return registered(prefix) or Backend(prefix, API)
    except PluginFailed:
        return Backend(prefix, API)


def model_folder(model: str) -> Path | None:
    """Return the folder that a local model's name holds (`hf/FOLDER`, from the working directory); None for `embedded/`,
    for models of servers, and where no such folder exists."""
    prefix, _, rest = model.partition("/")
    folder = Path(rest)
    return folder if backend_of(model).local and prefix != "embedded" and rest and os.path.isdir(folder) else None
