"""Start and end of the server: its socket, the loading of its LMs in the background, and the graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import click
import uvicorn
from starlette.types import ASGIApp

from lmprog.errors import InfrastructureError
from lmprog.lms.lm import Request, innermost
from lmprog.runtime.program import Program
from lmprog.serving.connection import SECONDS, USUAL_CONNECTIONS, most_connections, within

STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}
"""Exit status by the signal that ended the server: a request to stop (SIGTERM) is no failure, Ctrl-C is an interruption."""


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the address; port 0 takes any free port.

    Raises InfrastructureError where the address cannot be listened on.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # the latter for a name with an empty or too long part
        said = getattr(error, "strerror", None) or error
        raise InfrastructureError(
            f"{host}:{port} cannot be listened on: {said}; say another --port or --host"
        ) from None


async def serve(
    app: ASGIApp,
    program: Program,
    ready: asyncio.Event,
    at: socket.socket,
    grace: float,
    client_seconds: float = SECONDS,
    *,
    announce: Callable[[], None] = lambda: None,
) -> int:
    """Answer requests with the ASGI application `app` at the listening socket `at` until a signal comes; return the exit
    status: 0 for SIGTERM, 130 for Ctrl-C. `announce` is called as soon as signals end the server as they should.

    Runs in progress then have `grace` seconds to end, and are cancelled after it; a second signal cancels them at once. The LMs
    of `program` are loaded meanwhile, and `ready` is set when they are. A client that sends or reads nothing for
    `client_seconds` in the middle of an exchange is cut off. Raises the errors of loading the LMs, since a server without them
    can never be ready.
    """
    most = most_connections()

    def started() -> None:
        announce()
        if most < USUAL_CONNECTIONS:
            click.echo(
                f"at most {most} connections at a time, by the limit of open files; raise it with ulimit -n", err=True
            )

    config = uvicorn.Config(
        app,
        http=within(client_seconds, most),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
    # uvicorn counts whole seconds only in its types; 0 is "at once".
    config.timeout_graceful_shutdown = grace  # type: ignore[assignment]
    server = Server(config, started)
    warming = asyncio.create_task(warm(program, ready))
    warming.add_done_callback(server.end_if_failed)
    asyncio.get_running_loop().set_exception_handler(OutOfFiles())
    try:
        await server.serve(sockets=[at])
    finally:
        # Those whose time is over, or that a second signal left behind, end before their trace is closed.
        left = [warming, *server.server_state.tasks]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    if not warming.cancelled():
        warming.result()
    return 0 if server.ended_by is None else STATUS[server.ended_by]


class OutOfFiles:
    """The handler of errors in the event loop: running out of open files is reported once; other errors are logged as
    usual.

    The loop accepts connections again a second later, so that clients have to wait and are not refused.
    """

    said = False

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
        elif not self.said:
            self.said = True
            click.echo("all files that this process may open were in use: some connections had to wait", err=True)


async def warm(program: Program, ready: asyncio.Event) -> None:
    """Load the models that run in this process (each samples one token), make the other LMs, for which their keys must be
    set, and then set `ready`. Raises what making or asking an LM raises."""
    for id, declared in program.plan.lms.items():
        # In a thread: reading weights, or importing a client, would hold up the probes.
        lm = await asyncio.to_thread(innermost, program.lms[id])
        if declared.runs_here:
            ask = Request(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 1}, seed=0)
            await lm.complete(ask)
    ready.set()


class Server(uvicorn.Server):
    """uvicorn's server, which ends gracefully on the first signal and at once on the second; `ended_by` is the first
    signal (None: none came yet)."""

    ended_by: signal.Signals | None = None

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        """Set up the server. `started` is called once signals are handled: who reads that it is there may end it at once."""
        super().__init__(config)
        self.started_to_handle_signals = started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Return a context inside which the signals that end the server (interrupt, terminate) are handled by
        `stop`."""
        loop = asyncio.get_running_loop()
        for number in STATUS:
            loop.add_signal_handler(number, self.stop, number)
        try:
            self.started_to_handle_signals()
            yield
        finally:
            for number in STATUS:
                loop.remove_signal_handler(number)

    def stop(self, number: signal.Signals) -> None:
        """Begin the graceful shutdown by the signal `number`, and print that it begins; where it has begun, end at once."""
        if self.should_exit:
            self.force_exit = True
            return
        self.ended_by = number
        self.should_exit = True
        click.echo("stopping: runs in flight may finish; another signal cuts them short", err=True)

    def end_if_failed(self, warming: asyncio.Task[None]) -> None:
        """End the server at once where loading the LMs (the ended task `warming`) has failed."""
        if not warming.cancelled() and warming.exception() is not None:
            self.should_exit = self.force_exit = True
