"""Workers of Ray on this machine: rows a second, memory of the driver, budgets and rates across workers, and workers that die.

The server is a process of its own, answers after some time, and refuses (HTTP 429) what exceeds the calls in flight that it
allows. The clients are this process: rows a second here, with one worker and with several, in alternation.

    python benchmarks/scale.py                          # all but `kills`, as the issue has it: 200 ms, 400 in flight
    python benchmarks/scale.py --case rows --seconds 2  # where 2,000 rows a second are more than the processors do
    python benchmarks/scale.py --case memory --rows 100000
    python benchmarks/scale.py --case kills             # 20 workers are killed in an optimization
    python benchmarks/scale.py --small                  # a form of seconds, for CI
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CASES = ("rows", "memory", "budget", "rate", "kills")
SPEC = """
lmprog: 1
name: scale
inputs: {text: str}
lms:
  remote: {model: openai/x, api_base: "ADDRESS", api_key: none, params: {max_tokens: 8}, limits: {LIMITS, tries: 1}}
modules:
  ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""
WINDOW = 10.0
"""Seconds within which requests are counted against a rate."""


def serve(port: int, seconds: float, allowed: int) -> None:
    """Answer each request after `seconds`; keep when each came, and how many were in flight together."""
    from aiohttp import web

    message = {"role": "assistant", "content": "fine"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    body = json.dumps(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}
    )
    came: list[float] = []
    flying = most = refused = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal flying, most, refused
        came.append(time.monotonic())
        await request.read()
        if flying >= allowed:
            refused += 1
            return web.Response(status=429, text='{"error": {"message": "too many"}}')
        flying += 1
        most = max(most, flying)
        try:
            await asyncio.sleep(seconds)
        finally:
            flying -= 1
        return web.Response(text=body, content_type="application/json")

    async def figures(request: web.Request) -> web.Response:
        nonlocal most, refused
        crowd = max((bisect.bisect_left(came, at + WINDOW) - place for place, at in enumerate(came)), default=0)
        found = {"requests": len(came), "most_in_flight": most, "refused": refused, "most_in_10_s": crowd}
        came.clear()
        most = refused = 0
        return web.json_response(found)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/figures", figures)
    web.run_app(app, host="127.0.0.1", port=port, backlog=4096, access_log=None, print=lambda *_: None)


class Server:
    """The address of a server in a process of its own."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def figures(self) -> dict[str, Any]:
        """Return what it has counted since it was asked last."""
        with urllib.request.urlopen(f"{self.base}/figures", timeout=60) as reply:
            found: dict[str, Any] = json.load(reply)
            return found


@contextmanager
def server(seconds: float, allowed: int) -> Iterator[Server]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", f"{port},{seconds},{allowed}"])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        yield Server(port)
    finally:
        process.terminate()
        process.wait()


def load(folder: Path, at: Server, limits: str) -> Any:
    import lmprog

    path = folder / "program.yaml"
    path.write_text(SPEC.replace("ADDRESS", f"{at.base}/v1").replace("LIMITS", limits))
    return lmprog.load(path)


def rate_of(program: Any, rows: int, together: int) -> float:
    """Return rows a second, after as many rows as are in flight together.

    Twice as many are at work, so that another is ready when one has been answered; the limit of the LM holds the calls back.
    """
    together *= 2
    program.map([{"text": f"warm {number}"} for number in range(together)], concurrency=together)
    given = [{"text": f"row {number}"} for number in range(rows)]
    began = time.perf_counter()
    results = program.map(given, concurrency=together)
    found = rows / (time.perf_counter() - began)
    failed = next((result.error for result in results if result.error), None)
    assert failed is None, failed
    return found


def case_rows(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    from lmprog.runners import opened

    allowed, workers = options.in_flight, options.workers
    share = allowed // workers
    found: dict[str, list[float]] = {"here": [], "one": [], "all": []}
    with server(options.seconds, allowed) as at:
        whole, part = f"concurrency: {allowed}", f"concurrency: {share}"
        for _ in range(options.trials):
            found["here"].append(rate_of(load(folder, at, whole), options.rows, allowed))
            with opened("ray", 1, folder) as one:
                found["one"].append(rate_of(load(folder, at, part).with_runner(one), options.rows // workers, share))
            with opened("ray", workers, folder) as several:
                found["all"].append(rate_of(load(folder, at, whole).with_runner(several), options.rows, allowed))
        counted = at.figures()
    here, one, every = (statistics.median(found[name]) for name in ("here", "one", "all"))
    limit = allowed / options.seconds
    return [
        (f"limit of the server ({allowed} in flight, {options.seconds:g} s), rows a second", f"{limit:,.0f}"),
        (f"here, {allowed} in flight", f"{here:,.0f}"),
        (f"1 worker, {share} in flight", f"{one:,.0f}"),
        (f"{workers} workers, {allowed} in flight", f"{every:,.0f}"),
        (f"{workers} workers / 1 worker (4 wanted)", f"{every / one:.2f}"),
        (f"{workers} workers / here (0.9 wanted)", f"{every / here:.2f}"),
        ("most in flight together; refused", f"{counted['most_in_flight']}; {counted['refused']}"),
    ]


def case_memory(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    import psutil

    from lmprog.runners import opened

    process, sizes = psutil.Process(), []
    rows = options.rows

    async def run(program: Any) -> None:
        done = 0
        async for result in program.stream(({"text": f"row {number}"} for number in range(rows)), concurrency=256):
            assert result.error is None, result.error
            done += 1
            if done % max(1, rows // 10) == 0:
                sizes.append(process.memory_info().rss / 2**20)

    with server(0.0, 10_000) as at, opened("ray", 4, folder) as runner:
        began = time.perf_counter()
        asyncio.run(run(load(folder, at, "concurrency: 256").with_runner(runner)))
        seconds, counted = time.perf_counter() - began, at.figures()
    return [
        (f"{rows:,} rows through 4 workers: requests sent", f"{counted['requests']:,}"),
        ("rows a second", f"{rows / seconds:,.0f}"),
        ("memory of the driver after each tenth, MB", " ".join(f"{size:.0f}" for size in sizes)),
        ("growth from the second tenth to the last, MB", f"{sizes[-1] - sizes[min(1, len(sizes) - 1)]:.1f}"),
    ]


def case_budget(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    from lmprog.errors import BudgetExceeded
    from lmprog.runners import opened
    from lmprog.spending.budget import Budget

    with server(0.05, 10_000) as at, opened("ray", 3, folder) as runner:
        sent = []
        for _ in range(options.trials):
            program = load(folder, at, "concurrency: 256").with_runner(runner).with_budget(Budget({"lm_calls": 100}))
            with suppress(BudgetExceeded):
                program.map([{"text": f"row {number}"} for number in range(300)], concurrency=96)
            sent.append(at.figures()["requests"])
    return [("requests sent for a budget of 100 calls, 3 workers", ", ".join(map(str, sent)))]


def case_rate(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    from lmprog.runners import opened

    rows = int(10 * options.span)
    with server(0.05, 10_000) as at, opened("ray", 3, folder) as runner:
        program = load(folder, at, "requests_per_minute: 600").with_runner(runner)
        began = time.perf_counter()
        program.map([{"text": f"row {number}"} for number in range(rows)], concurrency=96)
        seconds, counted = time.perf_counter() - began, at.figures()
    return [
        ("600 a minute, 3 workers: most requests in any 10 s (103 allowed)", f"{counted['most_in_10_s']}"),
        (f"{rows} rows took, s ({rows / 10:g} at that rate)", f"{seconds:.1f}"),
    ]


def case_kills(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    kills = "2" if options.small else "20"
    test = Path(__file__).parents[1] / "tests/functional/test_ray.py"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", str(test), "-k", "killed"]
    done = subprocess.run(
        command, env={**os.environ, "LMPROG_KILLS": kills}, cwd=test.parents[2], capture_output=True, text=True
    )
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return [(f"overlay and journal after {kills} kills of workers", "equal" if done.returncode == 0 else last)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rows", type=int, help="rows of a trial; default 4,000, of `memory` 100,000")
    parser.add_argument("--seconds", type=float, default=0.2, help="after which the server answers")
    parser.add_argument("--in-flight", type=int, default=400, help="calls that the server allows")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--span", type=float, default=30.0, help="seconds that `rate` takes")
    parser.add_argument("--small", action="store_true", help="few rows, one trial")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        port, seconds, allowed = options.serve.split(",")
        return serve(int(port), float(seconds), int(allowed))
    if options.small:
        options.trials, options.span, options.workers, options.in_flight = 1, 12.0, 2, 40
    few = {"rows": 200, "memory": 2000}
    many = {"rows": 4000, "memory": 100_000}
    cases: dict[str, Callable[[argparse.Namespace, Path], list[tuple[str, str]]]] = {
        "rows": case_rows,
        "memory": case_memory,
        "budget": case_budget,
        "rate": case_rate,
        "kills": case_kills,
    }
    given = options.rows
    for name in options.case or (CASES if options.small else CASES[:-1]):
        options.rows = given or (few if options.small else many).get(name, 0)
        with tempfile.TemporaryDirectory() as folder:
            for what, figure in cases[name](options, Path(folder)):
                print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
