"""Simulate searches, and count how often an optimization keeps a program that is no better, or one that is.

    python benchmarks/calibration.py --draws 1000 --jobs 2 --out calibration.json
    python benchmarks/calibration.py --page calibration.json        # the tables of docs/optimizers.md

Searches, selection, the split of dev and the tests are those of the package. Two doubles stand at the edge: a run of the
program on a row is right with a probability that is drawn from seeds (`scored`), and a weight step writes no weights
(`_train`). In a null search every candidate is right on a row with the same probability, independently of all others.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy

import lmprog
from lmprog.lms.lm import Completion, Request, Usage
from lmprog.optimizers.candidate import START, Candidate
from lmprog.optimizers.grpo.policy import Policy
from lmprog.optimizers.grpo.sampling.served import Served
from lmprog.optimizers.grpo.stage import WeightStage
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.staged.stages import run_stages
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.scoring.evaluation import RowScore
from lmprog.traces.record import Invocation

DEV = (18, 40, 144)
GAINS = (0.05, 0.10, 0.15)
BETTER = 3
"""One in so many candidates has the true gain."""
STAGES: Mapping[str, list[dict[str, Any]]] = {
    "prompt_search": [{"prompt_search": {"trials": 12, "bootstrap_rows": 0}}],
    "bootstrap": [{"bootstrap": {"sets": 12, "rows": 1}}],
    "gepa": [{"gepa": {"max_metric_calls": 400, "pareto_rows": 24}}],
    "grpo": [{"grpo": {"steps": 40, "evaluate_every": 5}}],
    "fast_slow": [{"fast_slow": {"steps": 30, "evaluate_every": 5, "bootstrap_rows": 0}}],
    "two stages": [
        {"prompt_search": {"trials": 12, "bootstrap_rows": 0}},
        {"grpo": {"steps": 40, "evaluate_every": 5}},
    ],
    "search, then ensemble": [{"prompt_search": {"trials": 12, "bootstrap_rows": 0}}, {"ensemble": {"members": 5}}],
}
SPEC = """\
lmprog: 1
name: simulated
inputs: {number: int}
outputs: {parity: "${{ steps.judge.parity }}"}
lms:
  judge: {model: embedded/smollm2-135m}
  writer: {model: openai/writer}
modules:
  judge:
    lm: judge
    inputs: {number: int}
    outputs: {parity: {type: {enum: [odd, even]}}}
    instructions: Say something.
steps:
  judge: {module: judge, with: {number: "${{ inputs.number }}"}}
data: {train: train.jsonl, dev: dev.jsonl}
metrics:
  accuracy: {python: "./metrics.py:same", with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}}
optimize:
  metric: accuracy
  tune: {judge: [instructions, demos, weights]}
  proposer: writer
  stages: [bootstrap]
"""


@dataclass(frozen=True)
class Simulated(Program):
    """The program under a candidate, which is laid over nothing: its runs are drawn, and need no plan."""

    change: Candidate = START
    draw: int = 0
    gain: float = 0.0

    def with_candidate(self, candidate: Candidate) -> Simulated:
        return replace(self, change=self.change.then(candidate))

    def probabilities(self, rows: Sequence[Mapping[str, Any]]) -> numpy.ndarray[Any, Any]:
        """Return the probability of a right answer for each row: a half without a gain; else rows differ, and gains add."""
        if not self.gain:
            return numpy.full(len(rows), 0.5)
        return numpy.clip(numpy.array([row["easy"] for row in rows]) + self.true_gain, 0.0, 1.0)

    @property
    def true_gain(self) -> float:
        """The gain of each part that is better: words, and weights."""
        if not self.gain:
            return 0.0
        parts = [self.change.words.as_json()] if self.change.words != START else []
        parts += [self.change.adapters] if self.change.adapters else []
        return self.gain * sum(number(self.draw, "better", part) % BETTER == 0 for part in parts)


def number(*parts: Any) -> int:
    """A number that follows from the parts alone."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


async def scored(
    program: Simulated, rows: Sequence[Mapping[str, Any]], metric: str, **how: Any
) -> AsyncIterator[RowScore]:
    """Stands for `lmprog.scoring.evaluation.score_rows`: a candidate is right on a row or not, whenever it is run there."""
    random = numpy.random.default_rng(number(program.draw, program.change.as_json()))
    drawn = random.random(300)
    right = [drawn[row["number"]] for row in rows] < program.probabilities(rows)
    for index, value in enumerate(right):
        yield RowScore(index, 0, float(value), RUN)


CALL = Invocation(
    program="simulated",
    module="judge",
    path="judge",
    call=0,
    example=0,
    rollout=0,
    inputs={"number": 1},
    messages=(),
    text="odd",
    outputs={"parity": "odd"},
)
RUN = Result({"parity": "odd"}, (CALL,))
"""The calls that every simulated run shows, for the reflection of gepa."""


class Writer:
    """Writes other instructions each time."""

    async def complete(self, request: Request) -> Completion:
        return Completion(f"```\nAnswer number {request.seed}.\n```", usage=Usage(1, 1, 0.0))


class NoWeights:
    """Stands for an LM in training and its weights."""

    held_bytes = head_bytes = 0

    def __init__(self) -> None:
        self.weights = self

    def trained_step(self) -> None:
        pass


def _train(stage: Any, done: Any) -> None:
    """Stands for the trainer: each step gives other weights, which are scored and chosen as after a real one."""
    policy = stage.policy
    for step in range(stage.source.config.steps):
        stage.runner.run(stage.prompts.prepare(step, policy.program))
        policy.program = policy.start.with_candidate(_weights(stage.keeper.checkpoints.best(step + 1)))
        stage.end_of_step(step + 1, {}, {})
    policy.program = policy.start


def _weights(folder: Path, *_: Any) -> Candidate:
    """Stands for `change_in`: the change to the adapter of a step, named by its stage and step."""
    return Candidate(adapters={"judge": {"path": f"{folder.parent.name}/{folder.name}"}})


@contextmanager
def doubles() -> Iterator[None]:
    """Put the doubles in their places."""
    with (
        patch("lmprog.scoring.evaluation.score_rows", scored),
        patch.object(WeightStage, "train", _train),
        patch.object(Served, "trained_lm", lambda *_: NoWeights()),
        patch.object(Policy, "save", lambda *_: None),
        patch("lmprog.optimizers.grpo.stage.change_in", _weights),
    ):
        yield


@lru_cache
def program(stages: str, dev: int, accept: str) -> Program:
    """The program with so many dev rows, hard and easy ones."""
    folder = Path(tempfile.mkdtemp(prefix="calibration-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "metrics.py").write_text("def same(found: str, wanted: str) -> bool:\n    return found == wanted\n")
    random = numpy.random.default_rng(0)
    for name, count in (("train", 24), ("dev", dev)):
        rows = [
            {"number": n, "parity": ("odd", "even")[n % 2 == 0], "easy": float(random.beta(0.5, 0.5))}
            for n in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "spec.yaml").write_text(SPEC)
    overrides: dict[str, Any] = {"optimize.stages": STAGES[stages]}
    if accept:
        overrides["optimize.accept"] = accept
    if stages != "gepa":
        overrides["optimize.instructions"] = {"judge": [f"Think of {n}." for n in range(12)]}
    return lmprog.load(folder / "spec.yaml", lms={"judge": Writer(), "writer": Writer()}, overrides=overrides)


def search(stages: str, dev: int, draw: int, gain: float = 0.0, accept: str = "") -> bool:
    """Run one whole optimization; return whether it keeps a change."""
    made = program(stages, dev, accept)
    parts = {name: getattr(made, name) for name in made.__dataclass_fields__}
    home = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="calibration-", dir=home))
    journal = Journal(folder)
    try:
        outcome = run_stages(Simulated(**parts, draw=draw, gain=gain), draw, {}, journal)
        return outcome.candidate != START
    finally:
        journal.close()
        shutil.rmtree(folder)


NULL, POWER = "null", "power"
KINDS: Mapping[str, Sequence[tuple[str, str, float, str]]] = {
    NULL: [(stages, "", 0.0, stages) for stages in STAGES],
    POWER: [
        (stages, accept, gain, name)
        for stages, accept, name in (
            ("prompt_search", "", "prompt_search"),
            ("two stages", "composition", "two stages, `accept: composition`"),
            ("two stages", "stage", "two stages, `accept: stage`"),
        )
        for gain in GAINS
    ],
}
"""The cells of each table: the stages, the rule, the gain, and the name of the row."""
CHUNK = 50


def kept(stages: str, dev: int, first: int, count: int, gain: float, accept: str) -> int:
    """Return how many of the searches with these seeds keep a change."""
    with doubles():
        return sum(search(stages, dev, draw, gain, accept) for draw in range(first, first + count))


def simulate(kind: str, draws: int, seed: int, jobs: int, out: Path) -> None:
    """Add a record for each cell of a table to those in `out`, where it has none yet of as many searches."""
    records = json.loads(out.read_text()) if out.exists() else []
    cells = [
        (stages, accept, gain, {"kind": kind, "name": name, "gain": gain, "dev": dev})
        for stages, accept, gain, name in KINDS[kind]
        for dev in DEV
    ]
    with ProcessPoolExecutor(jobs) as pool:
        for stages, accept, gain, cell in cells:
            if any(cell.items() <= record.items() and record["draws"] >= draws for record in records):
                continue
            parts = [
                pool.submit(kept, stages, cell["dev"], seed + first, min(CHUNK, draws - first), gain, accept)
                for first in range(0, draws, CHUNK)
            ]
            records.append({**cell, "draws": draws, "seed": seed, "kept": sum(part.result() for part in parts)})
            out.write_text(json.dumps(records, indent=1) + "\n")
            print(json.dumps(records[-1]), file=sys.stderr, flush=True)


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of docs/optimizers.md: shares of searches that keep a change, in percent."""

    def share(kind: str, name: str, gain: float, dev: int) -> str:
        of_cell = [
            record
            for record in records
            if (record["kind"], record["name"], record["gain"], record["dev"]) == (kind, name, gain, dev)
        ]
        return f"{100 * of_cell[0]['kept'] / of_cell[0]['draws']:.1f}" if of_cell else "-"

    heading = " | ".join(f"{dev} dev rows" for dev in DEV)
    lines = [f"| no candidate is better | {heading} |", "|---" * (len(DEV) + 1) + "|"]
    for name in STAGES:
        lines.append(f"| {name} | " + " | ".join(share(NULL, name, 0.0, dev) for dev in DEV) + " |")
    lines += ["", f"| true gain of one candidate in {BETTER} | {heading} |", "|---" * (len(DEV) + 1) + "|"]
    for _, _, gain, name in KINDS[POWER]:
        shares = " | ".join(share(POWER, name, gain, dev) for dev in DEV)
        lines.append(f"| {100 * gain:.0f} points, {name} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="searches of each cell")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first search; each has the next one")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="which table; both where it is left out")
    parser.add_argument(
        "--out", type=Path, default=Path("calibration.json"), help="the records, of which none is made again"
    )
    parser.add_argument("--page", type=Path, help="print the tables of records; simulate nothing")
    asked = parser.parse_args()
    if asked.page is not None:
        print(page(json.loads(asked.page.read_text())))
        return
    for kind in asked.kind or KINDS:
        simulate(kind, asked.draws, asked.seed, asked.jobs, asked.out)
    print(page(json.loads(asked.out.read_text())))


if __name__ == "__main__":
    main()
