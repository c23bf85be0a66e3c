"""An LM whose answers are kept between runs, as its `cache:` says."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lmprog.compiler import plan
from lmprog.compiler.backends import API, model_folder
from lmprog.compiler.expressions.compiled import EvaluationError
from lmprog.compiler.plan import Cache, Fleet
from lmprog.errors import UsageError
from lmprog.lms.answer_file import answer_cache
from lmprog.lms.api.access import address_in_environment
from lmprog.lms.lm import LM, Completion, Request, Usage
from lmprog.lms.response_cache import ResponseCache, has_no_digest
from lmprog.state.cache_folder import cache_root
from lmprog.state.digests import folder_state

SHARED = "LMPROG_SHARED_CACHE"
"""The environment variable with the folder of a shared cache for which the spec names none."""


class CachedLM:
    """An LM with a cache of replies on disk, as `cache:` in a spec declares. A reply from the cache costs nothing."""

    def __init__(self, lm: LM, declared: plan.LM) -> None:
        self.lm = lm
        self._declared = declared
        self._kept: tuple[ResponseCache, str] | None = None

    async def complete(self, request: Request) -> Completion:
        """Return the reply from the cache, at a cost of 0, or from `lm`, whose reply is then stored.

        A request with an adapter that has no digest is never cached. Raises UsageError where a shared cache has no folder,
        and any error that `lm` raises.
        """
        if has_no_digest(request):
            return await self.lm.complete(request)
        if self._kept is None:
            declared = self._declared.cache or Cache()
            cache = answer_cache(folder_of(declared, self._declared.id), declared.shared)
            self._kept = ResponseCache(cache), self._where()
        answers, served = self._kept
        completion, kept = await answers.complete(self.lm, request, self._declared.base, served)
        if not kept:
            return completion
        return replace(completion, usage=replace(completion.usage or Usage(), usd=0.0), cached=True)

    def _where(self) -> str:
        """Return the address of the model's server (of a fleet: all of them, or their file), as the spec or the environment
        has it, or a digest of a local folder's files; empty where none of these is known.
        """
        base = self._declared.api_base
        if isinstance(base, Fleet):
            return str(base.discover or " ".join(address.text for address in base.addresses))
        if base is not None:
            try:
                return str(base.evaluate({"env": os.environ}))
            except EvaluationError:
                return base.text
        if self._declared.backend.make == API:
            return address_in_environment(self._declared) or ""
        folder = model_folder(self._declared.model)
        return folder_state(folder) if folder is not None else ""


def folder_of(cache: Cache, lm: str) -> Path:
    """Return the folder of an LM's cached replies, which need not exist: that of the spec, for a shared cache that of
    LMPROG_SHARED_CACHE, else one in the user's cache. Raises UsageError for a shared cache without a folder; `lm` is
    the LM's id in that message.
    """
    if cache.folder is not None:
        return cache.folder
    if cache.shared:
        if not os.environ.get(SHARED):
            fix = f"write cache: {{shared: true, folder: ...}}, or set {SHARED} in the environment"
            raise UsageError(f"the shared cache of the LM {lm!r} has no folder; {fix}")
        return Path(os.environ[SHARED])
    return cache_root() / "answers"
