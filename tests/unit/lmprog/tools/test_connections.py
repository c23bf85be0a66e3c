"""Connections that a program keeps open: what becomes of them when the program is gone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from lmprog.tools.connections import Connections
from tests.waiting import until_true


def server() -> tuple[Callable[[], AbstractAsyncContextManager[str]], list[str]]:
    """Return a server to open, and the list that it writes its name to when it is closed."""
    closed: list[str] = []

    @asynccontextmanager
    async def opening() -> AsyncIterator[str]:
        yield "server"
        closed.append("server")

    return opening, closed


@pytest.mark.parametrize("circular", [False, True])
def test_they_are_closed_when_their_program_is_gone(circular: bool) -> None:
    """In a circle of references the collector finds them, which clears all weak references first."""
    opening, closed = server()

    async def run() -> None:
        connections = Connections()
        if circular:
            connections.itself = connections  # type: ignore[attr-defined]
        assert await connections.get("key", opening) == await connections.get("key", opening) == "server"
        assert closed == []
        del connections
        gc.collect()
        await until_true(lambda: closed == ["server"], "the end of the connection")

    asyncio.run(run())


def test_they_are_closed_once_and_open_again_at_the_next_use() -> None:
    opening, closed = server()

    async def run() -> None:
        connections = Connections()
        await connections.get("key", opening)
        await connections.aclose()
        await connections.aclose()
        assert closed == ["server"]
        assert await connections.get("key", opening) == "server"

    asyncio.run(run())
