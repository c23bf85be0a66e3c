"""The environment variables in which providers' keys stand, as their own tools and litellm read them."""

from __future__ import annotations

import os

from lmprog.compiler.plan import LM
from lmprog.compiler.provider_keys import KEYS
from lmprog.lms.api.access import address_in_environment


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
    """Return whether one of the environment variables of these names is set and not blank; False for no names."""
    return any(os.environ.get(name, "").strip() for name in variables)
