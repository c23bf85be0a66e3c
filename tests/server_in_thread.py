"""The start and end of a test's server of aiohttp, which runs on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod

from aiohttp import web


class ServerInThread(ABC):
    """A server at `address` on this machine, whose protocol begins at `url`; it answers from `begin` until `close`."""

    path = "/v1"
    """The path at which the protocol begins."""

    cancels = True
    """True if a handler ends when its client has gone."""

    @abstractmethod
    def app(self) -> web.Application:
        """Return the application with the routes that the server answers."""

    def begin(self) -> None:
        """Start the server, and return when it listens."""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        self._started.wait()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._started.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._runner = web.AppRunner(self.app(), handler_cancellation=self.cancels, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"{self.address}{self.path}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
