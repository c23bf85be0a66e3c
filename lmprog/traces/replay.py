"""Replay: a trace file answers in place of LMs and tools, exactly, and nothing is requested."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from lmprog.blame import is_outage
from lmprog.compiler.plan import LM as Declared
from lmprog.compiler.plan import Tool
from lmprog.errors import ProviderError, ReplayMiss, UsageError
from lmprog.failure import CANCELLED
from lmprog.lms.digest import request_sha256, weights_of
from lmprog.lms.lm import Completion, Request, ToolCall, Usage
from lmprog.state.digests import digest
from lmprog.tools.tool import ToolFailed, ToolUnreachable

SHOWN = 60
"""Characters shown of a text that has changed, from a little before the change."""


class Recording:
    """A trace file, read as a whole, as a source of answers in place of LMs and tools, found by the digest of a
    request.

    Where an equal call was recorded several times, its answers are given in the order of the recording, and then from
    the first again. Lines that cannot be read are ignored. Raises UsageError where there is no such file, or it is no
    trace of this version.
    """

    def __init__(self, path: Path) -> None:
        from lmprog.traces.files import read_trace
        from lmprog.traces.run_record import KIND as RUN_KIND

        self.path = path
        self._replies: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._places: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        self._results: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._given: dict[Any, count[int]] = defaultdict(count)
        if not path.is_file():
            raise UsageError(f"there is no recording {path}; make it first, with --record {path}")
        for record in read_trace(path):
            try:
                if record.get("kind") == "tool":
                    self._results[record["tool"], digest(record["arguments"])].append(record)
                elif record.get("kind") != RUN_KIND:
                    self._replies[record["request_sha256"]].append(record)
                    self._places[_place_of(record)].append(record)
            except (KeyError, TypeError):
                raise UsageError(f"{path} is no recording that this version can replay; make it anew") from None

    def lm(self, declared: Declared) -> ReplayLM:
        """Return an LM that answers from the recording in place of `declared`."""
        return ReplayLM(self, declared)

    def tool(self, tool: Tool) -> Callable[..., Any]:
        """Return an async function that takes the tool's arguments by name, and returns the recorded result in place of the
        tool's.

        The function raises ToolFailed (ToolUnreachable for an outage) where the recorded call failed, and ReplayMiss for
        arguments that the recording does not hold.
        """

        async def call(**arguments: Any) -> Any:
            record = self._next(self._results, (tool.id, digest(arguments)))
            if record is None:
                raise ReplayMiss(
                    f"{self.path} holds no call of the tool {tool.id!r} with {_short(arguments)}; record it anew"
                )
            await _cut_short(record, self.path)
            if record.get("error") is not None:
                unreachable = is_outage(record.get("failure"))
                raise (ToolUnreachable if unreachable else ToolFailed)(record["error"])
            return record["result"]

        return call

    def reply(self, weights: str, request: Request) -> dict[str, Any]:
        """Return the next record (a line of the trace, as a dictionary) of an LM request equal to `request`, to the same
        `weights` (the model's name, with the adapter's digest); the call that it records may have failed.

        Raises ReplayMiss, with what differs from the nearest record, where there is none.
        """
        wanted = request_sha256(weights, request.messages, request.params, request.seed, request.tools)
        record = self._next(self._replies, wanted)
        if record is not None:
            return record
        # The turns of an agent share their place: the number of the turn, which a key may end with, is not recorded.
        example, rollout, path, attempt = place = request.key[:4] or ("?", 0, "?", 0)
        near = max(self._places.get(place, ()), key=lambda record: _likeness(record, request), default=None)
        changed = "nothing was recorded there" if near is None else difference(near, weights, request)
        again = f", rollout {rollout}, attempt {attempt}" if rollout or attempt else ""
        raise ReplayMiss(
            f"{self.path} holds no reply for {path} (row {example}{again}): {changed}; record it anew with --record"
        )

    def _next(self, kept: Mapping[Any, list[dict[str, Any]]], key: Any) -> dict[str, Any] | None:
        found = kept.get(key)
        return found[next(self._given[key]) % len(found)] if found else None


class ReplayLM:
    """An LM that answers from a recording: with the same reply, or the same failure of the provider."""

    def __init__(self, recording: Recording, declared: Declared) -> None:
        self._recording, self._base = recording, declared.base

    async def complete(self, request: Request) -> Completion:
        """Return the recorded reply to an equal request, and give its whole text to `request.on_text`. Raises ReplayMiss
        where the recording does not hold it, and ProviderError where the recorded call failed at the provider."""
        record = self._recording.reply(weights_of(self._base, request.adapter), request)
        await _cut_short(record, self._recording.path)
        if "finish_reason" not in record and record.get("error") is not None:
            raise ProviderError(record["error"])
        text = record.get("text", "")
        if request.on_text is not None:
            request.on_text(text)
        usage = record.get("usage")
        return Completion(
            text=text,
            token_ids=record.get("token_ids"),
            logprobs=record.get("logprobs"),
            prompt_token_ids=record.get("prompt_token_ids"),
            usage=Usage(**usage) if usage is not None else None,
            finish_reason=record.get("finish_reason", "stop"),
            tool_calls=tuple(ToolCall(**call) for call in record.get("tool_calls", ())),
            message=record.get("message"),
            model=record.get("response_model"),
            id=record.get("response_id"),
            lm=record.get("lm"),
            passed_over=record.get("passed_over", {}),
        )


async def _cut_short(record: Mapping[str, Any], path: Path) -> None:
    """Do nothing for a recorded call that ended; for one that a timeout, or a failure of a parallel call, had cancelled, wait
    longer than it took, so that it is cancelled again.

    Raises ReplayMiss where that does not happen. `path` is the trace's.
    """
    if record.get("error") == CANCELLED:
        await asyncio.sleep(2 * record["seconds"] + 1)
        raise ReplayMiss(
            f"{path} holds no answer for {record['path']} (row {record['example']}), which was {CANCELLED}"
        )


def difference(near: Mapping[str, Any], weights: str, request: Request) -> str:
    """Return a few words on the first difference between a request to `weights` (the model's name, with the adapter's
    digest) and `near`, the record of the call at the same place: of the weights, else the parameters, the messages, the
    seed, and where all these are equal, of the tools."""
    if near["weights"] != weights:
        return f"the weights have changed, from {near['weights']} to {weights}"
    params: Mapping[str, Any] = near.get("params", {})
    for name in [*request.params, *params]:
        before, now = params.get(name), request.params.get(name)
        if before != now:
            return f"the parameter {name} has changed, from {before!r} to {now!r}"
    for index, (before, now) in enumerate(zip(near["messages"], request.messages, strict=False)):
        if digest(before) != digest(now):
            return f"message {index + 1} ({now.get('role')}) has changed, from {_changed(before, now)}"
    if len(near["messages"]) != len(request.messages):
        return f"the prompt has changed, from {len(near['messages'])} messages to {len(request.messages)}"
    if near.get("seed") != request.seed:
        return "the seed has changed"
    return "the tools that it is offered have changed"


def _likeness(record: Mapping[str, Any], request: Request) -> tuple[int, int]:
    """Return how alike a recorded call and a request are, the larger the more: the number of equal messages from the first
    on, then the negative difference of their numbers of messages."""
    pairs = zip(record["messages"], request.messages, strict=False)
    same = len(list(takewhile(lambda pair: digest(pair[0]) == digest(pair[1]), pairs)))
    return same, -abs(len(record["messages"]) - len(request.messages))


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the contents of two messages as `'...' to '...'`, from a little before their first difference."""
    old, new = str(before.get("content")), str(now.get("content"))
    same = next((index for index, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - SHOWN // 3)
    return f"{_short(old[start:])} to {_short(new[start:])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _place_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the place of a recorded call, as the first four parts of its request's `key`: row, rollout, path and attempt.
    Raises KeyError for a record without them."""
    path = f"{record['parent']}/{record['path']}" if record.get("parent") else record["path"]
    return str(record["example"]), record["rollout"], path, record["attempt"]
