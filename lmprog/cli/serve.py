"""`lmprog serve`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import SPEC, overriding

MISSING = "`lmprog serve` needs starlette and uvicorn, which are not installed; install them with `pip install 'lmprog[serve]'`"


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
@click.option("--allow-origin", "origins", multiple=True, metavar="URL", help="Web pages that may call from a browser.")
@click.option("--trace", type=click.Path(path_type=Path), help="Append every LM call to this file, as JSON lines.")
@click.option(
    "--fake", is_flag=True, help="Answer with values of the declared types; ask no model, call no tool that writes."
)
@click.option("--seed", default=0, show_default=True, help="Seed of every draw.")
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
    origins: tuple[str, ...],
    trace: Path | None,
    fake: bool,
    seed: int,
) -> None:
    """Answer over HTTP with the program in SPEC; /openapi.json describes its inputs and outputs.

    \b
    lmprog serve program.yaml
    curl localhost:8000/run -d '{"text": "Where is my parcel?"}'
    curl localhost:8000/run?stream=1 -d '{"text": "Where is my parcel?"}'    # as the LMs write
    """
    from lmprog.errors import UsageError
    from lmprog.program import RunOptions, load

    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise UsageError(MISSING) from None

    from lmprog.loops import run_async
    from lmprog.serving.application import application
    from lmprog.serving.gate import Gate
    from lmprog.serving.running import Running
    from lmprog.serving.server import listening, serve
    from lmprog.trace import TraceWriter

    key = None
    if api_key_env is not None:
        key = os.environ.get(api_key_env)
        if not key:
            raise UsageError(
                f"--api-key-env: the environment variable {api_key_env} is not set, so nobody could be let in"
            )
    program = load(spec, lms=lms, overrides=overrides)
    program = program.faked() if fake else program

    async def run(writer: TraceWriter | None) -> int:
        import asyncio

        running = Running(
            program,
            RunOptions(seed=seed),
            Gate(concurrency or program.concurrency, queue),
            asyncio.Event(),
            timeout,
            max_body,
            writer,
        )
        with listening(host, port) as at:
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"serving {program.plan.name} at http://{shown}:{at.getsockname()[1]}", err=True)
            return await serve(application(running, key=key, origins=origins), program, running.ready, at, grace)

    with TraceWriter(trace) if trace else contextlib.nullcontext() as writer:
        sys.exit(run_async(lambda: run(writer)))
