"""The way to an LM behind an API: direct, or through litellm."""

from __future__ import annotations

from lmprog.compiler import plan
from lmprog.compiler.backends import VLLM_PREFIX
from lmprog.compiler.model_table import entry_of


def is_direct(declared: plan.LM) -> bool:
    """Return whether an LM behind an API is asked without litellm: OpenAI's chat models, and servers that speak as OpenAI does.

    OpenAI answers for some models at its address for responses alone, whose form litellm knows.
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
