"""Events of a run in progress: pieces of replies, and calls that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from lmprog.compiler.plan import LM, Module
from lmprog.lms.lm import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of a reply, in the order that it comes, where the LM can stream.

    `text` None: what was told of this reply is void, it starts again.
    """

    path: str
    module: str
    attempt: int
    text: str | None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call of an LM or of a tool that has ended; `error` says why it failed. An agent's tools have its `module` too."""

    path: str
    module: str | None
    tool: str | None
    attempt: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class RequestMade:
    """A request to an LM before it is sent, with the module and the LM as the spec declares them."""

    path: str
    module: Module
    lm: LM
    attempt: int
    request: Request


Event = TextPiece | CallEnded
Listener = Callable[[Any], None]


async def followed(begin: Callable[[Listener], Coroutine[Any, Any, T]]) -> AsyncGenerator[Event | T, None]:
    """Yield the events of the run that `begin` starts as they arrive, and at the end its result (or raise its error).

    Closing the generator cancels the run.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(event: Event | None) -> None:
        # An LM in this process tells from a thread of its own.
        loop.call_soon_threadsafe(queue.put_nowait, event)

    task = asyncio.create_task(begin(tell))
    task.add_done_callback(lambda _: tell(None))
    try:
        while (event := await queue.get()) is not None:
            yield event
        yield task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
