"""Creation of the LMs that a spec declares. Weights are read, or litellm imported, only at an LM's first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lmprog.aio.per_loop import PerLoop
from lmprog.aio.threads import in_thread
from lmprog.compiler import plan
from lmprog.compiler.backends import API, LOCAL
from lmprog.compiler.plugins import function_of
from lmprog.compiler.routes import is_direct
from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.extras import require
from lmprog.lms.api.access import Access
from lmprog.lms.lm import LM, Completion, Request


class _OnFirstUse:
    """A stand-in for an LM that a spec declares, which makes the LM at its first call: it may read weights, import litellm,
    or need a key. Made by `make_lm`.
    """

    def __init__(self, declared: plan.LM, made: Callable[[LM], None] | None = None) -> None:
        self.declared = declared
        self._on_made = made
        self._made: LM | None = None
        self._making = PerLoop(self._make_in_thread)

    @property
    def made(self) -> LM:
        """The LM itself, made now where it was not yet; where that fails, it is tried again the next time. Raises
        MissingExtra, UsageError and other errors of its making.
        """
        if self._made is None:
            self.require()
            try:
                made: LM = function_of(self.declared.backend.make)(self.declared)
            except Exception as error:
                if isinstance(error, LmprogError) or self._ours:
                    raise
                declared = self.declared
                raise UsageError(
                    f"the LM {declared.id!r} ({declared.model}) cannot be made: {self._said(error)}"
                ) from error
            if self._on_made is not None:
                self._on_made(made)
            self._made = made
        return self._made

    def require(self) -> None:
        """Raise MissingExtra where the LM needs packages that are not installed."""
        model = self.declared.model
        backend = self.declared.backend
        if self.declared.load is not None:
            require(("bitsandbytes",), f"{model!r} with `load: {self.declared.load}`")
        if backend.packages:
            require(backend.packages, f"{model!r} runs in this process, which" if backend.local else f"{model!r}")
        elif backend.make == API and not is_direct(self.declared):
            require(("litellm",), f"{model!r} is reached through litellm, which")

    def _make_in_thread(self) -> asyncio.Future[LM]:
        return asyncio.ensure_future(in_thread(lambda: self.made))

    async def complete(self, request: Request) -> Completion:
        """Return the reply of the LM, which is made first where it was not yet. Raises UsageError for an adapter that the
        LM does not take; errors of another package's LM become ProviderError without secrets.
        """
        if self._made is None and not self.declared.runs_here:
            # To import litellm takes seconds, in which no other call's limit may run out.
            await asyncio.shield(self._making.get())
        if request.adapter is not None and not self.declared.backend.adapters and self.declared.backend.make != API:
            raise UsageError(
                f"the LM {self.declared.id!r} ({self.declared.model}) takes no adapter ({request.adapter.path}); "
                "leave `adapter` out, or name an LM whose backend takes one"
            )
        try:
            return await self.made.complete(request)
        except Exception as error:
            if isinstance(error, LmprogError) or self._ours:
                raise
            # The author of another package may not know what an LM raises, and one failed call must not end all runs.
            raise ProviderError(f"{self.declared.model} gave no answer: {self._said(error)}") from error

    @property
    def _ours(self) -> bool:
        return self.declared.backend.make in (API, LOCAL)

    def _said(self, error: Exception) -> str:
        """Return the words for an error of another package, without the secrets of the environment."""
        return f"{type(error).__name__}: {Access.of(self.declared).hide(str(error))}"


def require_packages(lm: object) -> None:
    """Raise MissingExtra where the backend of an LM needs packages that are not installed.

    Only LMs that `make_lm` returned are checked, also inside wrappers.
    """
    while (inner := getattr(lm, "lm", None)) is not None:
        lm = inner
    if isinstance(lm, _OnFirstUse):
        lm.require()


def is_declared(lm: object) -> bool:
    """Return whether an LM, also one inside wrappers, was made from its declaration alone (by `make_lm`), so that an
    equal one can be made elsewhere.
    """
    while (inner := getattr(lm, "lm", None)) is not None:
        lm = inner
    return isinstance(lm, _OnFirstUse)


def make_lm(declared: plan.LM, made: Callable[[LM], None] | None = None) -> LM:
    """Return the LM for a declaration of a spec, with a cache of replies around it where the spec has one; `routed`
    adds the LMs that answer in its place.

    The LM inside (a model in this process, a client of an API, another package's) is made at the first call, which
    raises what is wrong with it. `made` (None: nothing) is called with it then, once, perhaps in another thread.
    """
    lm = _OnFirstUse(declared, made)
    if declared.cache is None:
        return lm
    from lmprog.lms.cached import CachedLM

    return CachedLM(lm, declared)
