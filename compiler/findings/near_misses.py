"""Names that are nearly known ones: the parameters, providers and models of LMs, of which no list is complete."""

from __future__ import annotations

import re

from lmprog.compiler.backends import prefixes, registered
from lmprog.compiler.draft import Draft
from lmprog.compiler.findings.finding import nearest
from lmprog.compiler.model_table import PROVIDERS, entry_of, names_of
from lmprog.compiler.plugins import PluginFailed
from lmprog.compiler.yaml.source import Mapping, Node, Scalar

PARAMETERS = (
    "temperature", "max_tokens", "max_completion_tokens", "max_new_tokens", "top_p", "top_k", "min_p", "seed", "stop", "n",
    "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "user",
    "response_format", "reasoning_effort", "reasoning", "thinking", "verbosity", "service_tier", "store", "metadata",
    "parallel_tool_calls", "tool_choice", "extra_body", "extra_headers", "timeout", "num_ctx", "num_predict", "num_retries",
    "stream", "stream_options", "prediction", "modalities", "safety_settings", "api_version", "guided_json",
    "chat_template_kwargs", "drop_params", "allowed_openai_params",
)  # fmt: skip
"""The parameters that providers are commonly given; a provider may know others."""


def check_parameters(draft: Draft, params: Mapping, what: str) -> None:
    """Warn of each parameter in `params` whose name is nearly one of PARAMETERS, since a provider may refuse or ignore it,
    and of a `temperature` above 2. Unknown names that are near to none are left alone. `what` names the place in
    messages."""
    for key, entry in params.entries.items():
        close = nearest(key, PARAMETERS) if key not in PARAMETERS else None
        if close is not None:
            message = f"{what} sends the parameter `{key}`, which no provider is known to take"
            draft.report.add(
                "LMP101", params.key_place(key), message, severity="warning", fix=f"did you mean `{close}`?"
            )
        value = entry.plain()
        if key == "temperature" and isinstance(value, int | float) and value > 2:
            message = f"`temperature` of {what} is {value:g}: providers take 0 to 2"
            draft.report.add("LMP101", entry.place, message, severity="warning")


def check_model(draft: Draft, node: Node, model: str, asks_provider: bool) -> None:
    """Warn of the model `model` (as `openai/gpt-4o`), written at `node`, whose provider or name is nearly a known one.

    Names are compared where `asks_provider` is True: the model is requested at the provider's own address, not at one
    that the program names. A backend of another package that cannot be used is reported.
    """
    provider, slash, name = model.partition("/")
    if not slash:
        return
    if not check_backend(draft, node, model):
        close = nearest(provider, prefixes())
        if close is not None:
            _warn(draft, node, f"`{provider}` is no known provider", provider, close)
    elif asks_provider and provider in PROVIDERS:
        close = None if entry_of(model) else _nearly(name, names_of(provider))
        if close is not None:
            _warn(draft, node, f"`{name}` is no known model of {provider}", name, close)


def check_backend(draft: Draft, node: Node, model: str) -> bool:
    """Report a backend of another package that cannot be used; return whether there is a backend for the prefix of the
    model, usable or not. False for a model without a prefix."""
    prefix, slash, _ = model.partition("/")
    if not slash:
        return False
    try:
        return registered(prefix) is not None
    except PluginFailed as error:
        draft.report.add(
            "LMP103", node.place, f"the LM backend `{prefix}/`: {error}", fix="repair the package, or remove it"
        )
        return True


def _warn(draft: Draft, node: Node, message: str, written: str, close: str) -> None:
    """Warn at the part `written` of a node's text, for which `close` was probably meant."""
    text = node.text if isinstance(node, Scalar) else ""
    place = node.at(text.find(written), len(written)) if isinstance(node, Scalar) and written in text else node.place
    draft.report.add("LMP103", place, message, severity="warning", fix=f"did you mean `{close}`?")


def _nearly(name: str, known: frozenset[str]) -> str | None:
    """Return the known name that differs by a slip, a letter or two and no digit, since digits are a model's version; None
    where there is none."""
    from difflib import SequenceMatcher

    digits = re.sub(r"\D", "", name)
    like = [other for other in known if re.sub(r"\D", "", other) == digits and abs(len(other) - len(name)) <= 2]
    scored = [(SequenceMatcher(None, name, other).ratio(), other) for other in like]
    best = max(scored, default=(0.0, ""))
    return best[1] if best[0] >= 0.88 else None
