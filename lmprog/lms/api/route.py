"""The interface of the way to a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lmprog.lms.lm import Completion, Request

if TYPE_CHECKING:
    from lmprog.lms.api.adapters import Adapters


class Route(Protocol):
    """The way in which requests reach a provider: direct HTTP, or litellm. A Route sends once; ApiLM retries."""

    structured: bool
    """True if the provider accepts a JSON schema for its reply."""
    adapters: Adapters | None
    """The provider's adapters; None where it accepts none."""

    async def ask(self, request: Request, structured: bool) -> Completion:
        """Send the request once and return the reply; raise TryFailed, or TimeoutError and OSError unchanged."""
        ...
