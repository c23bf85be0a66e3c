"""The environment variables in which providers' keys stand, as their own tools and litellm read them."""

from __future__ import annotations

import os

from lmprog.compiler.plan import LM
from lmprog.lms.api.access import address_in_environment

KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "mistral": ("MISTRAL_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "xai": ("XAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "azure": ("AZURE_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "deepinfra": ("DEEPINFRA_API_KEY",),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
}
"""Provider -> variables, any of which is enough. A provider that is not here may want none, or several."""


def keys_of(lm: LM) -> tuple[str, ...]:
    """Return the names of the environment variables of which the LM needs one to be set, for its provider's key.

    Empty where the LM runs in this process, where the spec names its key or a server of its own, where the environment
    names a server in OpenAI's place, and for a provider that is not among KEYS.
    """
    if lm.backend.local or lm.api_key is not None or lm.api_base is not None:
        return ()
    prefix, slash, _ = lm.model.partition("/")
    if prefix == "openai" and address_in_environment(lm) is not None:
        return ()
    return KEYS.get(prefix if slash else "openai", ())


def has_key(variables: tuple[str, ...]) -> bool:
    """Return whether one of the environment variables of these names is set."""
    return any(os.environ.get(name, "").strip() for name in variables)
