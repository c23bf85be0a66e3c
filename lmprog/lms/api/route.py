"""The interface of the way to a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lmprog.lms.lm import Completion, Request

if TYPE_CHECKING:
    from lmprog.lms.api.adapters import Adapters


class Route(Protocol):
    """The interface of a way in which requests reach a provider: direct HTTP, or litellm. A Route sends once; ApiLM
    retries.

    `structured` says whether the provider takes a JSON schema for the reply, `adapters` are those loaded on its server
    (None: the provider takes no adapters).
    """

    structured: bool
    """True if the provider accepts a JSON schema for its reply."""
    adapters: Adapters | None
    """The provider's adapters; None where it accepts none."""

    async def ask(self, request: Request, structured: bool) -> Completion:
        """Send the request once, with a JSON schema for the reply if `structured`, and return the reply.

        Raises TryFailed where the provider gave no reply. TimeoutError and OSError pass unchanged, or become a
        TryFailed. A route that takes adapters also raises the errors of `Adapters.loaded`, and UsageError where it
        knows no address.
        """
        ...
