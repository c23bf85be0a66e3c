"""An LM whose answers are kept: a request that was answered before, with the same weights and seed, is not sent again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lmprog.cache import AnswerCache, answer_cache
from lmprog.cache_folder import cache_root
from lmprog.compiler import plan
from lmprog.compiler.expressions import EvaluationError
from lmprog.errors import ProviderError, UsageError
from lmprog.lms.digest import digest, weights_of
from lmprog.lms.lm import LM, Completion, Request, ToolCall, Usage

SHARED = "LMPROG_SHARED_CACHE"
"""The folder of a shared cache for which the spec names none."""


class CachedLM:
    """Asks `lm` what it does not hold. Failures are not kept, and equal requests at the same time are asked once.

    A reply that is sampled is kept for its seed, which a run derives from the place of the call, so that other rows, rollouts
    and repeats are other requests.
    """

    def __init__(self, lm: LM, declared: plan.LM) -> None:
        self.lm = lm
        self._declared = declared
        self._kept: AnswerCache | None = None
        self._served: str | None = None
        self._asking: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Completion]] = {}

    async def complete(self, request: Request) -> Completion:
        """Raises UsageError where a shared cache has no folder, and what `lm` raises."""
        if self._changing(request):
            return await self.lm.complete(request)
        if self._kept is None:
            self._kept, self._served = (
                answer_cache(folder_of(self._declared), self._declared.shared_cache),
                self._where(),
            )
        key = self._key(request)
        found = self._kept.get(key)
        if found is not None:
            return _given(request, _completion(found))
        asked = (asyncio.get_running_loop(), key)
        while (running := self._asking.get(asked)) is not None:
            await asyncio.wait([running])
            if not running.cancelled():
                return _given(request, _again(running.result()))
        return await self._ask(request, key, asked)

    async def _ask(self, request: Request, key: str, asked: tuple[asyncio.AbstractEventLoop, str]) -> Completion:
        answer = self._asking[asked] = asked[0].create_future()
        try:
            completion = await self.lm.complete(request)
            assert self._kept is not None
            self._kept.put(key, asdict(replace(completion, cached=True)))
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

    def _changing(self, request: Request) -> bool:
        """Whether the weights may be others tomorrow under the same name: in training, or an adapter without a digest."""
        unnamed = request.adapter is not None and request.adapter.sha256 is None
        return unnamed or bool(getattr(self.lm, "in_training", False))

    def _key(self, request: Request) -> str:
        return digest(
            [
                weights_of(self._declared.model, request.adapter),
                self._served,
                list(request.messages),
                request.params,
                request.seed,
                request.format,
                request.decoding,
                str(request.output_type),
                [asdict(tool) for tool in request.tools],
            ]
        )

    def _where(self) -> str:
        """Where the model is served, or what tells the files of a local folder from what they were before."""
        if self._declared.api_base is not None:
            try:
                return str(self._declared.api_base.evaluate({"env": os.environ}))
            except EvaluationError:
                return self._declared.api_base.text
        folder = Path(self._declared.model.removeprefix("hf/"))
        if not self._declared.runs_here or not folder.is_dir():
            return ""
        found = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
        return digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in found])


def folder_of(declared: plan.LM) -> Path:
    """Where the answers of an LM are kept. Raises UsageError for a shared cache without a folder."""
    if declared.cache_folder is not None:
        return declared.cache_folder
    if declared.shared_cache:
        if SHARED not in os.environ:
            fix = f"write cache: {{shared: true, folder: ...}}, or set {SHARED} in the environment"
            raise UsageError(f"the shared cache of the LM {declared.id!r} has no folder; {fix}")
        return Path(os.environ[SHARED])
    return cache_root() / "answers"


def _completion(found: Mapping[str, Any]) -> Completion:
    usage = found["usage"]
    calls = tuple(ToolCall(**call) for call in found["tool_calls"])
    return _again(Completion(**{**found, "usage": Usage(**usage) if usage is not None else None, "tool_calls": calls}))


def _again(completion: Completion) -> Completion:
    """The completion as one that was not paid for again."""
    usage = completion.usage or Usage()
    return replace(completion, usage=replace(usage, usd=0.0), cached=True)


def _given(request: Request, completion: Completion) -> Completion:
    if request.on_text is not None:
        request.on_text(completion.text)
    return completion
