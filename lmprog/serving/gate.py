"""Admission of runs: a run starts now, waits, or is refused."""

from __future__ import annotations

import asyncio

from lmprog.serving.refusals import Refused


class Gate:
    """A limit of runs: an async context manager that each run enters, with at most `running` inside and `waiting` more
    that wait to enter, first come, first served.

    For further runs entering raises Refused (busy) at once.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._inside = asyncio.Semaphore(running)
        self._room = waiting
        self._waiting = 0

    async def __aenter__(self) -> None:
        if not self._inside.locked():
            await self._inside.acquire()
            return
        if self._waiting >= self._room:
            raise Refused("busy")
        self._waiting += 1
        try:
            await self._inside.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *exception: object) -> None:
        self._inside.release()
