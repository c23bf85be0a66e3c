"""A cache of LM replies by all that a reply depends on, so that an equal request is not sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lmprog.boundary.plain_values import Unfit, read_as
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.replies.ending import ending
from lmprog.errors import ProviderError
from lmprog.lms.digest import weights_of
from lmprog.lms.lm import LM, Completion, Request
from lmprog.state.digests import digest

if TYPE_CHECKING:
    from lmprog.lms.answer_file import AnswerCache


class ResponseCache:
    """A cache around any LM: only requests without a stored reply are sent. Failures are not stored; of equal requests in
    flight in one event loop one is sent.

    A sampled reply is stored for its seed, which a run derives from the place of the call, so that other rows, rollouts and
    repeats are other requests.
    """

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._asking: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Completion]] = {}

    async def complete(self, lm: LM, request: Request, model: str, served: str = "") -> tuple[Completion, bool]:
        """Return the reply to a request to the model `model`, and True where the reply was stored or shared with an
        equal request in flight; the request's `on_text` then gets it in one piece. A stored reply is as it was: its
        cost too.

        `served` is the address of a model's own server, which tells apart models of equal names. Raises any error that
        `lm` raises; where a shared request ends in a ProviderError, all who wait for it get that error.
        """
        key = key_of(request, model, served)
        found = self._cache.get(key)
        if found is not None and (kept := as_kept(found)) is not None:
            return _given(request, kept), True
        asked = (asyncio.get_running_loop(), key)
        while (running := self._asking.get(asked)) is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                return _given(request, running.result()), True
        return await self._ask(lm, request, key, asked), False

    async def _ask(
        self, lm: LM, request: Request, key: str, asked: tuple[asyncio.AbstractEventLoop, str]
    ) -> Completion:
        answer = self._asking[asked] = asked[0].create_future()
        try:
            completion = await lm.complete(request)
            if ending(completion.finish_reason) != "failed":
                # What was there could not be read: by another version, or by nobody.
                self._cache.put(key, asdict(completion), instead=True)
            answer.set_result(completion)
            return completion
        except ProviderError as error:
            answer.set_exception(error)
            answer.exception()  # nobody may have waited for it
            raise
        finally:
            # Where this call was cancelled one of those who wait asks in its place.
            answer.cancel()
            del self._asking[asked]


class RunResponseCache:
    """The LM replies of one optimization, kept in its run folder, so that a resumed run sends no request again.

    A kept reply counts in the budget as when it was first sent. Replies of a local model are not kept: they depend on which
    requests share a batch, and a resumed run forms the same batches.
    """

    def __init__(self, cache: AnswerCache) -> None:
        self.folder = cache.path.parent
        self._kept = ResponseCache(cache)

    async def complete(self, lm: LM, request: Request, declared: Declared | None) -> Completion:
        """Return the stored reply, or send the request to `lm` and store the reply. Raises any error that `lm` raises.

        `declared` is the LM of the spec; where it is None, or runs in this process, or the request's adapter has no
        digest, nothing is stored.
        """
        if declared is None or declared.runs_here or has_no_digest(request):
            return await lm.complete(request)
        completion, _ = await self._kept.complete(lm, request, declared.base)
        return completion


def has_no_digest(request: Request) -> bool:
    """Return whether the request names an adapter without a digest: one in training, whose weights change under one name."""
    return request.adapter is not None and request.adapter.sha256 is None


def key_of(request: Request, model: str, served: str) -> str:
    """Return the key under which a reply is stored: a digest of all that it depends on (request, model, and where that
    is served). Images count by the digests in the messages; no file is read.
    """
    return digest(
        [
            weights_of(model, request.adapter),
            served,
            list(request.messages),
            request.params,
            request.seed,
            request.format,
            request.decoding,
            str(request.output_type),
            [asdict(tool) for tool in request.tools],
        ]
    )


def as_kept(found: Mapping[str, Any]) -> Completion | None:
    """Return the reply in a stored entry, as it was given to be stored; None where the entry has other fields than a
    reply, or fields of other types.
    """
    try:
        completion: Completion = read_as(Completion, found, exact=True)
    except Unfit:
        return None
    return completion


def _given(request: Request, completion: Completion) -> Completion:
    if request.on_text is not None:
        request.on_text(completion.text)
    return completion
