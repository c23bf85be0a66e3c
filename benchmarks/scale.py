"""Workers of Ray on this machine: rows a second, processor time of a row, memory of the driver, budgets and rates across
workers, limits that are lent, and workers that die.

The server (`slow_server.py`) is a process of its own, answers after some time, and refuses (HTTP 429) what exceeds the calls in
flight that it allows. The clients are this process: rows a second here, with one worker and with several, in alternation.

    python -m benchmarks.scale                          # all, as the issue has it: 200 ms, 400 in flight
    python -m benchmarks.scale --case rows --seconds 2  # where 2,000 rows a second are more than the processors do
    python -m benchmarks.scale --case processor         # processor time of a row, which other work does not change much
    python -m benchmarks.scale --case memory --rows 100000
    python -m benchmarks.scale --case tests             # what has no figure: the tests of it, with 20 kills of workers
    python -m benchmarks.scale --small --case rate      # a form of seconds, for CI
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.slow_server import Server, server

CASES = ("rows", "processor", "memory", "budget", "rate", "lent", "staleness", "tests")
FLEET = "test_hosted_training.py"
SPEC = """
lmprog: 1
name: scale
inputs: {text: str}
lms:
  remote: {model: openai/x, api_base: "ADDRESS", api_key: none, params: {max_tokens: 8}, limits: {LIMITS, tries: 1}}
modules:
  ask: {lm: remote, inputs: {text: str}, outputs: {reply: str}, instructions: Answer.}
"""


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


def processor_times() -> dict[str, float]:
    """Return the processor seconds of this process so far, of all workers, of Ray's other processes, and of the server."""
    import psutil

    found = {"driver": time.process_time(), "worker": 0.0, "ray": 0.0, "server": 0.0}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            line = process.cmdline() or [""]
            kind = (
                "server"
                if "benchmarks.slow_server" in line
                else "worker"
                if line[0].startswith("ray::Worker")
                else "ray"
            )
            found[kind] += sum(process.cpu_times()[:2])
    return found


def case_processor(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    from lmprog.runners import opened

    found: dict[str, dict[str, float]] = {}
    with server(options.seconds, 10_000) as at:
        for name, workers in (("here", None), ("with workers", options.workers)):
            with opened("ray" if workers else None, workers, folder) as runner:
                program = load(folder, at, f"concurrency: {options.in_flight}").with_runner(runner)
                program.map([{"text": f"warm {n}"} for n in range(options.in_flight)], concurrency=options.in_flight)
                before = processor_times()
                results = program.map(
                    [{"text": f"row {n}"} for n in range(options.rows)], concurrency=2 * options.in_flight
                )
                assert not any(result.error for result in results)
                after = processor_times()
            found[name] = {kind: 1000 * (after[kind] - before[kind]) / options.rows for kind in after}
    here, there = found["here"]["driver"], found["with workers"]
    own = there["driver"] + there["worker"] + there["ray"]
    return [
        ("processor time of a row here, ms", f"{here:.2f}"),
        (
            f"with {options.workers} workers: at the driver, at the worker, in Ray's own processes, ms",
            f"{there['driver']:.2f}, {there['worker']:.2f}, {there['ray']:.2f}",
        ),
        ("with workers / here", f"{own / here:.2f}"),
        ("in the server, which is no part of lmprog, ms", f"{there['server']:.2f}"),
    ]


def case_lent(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    """One row at a time, so that one worker alone has work: with a third of the rate it would take three times as long."""
    from lmprog.runners import opened

    rows = int(5 * options.span)
    with server(0.0, 10_000) as at, opened("ray", 3, folder) as runner:
        program = load(folder, at, "requests_per_minute: 300").with_runner(runner)
        began = time.perf_counter()
        program.map([{"text": f"row {number}"} for number in range(rows)], concurrency=1)
        seconds = time.perf_counter() - began
    return [(f"{rows} rows, one at a time, 300 a minute, 3 workers, s ({rows / 5:g} at that rate)", f"{seconds:.1f}")]


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


def case_tests(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    """Run the tests that hold what has no figure."""
    kills = "2" if options.small else "20"
    tests = Path(__file__).parents[1] / "tests/functional"
    return [
        (
            "bootstrap, prompt_search, gepa on three nodes: as here",
            _tested(tests / "test_ray.py", "same_on_three_nodes"),
        ),
        ("grpo on three nodes: as here", _tested(tests / "test_ray_training.py", "three_nodes")),
        (f"the same after {kills} kills of workers", _tested(tests / "test_ray.py", "killed", {"LMPROG_KILLS": kills})),
        ("two stand-ins of vLLM, one started anew, one cut: no row lost", _tested(tests / FLEET, "two_servers")),
        ("FSDP2 with two processes: trains as one", _tested(tests / "test_several_processes.py", "share_the_weights")),
    ]


def case_staleness(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    from benchmarks.staleness import measure

    steps, rounds = (4, 1) if options.small else (12, 3)
    found = [(latency, measure(latency, steps, 8, rounds)) for latency in ((0.2,) if options.small else (0.2, 2.0))]
    return [
        (f"a step with staleness 0 and 1, {latency:g} s of latency, s; ratio (0.7 wanted)", _ratio(figures))
        for latency, figures in found
    ]


def _ratio(figures: Mapping[str, Any]) -> str:
    return f"{figures['step'][0]:.2f}, {figures['step'][1]:.2f}; {figures['ratio']:.2f}"


def _tested(file: Path, which: str, environment: Mapping[str, str] | None = None) -> str:
    """Run tests of a file, and return their last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", str(file), "-k", which]
    where = {"env": {**os.environ, **(environment or {})}, "cwd": file.parents[2]}
    done = subprocess.run(command, capture_output=True, text=True, **where)  # type: ignore[call-overload]
    last = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    return "yes" if done.returncode == 0 else f"no: {last}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--rows", type=int, help="rows of a trial; default 4,000, of `memory` 100,000")
    parser.add_argument("--seconds", type=float, default=0.2, help="after which the server answers")
    parser.add_argument("--in-flight", type=int, default=400, help="calls that the server allows")
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--span", type=float, help="seconds that `rate` and `lent` take; default 30, with --small 12")
    parser.add_argument("--small", action="store_true", help="few rows, one trial")
    options = parser.parse_args()
    if options.small:
        options.trials, options.workers, options.in_flight = 1, 2, 40
    options.span = options.span or (12.0 if options.small else 30.0)
    few = {"rows": 200, "processor": 400, "memory": 2000}
    many = {"rows": 4000, "processor": 4000, "memory": 100_000}
    cases: dict[str, Callable[[argparse.Namespace, Path], list[tuple[str, str]]]] = {
        "rows": case_rows,
        "processor": case_processor,
        "memory": case_memory,
        "budget": case_budget,
        "rate": case_rate,
        "lent": case_lent,
        "staleness": case_staleness,
        "tests": case_tests,
    }
    given = options.rows
    for name in options.case or CASES:
        options.rows = given or (few if options.small else many).get(name, 0)
        with tempfile.TemporaryDirectory() as folder:
            for what, figure in cases[name](options, Path(folder)):
                print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
