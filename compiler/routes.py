"""The choice between the two ways to an LM's API: direct HTTP requests, or litellm."""

from __future__ import annotations

from lmprog.compiler import plan
from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.model_table import entry_of


def is_direct(declared: plan.LM) -> bool:
    """Return whether an LM's API is called without litellm: models `hosted_vllm/...`, and `openai/...`, also with an
    `api_base` of another server that speaks OpenAI's protocol.

    Models that OpenAI itself serves only by its `responses` API go through litellm, which has its format, and so do names
    without a prefix. `declared` is the LM as the spec declares it.
    """
    provider, _, name = declared.model.partition("/")
    if declared.model.startswith(VLLM_PREFIX):
        return True
    if declared.api_base is not None:
        return provider == "openai"
    return (
        provider == "openai"
        and not name.startswith("responses/")
        and entry_of(declared.model).get("mode") != "responses"
    )
