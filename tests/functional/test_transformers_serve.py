"""`transformers serve` as the server of an LM: the real one, which answers with the embedded model."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lmprog
from lmprog.lms.embedded import model_folder
from lmprog.runtime.events import TextPiece

pytestmark = pytest.mark.model
pytest.importorskip("torch", reason="needs the extra 'local'")

MISSING = [name for name in ("transformers", "fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
LISTENS = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
START = 240.0
"""Seconds in which the server must listen, on a machine that does much else."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a server that is pinned to the embedded model."""
    if MISSING:
        pytest.skip(f"needs {', '.join(MISSING)}: pip install 'transformers[serving]'")
    log, model = tmp_path / "server.log", str(model_folder())
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", model]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as said:
        server = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
    try:
        until = time.monotonic() + START
        while (found := LISTENS.search(log.read_text())) is None:
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield found[1]
    finally:
        server.kill()
        server.wait()


def test_a_program_runs_on_it(address: str, write: Callable[..., Path]) -> None:
    spec = write(f"""
        lmprog: 1
        name: desk
        inputs: {{text: str}}
        outputs: {{said: "${{{{ steps.say.said }}}}"}}
        lms:
          lm:
            model: openai/{model_folder()}
            api_base: {address}/v1
            api_key: none
            params: {{max_tokens: 8, temperature: 0}}
        modules:
          say: {{lm: lm, inputs: {{text: str}}, outputs: {{said: str}}}}
        steps:
          say: {{module: say, with: {{text: "${{{{ inputs.text }}}}"}}}}
    """)
    program = lmprog.load(spec)

    async def runs() -> tuple[list[str], list[lmprog.Result]]:
        try:
            events = [event async for event in program.events(text="Say hello.")]
            pieces = [event.text for event in events if isinstance(event, TextPiece)]
            return pieces, [events[-1], *[result async for result in program.stream([{"text": "Say hello."}] * 2)]]
        finally:
            await program.aclose()

    pieces, results = asyncio.run(runs())
    assert len({str(result.outputs) for result in results}) == 1 and results[0].error is None
    assert len(pieces) > 1 and "".join(pieces).strip() == results[0].outputs["said"]
    call = results[0].records[0]
    assert call.response_model == f"{model_folder()}@main" and call.usage.prompt_tokens > 10
    assert (call.finish_reason, call.usage.completion_tokens) == ("length", 8)
