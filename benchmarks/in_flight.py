"""A thousand calls in flight against a server that answers after 200 ms: lmprog by both routes, DSPy, and bare aiohttp.

The server runs in a process of its own, and so does each client. Trials alternate between the clients, so that what else
the machine does falls on all of them; the ratios are those of each trial. DSPy is the extra `bench`, best installed beside
lmprog in an environment of its own. It has two engines: `auto`, its default, asks such a server with a client of its own, and
`litellm` through litellm. Our direct route is held against the best of both, ours through litellm against that through litellm.

    python benchmarks/in_flight.py                     # 3 trials of 3,000 rows
    python benchmarks/in_flight.py --trials 7 --rows 6000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IN_FLIGHT = 1000
SECONDS = 0.2
DSPY_THREADS = (64, 256, 1000)
DSPY_ENGINES = ("auto", "litellm")
SPEC = """
lmprog: 1
inputs: {text: str}
lms:
  remote: {model: MODEL, api_base: "ADDRESS", api_key: none-needed}
modules:
  ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""
LMPROG = {
    "lmprog hosted_vllm/ (direct)": "hosted_vllm/x",
    "lmprog openai/ (direct)": "openai/x",
    "lmprog through litellm": "litellm_proxy/x",
}
RUN_TIMEOUT = 90
"""Seconds after which a client is stopped and its rate is 0: a thousand threads of litellm may hang for many minutes."""
TOKENS = 12
"""Of each reply."""


def serve(port: int) -> None:
    """Answer each request after SECONDS, as OpenAI and vLLM do."""
    from aiohttp import web

    message = {"role": "assistant", "content": "[[ ## reply ## ]]\nfine\n\n[[ ## completed ## ]]"}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": TOKENS, "total_tokens": 20 + TOKENS}
    plain = {"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}] * TOKENS}
    more = {**choice, "token_ids": list(range(TOKENS)), "logprobs": logprobs}
    bodies = {
        False: json.dumps(plain),
        True: json.dumps({**plain, "choices": [more], "prompt_token_ids": list(range(20))}),
    }

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        await asyncio.sleep(SECONDS)
        return web.Response(text=bodies[b"return_token_ids" in body], content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=port, backlog=4096, access_log=None, print=lambda *_: None)


def lmprog_rate(model: str, address: str, rows: int) -> float:
    import lmprog

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.yaml"
        path.write_text(SPEC.replace("MODEL", model).replace("ADDRESS", address))
        program = lmprog.load(path)
    program.map([{"text": f"warm {index}"} for index in range(50)], concurrency=50)
    inputs = [{"text": f"row {index}"} for index in range(rows)]
    started = time.perf_counter()
    results = program.map(inputs, concurrency=IN_FLIGHT)
    rate = rows / (time.perf_counter() - started)
    assert all(result.error is None for result in results), next(result.error for result in results if result.error)
    return rate


def dspy_rate(engine: str, threads: int, address: str, rows: int) -> float:
    import dspy

    lm = dspy.LM("openai/x", api_base=address, api_key="none-needed", cache=False, engine=engine)
    dspy.configure(lm=lm, async_max_workers=threads)
    predict = dspy.Predict("text -> reply")

    def run(first: str, count: int) -> float:
        examples = [dspy.Example(text=f"{first} {index}").with_inputs("text") for index in range(count)]
        parallel = dspy.Parallel(num_threads=threads, disable_progress_bar=True, provide_traceback=False)
        started = time.perf_counter()
        found = parallel([(predict, example) for example in examples])
        spent = time.perf_counter() - started
        assert len(found) == count and all(made.reply == "fine" for made in found)
        return spent

    run("warm", 50)
    return rows / run("row", rows)


def aiohttp_rate(address: str, rows: int) -> float:
    import aiohttp

    async def run() -> float:
        gate = asyncio.Semaphore(IN_FLIGHT)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(text: str) -> None:
                body = {"model": "x", "messages": [{"role": "user", "content": text}]}
                async with gate, session.post(f"{address}/chat/completions", json=body) as response:
                    assert (await response.json())["choices"]

            await asyncio.gather(*(one(f"warm {index}") for index in range(50)))
            started = time.perf_counter()
            await asyncio.gather(*(one(f"row {index}") for index in range(rows)))
            return rows / (time.perf_counter() - started)

    return asyncio.run(run())


def measure(client: str, address: str, rows: int) -> float:
    """Rows a second of one client."""
    if client in LMPROG:
        return lmprog_rate(LMPROG[client], address, rows)
    if client.startswith("dspy"):
        _, engine, threads, _ = client.split()
        return dspy_rate(engine, int(threads), address, rows)
    return aiohttp_rate(address, rows)


def in_own_process(client: str, address: str, rows: int) -> float:
    command = [sys.executable, __file__, "--client", client, "--address", address, "--rows", str(rows)]
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=RUN_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return 0.0
    if done.returncode != 0:
        raise SystemExit(f"{client}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    if options.client:
        return print(measure(options.client, options.address, options.rows))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    peers = [f"dspy {engine} {threads} threads" for engine in DSPY_ENGINES for threads in DSPY_THREADS]
    clients = [*LMPROG, *peers, "aiohttp (the limit)"]
    rates: dict[str, list[float]] = {client: [] for client in clients}
    try:
        _wait_for(port)
        for trial in range(options.trials):
            for client in clients:
                # The slow ones get fewer rows, yet more than are in flight at once.
                rows = (
                    options.rows if "direct" in client or "aiohttp" in client else max(2 * IN_FLIGHT, options.rows // 3)
                )
                rates[client].append(in_own_process(client, f"http://127.0.0.1:{port}/v1", rows))
            shown = ", ".join(f"{client} {found[-1]:.0f}" for client, found in rates.items())
            print(f"trial {trial + 1}, rows a second: {shown}", flush=True)
    finally:
        server.terminate()
    best = [max(found) for found in zip(*(rates[peer] for peer in peers), strict=True)]
    litellm = [max(found) for found in zip(*(rates[peer] for peer in peers if "litellm" in peer), strict=True)]
    print(f"{'':32} {'rows a second':>21} {'to the best of DSPy':>22} {'to its best by litellm':>24}")
    for client, found in rates.items():
        ratios = [
            _spread([rate / other for rate, other in zip(found, peer, strict=True)], 2) for peer in (best, litellm)
        ]
        print(f"{client:32} {_spread(found, 0):>21} {ratios[0]:>22} {ratios[1]:>24}")


def _spread(values: list[float], digits: int) -> str:
    """min / median / max"""
    return " / ".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    main()
