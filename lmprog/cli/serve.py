"""`lmprog serve`."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import SPEC, TAGS, overriding

NO_MCP = "`lmprog serve --mcp` needs the MCP SDK, which is not installed; install it with `pip install 'lmprog[mcp]'`"
MISSING = (
    "`lmprog serve` needs starlette, uvicorn and prometheus-client, which are not all installed; install them with "
    "`pip install 'lmprog[serve]'`"
)


@click.command()
@SPEC
@overriding
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 is every one.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--concurrency", type=click.IntRange(1), help="Runs at work at a time.")
@click.option(
    "--queue", default=100, show_default=True, type=click.IntRange(0), help="Requests that may wait; others get a 429."
)
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a request may take; the run is then cancelled and answered with a 504.",
)
@click.option(
    "--max-body", default=1_000_000, show_default=True, type=click.IntRange(1), help="Bytes that a request may have."
)
@click.option(
    "--grace",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Seconds that runs in flight have to finish when the server is stopped.",
)
@click.option("--api-key-env", metavar="NAME", help="Requests must bear the key that this environment variable holds.")
@click.option("--insecure", is_flag=True, help="Listen on a public address without a key: whoever reaches it may run.")
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Names by which requests may call the server."
)
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="Web pages that may call from a browser.")
@click.option(
    "--client-timeout",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Seconds that a client has to send its headers, its body, and to take what is written to it.",
)
@click.option(
    "--request-log", type=click.Path(path_type=Path), help="Append a JSON line for each request, without its content."
)
@click.option("--trace", type=click.Path(path_type=Path), help="Append every LM call to this file, as JSON lines.")
@click.option(
    "--fake", is_flag=True, help="Answer with values of the declared types; ask no model, call no tool that writes."
)
@click.option("--mcp", is_flag=True, help="Be a tool of the MCP client that starts this process, over stdio; no HTTP.")
@TAGS
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
@with_environment
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    host: str,
    port: int,
    concurrency: int | None,
    queue: int,
    timeout: float,
    max_body: int,
    grace: float,
    api_key_env: str | None,
    insecure: bool,
    hosts: tuple[str, ...],
    origins: tuple[str, ...],
    client_timeout: float,
    request_log: Path | None,
    trace: Path | None,
    fake: bool,
    mcp: bool,
    tags: dict[str, str],
    seed: int,
) -> None:
    """Answer over HTTP with the program in SPEC; /docs is a page about it, /openapi.json describes its inputs and outputs.

    Clients of OpenAI's chat completions can call it too, at /v1, and with the extra lmprog[mcp] those of MCP, at
    /mcp. With --mcp it is a tool over stdio, without HTTP.

    \b
    lmprog serve program.yaml
    curl localhost:8000/run --json '{"text": "Where is my parcel?"}'
    curl localhost:8000/run?stream=1 --json '{"text": "Where is my parcel?"}'    # as the LMs write
    """
    from lmprog.errors import UsageError
    from lmprog.runtime.options import RunOptions
    from lmprog.runtime.program import load

    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError(MISSING) from None
    with_mcp = find_spec("mcp") is not None
    if mcp and not with_mcp:
        raise UsageError(NO_MCP)

    from lmprog.aio.loops import run_async
    from lmprog.serving.application import application
    from lmprog.serving.gate import Gate
    from lmprog.serving.mcp_face import over_http, over_stdio
    from lmprog.serving.origins import hosts_of, is_loopback
    from lmprog.serving.request_log import RequestLog
    from lmprog.serving.running import Running
    from lmprog.serving.server import listening, serve, warm
    from lmprog.traces.files import TraceWriter

    key = None
    if api_key_env is not None:
        key = os.environ.get(api_key_env)
        if not key:
            raise UsageError(
                f"--api-key-env: the environment variable {api_key_env} is not set, so nobody could be let in"
            )
    if key is None and not insecure and not mcp and not is_loopback(host):
        raise UsageError(
            f"{host} is reached from other machines, and whoever reaches it could run the program at your cost: ask for a key "
            "with --api-key-env NAME, listen on 127.0.0.1, or say --insecure"
        )
    program = load(spec, lms=lms, overrides=overrides)
    program = program.faked() if fake else program

    async def run(writer: TraceWriter | None, log: RequestLog | None) -> int:
        import asyncio

        running = Running(
            program,
            RunOptions(seed=seed, tags=tags),
            Gate(concurrency or program.concurrency, queue),
            asyncio.Event(),
            timeout,
            max_body,
            writer,
            client_timeout,
        )
        if mcp:
            await warm(program, running.ready)
            await over_stdio(running)
            return 0
        with listening(host, port) as at:
            async with over_http(running) if with_mcp else contextlib.nullcontext() as face:
                app = application(running, key=key, hosts=hosts_of(host, hosts), origins=origins, log=log, mcp=face)
                shown = f"[{host}]" if ":" in host else host
                said = f"serving {program.plan.name} at http://{shown}:{at.getsockname()[1]}"
                announce = functools.partial(click.echo, said, err=True)
                return await serve(app, program, running.ready, at, grace, client_timeout, announce=announce)

    with contextlib.ExitStack() as files:
        writer = files.enter_context(TraceWriter(trace)) if trace is not None else None
        log = files.enter_context(RequestLog(request_log)) if request_log is not None else None
        sys.exit(run_async(lambda: run(writer, log)))
