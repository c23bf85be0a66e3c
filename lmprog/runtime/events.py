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
    """A piece of an LM's reply as it is streamed, with the path of the step (after those of outer programs), the module's id
    and the number of the attempt, from 0.

    `text` None: the pieces of this reply so far are void, since it starts again.
    """

    path: str
    module: str
    attempt: int
    text: str | None


@dataclass(frozen=True, slots=True)
class CallEnded:
    """An LM or tool call that has ended, with the path of its step (after those of outer programs), the number of the attempt,
    from 0, and the seconds that it took.

    `error` says why it failed, None where it did not. An LM call has a `module`, a tool step's call a `tool`, and a tool call
    of an agent both.
    """

    path: str
    module: str | None
    tool: str | None
    attempt: int
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class RequestMade:
    """A request to an LM before it is sent, with the path of the step, the number of the attempt (from 0), and the
    module and the LM (`lm`) as the spec declares them."""

    path: str
    module: Module
    lm: LM
    attempt: int
    request: Request


Event = TextPiece | CallEnded
Listener = Callable[[Any], None]


async def followed(begin: Callable[[Listener], Coroutine[Any, Any, T]]) -> AsyncGenerator[Event | T, None]:
    """Start a run by `begin(listener)` in the running event loop; yield its events as they arrive, and last the result
    that `begin` returns.

    `begin` calls the listener with each event, from any thread. An exception that the run raises is raised after the
    events, in place of the result. Closing the generator cancels the run and waits for its end.
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
