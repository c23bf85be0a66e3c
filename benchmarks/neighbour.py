"""One GRPO step of the quickstart beside other work: on a quiet machine, beside one and beside two busy processes.

Each neighbour is a process that burns one processor for as long as the step's own process lives. The steps are those of
benchmarks/grpo_step.py (few-shot prompts, our side alone), each round in a new process: quiet, one neighbour, two, in turn.

    python benchmarks/neighbour.py
    python benchmarks/neighbour.py --rounds 1 --steps 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEP = Path(__file__).with_name("grpo_step.py")
NEIGHBOURS = (0, 1, 2)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Burn `count` processors inside the block."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def steps(count: int, of: int) -> list[float]:
    """Return the seconds of each of `of` steps beside `count` neighbours."""
    with neighbours(count):
        command = [sys.executable, str(STEP), "--side", "ours", "--steps", str(of)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])["seconds"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured, in turn")
    parser.add_argument("--steps", type=int, default=3, help="steps of each measurement that are timed")
    options = parser.parse_args()
    found: dict[int, list[float]] = {count: [] for count in NEIGHBOURS}
    for _ in range(options.rounds):
        for count in NEIGHBOURS:
            found[count].append(statistics.median(steps(count, options.steps)))
    for count in NEIGHBOURS:
        ratios = [beside / quiet for beside, quiet in zip(found[count], found[0], strict=True)]
        shown = ", ".join(f"{seconds:.1f}" for seconds in found[count])
        print(
            f"{count} neighbours  {statistics.median(found[count]):5.1f} s a step ({shown}); "
            f"{statistics.median(ratios):.2f} times the quiet step ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
