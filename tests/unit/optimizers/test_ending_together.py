"""Two processes of one optimization end together: neither waits for ever in a collective that the other does not come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

from tests.ports import reserved
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 120.0
"""Seconds for a case; two processes that wait for each other would take a week."""
SPEC = """
lmprog: 1
name: vowels
inputs: {topic: str}
outputs: {line: "${{ steps.write.line }}"}
lms:
  student: {model: hf/MODEL, params: {max_tokens: 6}}
modules:
  write: {lm: student, inputs: {topic: str}, outputs: {line: str}, instructions: Write about the topic.}
steps:
  write: {module: write, with: {topic: "${{ inputs.topic }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics:
  vowels:
    python: ./metrics.py:vowels
    with: {line: "${{ outputs.line }}"}
optimize:
  metric: vowels
  accept: point
  tune: {write: [weights]}
  stages:
    - grpo: {steps: 3, examples: 2, rollouts: 4, evaluate_every: 1, checkpoint_every: 1, probe: 0, credit: 0, no_signal: drop}
"""
ROWS = 4
CALLS = ROWS + 2 * 4 + ROWS // 2
"""The scoring before the first step, its rollouts, and half of the scoring after it."""
CASES = {
    "a budget that ends between a step and its checkpoint": {"budget": {"lm_calls": CALLS}},
    "the same with shared weights": {"budget": {"lm_calls": CALLS}, "fsdp": True},
    "an error of the first process in its training": {"fails": True},
    "the same error with shared weights": {"fails": True, "fsdp": True},
    "an optimization after another, with shared weights": {"fsdp": True, "after_another": True},
}


def run(folder: Path, rank: int, case: str, options: dict[str, Any]) -> None:
    """Go through a case, and write what it came to in this process."""
    import lmprog

    def fail(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            raise ValueError("the listener fails")

    listen = fail if options.pop("fails", False) else None
    try:
        if options.pop("after_another", False):
            lmprog.optimize(folder / "vowels.yaml", seed=0, run_dir=before(folder, case))
        lmprog.optimize(folder / "vowels.yaml", seed=0, run_dir=file(folder, case), listen=listen, **options)
        came_to = "the end"
    except (ValueError, lmprog.LmprogError) as error:
        came_to = f"{type(error).__name__}: {error}"
    file(folder, case, rank).write_text(came_to)
    # The end of a process would close its connections, and so end a wait of the other, that must end by itself.
    wait_until(file(folder, case, 1 - rank).exists, f"the other process in {case}", seconds=PATIENCE)


def file(folder: Path, case: str, rank: int | None = None) -> Path:
    """The folder of a case's run, or the file that says what it came to in the process `rank`."""
    number = str([*CASES].index(case))
    return folder / (number if rank is None else f"{number}-{rank}")


def before(folder: Path, case: str) -> Path:
    """The folder of the run that a case makes before its own."""
    return folder / f"{[*CASES].index(case)}-before"


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which pairs of processes have gone through the cases, as far as they came in PATIENCE seconds each."""
    from tests.tiny_model import write_tiny_model

    folder = tmp_path_factory.mktemp("together")
    model = write_tiny_model(tmp_path_factory.mktemp("model"))
    (folder / "vowels.yaml").write_text(SPEC.replace("hf/MODEL", f"hf/{model}"))
    (folder / "rows.jsonl").write_text("".join(f'{{"topic": "{topic}"}}\n' for topic in ("sea", "sky", "rain", "wool")))
    (folder / "metrics.py").write_text(
        "def vowels(line: str) -> float:\n    return sum(letter in 'aeiou' for letter in line) / max(1, len(line))\n"
    )
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    told["PYTHONPATH"] = str(ROOT)
    with ExitStack() as ports:
        numbers = [str(ports.enter_context(reserved())) for _ in CASES]
        ranks = [
            subprocess.Popen(
                [sys.executable, __file__, str(folder), *numbers],
                env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]
        assert [rank.wait() for rank in ranks] == [0, 0]
    return folder


def forked(folder: Path, ports: Sequence[str]) -> None:
    """Go through each case in a process of its own, so that torch is imported once; end one that does not end by itself."""
    import trl  # noqa: F401

    import lmprog.optimizers.run  # noqa: F401

    for port, (case, options) in zip(ports, CASES.items(), strict=True):
        os.environ["MASTER_PORT"] = port
        child = os.fork()
        if not child:
            run(folder, int(os.environ["RANK"]), case, {**options})
            os._exit(0)
        try:
            wait_until(lambda child=child: os.waitpid(child, os.WNOHANG)[0], seconds=PATIENCE)
        except AssertionError:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def came_to(ends: Path, case: str) -> list[str]:
    files = [file(ends, case, rank) for rank in range(2)]
    assert [each.exists() for each in files] == [True, True], f"a process did not come to an end of {case}"
    return [each.read_text() for each in files]


@pytest.mark.parametrize("case", [name for name in CASES if "budget" in CASES[name]])
def test_a_budget_that_ends_before_a_checkpoint_ends_all(ends: Path, case: str) -> None:
    assert came_to(ends, case) == ["the end", "the end"]
    events = [json.loads(line) for line in (file(ends, case) / "journal.jsonl").read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in events if "step" in event] == [("dev", 0), ("step", 1)]
    assert any("grpo ends with its best so far" in event.get("text", "") for event in events)


@pytest.mark.parametrize("case", [name for name in CASES if "fails" in CASES[name]])
def test_an_error_in_the_first_process_ends_all(ends: Path, case: str) -> None:
    first, other = came_to(ends, case)
    assert first == "ValueError: the listener fails"
    assert other.startswith("InfrastructureError: another process of this optimization has ended")


def test_a_pair_of_processes_optimizes_again(ends: Path) -> None:
    case = "an optimization after another, with shared weights"
    assert came_to(ends, case) == ["the end", "the end"]
    steps = []
    for folder in (before(ends, case), file(ends, case)):
        events = map(json.loads, (folder / "journal.jsonl").read_text().splitlines())
        steps.append([event for event in events if event["event"] == "step"])
    assert [len(each) for each in steps] == [3, 3]
    assert steps[0][0]["reward"] == steps[1][0]["reward"]


if __name__ == "__main__":
    forked(Path(sys.argv[1]), sys.argv[2:])
