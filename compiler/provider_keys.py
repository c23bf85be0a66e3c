"""The environment variables in which providers' keys stand, as their own tools and litellm read them, and the hosts of the
providers."""

from __future__ import annotations

import re

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
HOSTS: dict[str, tuple[str, ...]] = {
    "openai": ("openai.com",),
    "anthropic": ("anthropic.com",),
    "gemini": ("googleapis.com",),
    "mistral": ("mistral.ai",),
    "groq": ("groq.com",),
    "cohere": ("cohere.com", "cohere.ai"),
    "deepseek": ("deepseek.com",),
    "xai": ("x.ai",),
    "openrouter": ("openrouter.ai",),
    "together_ai": ("together.xyz", "together.ai"),
    "fireworks_ai": ("fireworks.ai",),
    "perplexity": ("perplexity.ai",),
    "cerebras": ("cerebras.ai",),
    "deepinfra": ("deepinfra.com",),
    "huggingface": ("huggingface.co", "huggingface.cloud"),
}
"""Provider -> the domains of its own servers; none for a provider whose users have addresses of their own, as Azure's."""
_HOST = re.compile(r"https?://(?:[^/@]*@)?(\[[0-9a-f:.]+\]|[^/:?#]+)", re.IGNORECASE)
_NEAR = re.compile(
    r"localhost|[^.\[]+|.*\.(?:local|localhost|internal|intranet|corp|home|private|lan)"  # names of one's own network
    r"|.*\.(?:svc|home\.arpa|ts\.net|test|example|invalid)"
    r"|127\..*|10\..*|192\.168\..*|172\.(?:1[6-9]|2\d|3[01])\..*|169\.254\..*|0\.0\.0\.0|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\..*|\[(?:::1?|f[cd].*|fe80.*)\]"
)


def key_sent_elsewhere(model: str, address: str) -> tuple[str, str] | None:
    """Return the variable whose key goes to an address where the spec names no key, and the address's host; None where the host
    is the provider's own or one of the user's own network, and for a provider whose key is not known.
    """
    prefix, slash, _ = model.partition("/")
    provider = prefix if slash else "openai"
    found = _HOST.match(address.strip())
    if found is None or provider not in HOSTS:
        return None
    host = found[1].lower().rstrip(".")
    if _NEAR.fullmatch(host) or any(host == own or host.endswith(f".{own}") for own in HOSTS[provider]):
        return None
    return KEYS[provider][0], host
