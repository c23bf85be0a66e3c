"""LMs whose calls wait for a batch of the provider, at half of the price: for scorings that can wait."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lmprog.aio.per_loop import PerLoop
from lmprog.compiler import model_table, plan
from lmprog.compiler.batches import no_batches
from lmprog.compiler.same_lm import same_lm
from lmprog.errors import ProviderError, UsageError
from lmprog.lms.api.access import Access
from lmprog.lms.api.batch_files import BatchFile
from lmprog.lms.api.batches import Batches
from lmprog.lms.api.body import parameters
from lmprog.lms.api.failures import TryFailed
from lmprog.lms.api.reply import cost, read
from lmprog.lms.api.server import Server
from lmprog.lms.cached import CachedLM
from lmprog.lms.images import with_images
from lmprog.lms.lm import LM, Completion, Request
from lmprog.state.ownership import exclusive_writer


class BatchLM:
    """An LM that puts its requests into the provider's batches, and waits for their replies; made by BatchRun for LMs that
    a spec declares.
    """

    def __init__(self, declared: plan.LM, open_file: Callable[[str], BatchFile], tell: Callable[[str], None]) -> None:
        """Set up the LM; raise UsageError where the provider has no batches that lmprog can use, or the LM has no key
        or a setting without a value.

        `open_file` returns the file of submitted batches for a name that is made of the LM's address and model; `tell`
        is called with a sentence at each change of a batch.
        """
        require_batches(declared)
        self._model = declared.model.partition("/")[2]
        access = Access.of(declared)
        self._prices = model_table.own_limits(declared)
        name = hashlib.sha256(f"{access.base} {declared.model}".encode()).hexdigest()[:24]
        file = open_file(name)
        self._batches = PerLoop(lambda: Batches(declared.model, Server(access), file, tell, access.hide))

    async def complete(self, request: Request) -> Completion:
        """Return the reply to a request when its batch has ended; nothing is streamed. Raises ProviderError where it
        has none, UsageError for a request with an adapter, and as NoImage for an image that cannot be read.
        """
        if request.adapter is not None:
            raise UsageError(f"{self._model} takes no adapter ({request.adapter.path}); leave `adapter` out")
        made = parameters(request, structured=request.format == "json", seeded=True)
        for unknown in ("stream", "stream_options", "timeout"):
            made.pop(unknown, None)
        extra = made.pop("extra_body", {})
        body = {"model": self._model, "messages": list(with_images(request.messages)), **made, **extra}
        reply = await self._batches.get().reply(body)
        try:
            return read(reply, cost(reply, self._prices))
        except TryFailed as failed:
            said = failed.words
        raise ProviderError(f"{self._model} gave no answer in a batch: {said}")

    def forget(self, *, whole: bool) -> None:
        """Forget the batches if the run has all replies (`whole`); else only their requests that failed, which the next
        run sends again.
        """
        for batches in self._batches.all():
            batches.forget(whole=whole)


def require_batches(declared: plan.LM) -> None:
    """Raise UsageError where the provider of an LM has no batches that lmprog knows how to ask for. `declared` is the
    LM as the spec declares it."""
    if (why := no_batches(declared)) is not None:
        raise UsageError(f"the LM {declared.id!r} ({declared.model}) {why}; score it without batches")


class BatchRun:
    """The batches of one command: the LMs that wait for them, and the files in `folder` that record what was submitted."""

    def __init__(self, folder: Path, tell: Callable[[str], None], held: ExitStack) -> None:
        """Set up the run; `tell` is called with a sentence at each change of a batch. `folder` is made where it is
        missing; the files in it are locked as they are opened, until `held` is closed.
        """
        self._folder, self._tell, self._held = folder, tell, held
        self._files: dict[str, BatchFile] = {}
        self._made: list[BatchLM] = []
        self._known: list[tuple[plan.LM, LM]] = []

    def make(self, declared: plan.LM) -> LM:
        """Return an LM that puts its requests into batches, from its declaration: one for all programs that declare it
        equally, so that their requests are in the same batches. Where the declaration has a cache of replies, it is
        around the LM.

        Raises UsageError where the provider has no batches that lmprog can use, or the LM has no key or a setting
        without a value; WriterLocked where another process uses the LM's file of batches, and InfrastructureError where
        that file is broken.
        """
        for known, made in self._known:
            if known.id == declared.id and same_lm(known, declared):
                return made
        lm = BatchLM(declared, self._opened, self._tell)
        self._made.append(lm)
        self._known.append((declared, CachedLM(lm, declared) if declared.cache is not None else lm))
        return self._known[-1][1]

    def forget(self, *, whole: bool) -> None:
        """Forget the batches if the command has all replies (`whole`); else only their requests that failed, which the
        next one sends again.
        """
        for lm in self._made:
            lm.forget(whole=whole)

    def _opened(self, name: str) -> BatchFile:
        if name not in self._files:
            path = self._folder / f"{name}.json"
            self._held.enter_context(exclusive_writer(path))
            self._files[name] = BatchFile(path)
        return self._files[name]
