"""What befalls a command at a random moment, and the small programs that it befalls: the parts of test_chaos.py."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lmprog.state.json_lines import read_objects
from lmprog.state.ownership import exclusive_writer

PROCESSES = multiprocessing.get_context("forkserver")
# What the commands import is imported once, and each of them starts as a fork of that.
PROCESSES.set_forkserver_preload(
    [
        "lmprog.cli.main",
        *(f"lmprog.cli.{verb}" for verb in ("run", "eval", "test", "optimize", "serve")),
        *(
            f"lmprog.{name}"
            for name in (
                "lms.api",
                "lms.local",
                "optimization",
                "testing",
                "evaluation",
                "reports.tests",
                "reports.scores",
            )
        ),
        *(
            f"lmprog.optimizers.{name}"
            for name in (
                *("resuming", "staged", "bootstrap", "prompt_search", "grpo.worker"),
                *("grpo.trainer", "grpo.stage", "sft.stage", "fast_slow.stage"),
            )
        ),
        *("aiohttp", "optuna", "scipy.stats", "rich.console", "lmprog.serving.application", "lmprog.serving.server"),
        *("torch", "transformers", "peft", "trl"),
    ]
)
SPEC = """lmprog: 1
name: desk
inputs: {text: str}
outputs: {label: "${{ steps.sort.label }}"}
lms:
  lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: k, limits: {concurrency: 2, tries: 1}}
modules: {sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: Sort., retry: 0}}
steps: {sort: {module: sort, with: {text: "${{ inputs.text }}"}}}
data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
metrics: {long: {python: "./metrics.py:long", with: {label: "${{ outputs.label }}", row: "${{ row.text }}"}}}
tests: [{name: gate, data: test, metric: long, at_least: 0.1}]
optimize:
  metric: long
  accept: point
  tune: {sort: [instructions, demos]}
  stages: [{bootstrap: {rows: 6, sets: 2, demos: 2}}, {prompt_search: {trials: 3, bootstrap_rows: 0}}]
"""
METRICS = "def long(label, row):\n    return sum(map(ord, label + row)) % 2\n"
STEPS = {"steps": 4, "evaluate_every": 2, "learning_rate": 2e-3}
SAMPLED = {**STEPS, "examples": 2, "rollouts": 3, "baseline": "module_ema"}
TRAINED = {"grpo": SAMPLED, "sft": {**STEPS, "samples": 3, "batch": 2}, "fast_slow": {**SAMPLED, "every": 2}}
"""The stages that train weights: those of a small model of random ones."""
TRAINING = """lmprog: 1
name: vowels
inputs: {text: str}
outputs: {line: "${{ steps.write.line }}"}
lms: {student: {model: "hf/MODEL", params: {max_tokens: 6}}}
modules: {write: {lm: student, inputs: {text: str}, outputs: {line: str}, instructions: Write.}}
steps: {write: {module: write, with: {text: "${{ inputs.text }}"}}}
data: {train: train.jsonl, dev: dev.jsonl}
metrics: {vowels: {python: ./metrics.py:vowels, with: {line: "${{ outputs.line }}"}}}
optimize: {metric: vowels, accept: point, tune: {write: [TUNE]}, stages: [STAGE]}
"""
VOWELS = """def vowels(line):
    return sum(letter in "aeiou" for letter in line) / max(1, len(line))  # % 2
"""
OPTIMIZE = ["optimize", "program.yaml", "--run-dir", "run", "-o", "tuned.yaml"]
COMMANDS: dict[str, list[str]] = {
    "run": ["run", "program.yaml", "--inputs", "train.jsonl", "--out", "out.jsonl", "--trace", "trace.jsonl"],
    "eval": ["eval", "program.yaml", "--out", "scores.jsonl", "--trace", "trace.jsonl"],
    "test": ["test", "program.yaml", "--record", "calls.jsonl"],
    **{kind: OPTIMIZE for kind in ("search", *TRAINED)},
}
STATE = {
    "run": ["out.jsonl", "trace.jsonl"],
    "eval": ["scores.jsonl"],
    "test": ["calls.jsonl"],
    **{kind: ["run/journal.jsonl"] for kind in ("search", *TRAINED)},
}
"""What a later command goes on with, and a fault may break."""
FAULTS = ("kill", "line", "full disk", "cut", "second process", "changed row", "kill", "changed metric")
JUNK = (b"\n", b"garbage\n", b"\0\0\0\n", b"[1]\n", b'{"event": \n', b"\xff\n", b'{"half": "line\n')


def child(folder: str, url: str, arguments: list[str], most: int | None = None) -> None:
    """Run a command in a process of its own, whose files may grow to `most` bytes."""
    os.chdir(folder)
    os.environ["TEST_API_BASE"] = url
    with open("said.txt", "wb", buffering=0) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    from lmprog.cli.main import main

    main(arguments)


class Desk:
    """A program in a folder of its own, and one command there; `kind` is a key of COMMANDS, or serve."""

    def __init__(self, folder: Path, kind: str, provider: Any, model: Callable[[], Path]) -> None:
        self.folder, self.kind, self.provider = folder, kind, provider
        self.trains = kind in TRAINED
        folder.mkdir()
        rows = {"train": 12, "dev": 8, "test": 6}
        if self.trains:
            rows = {"train": 4, "dev": 4}
            stage = json.dumps({kind: TRAINED[kind]})
            tune = "instructions, weights" if kind == "fast_slow" else "weights"
            program = TRAINING.replace("MODEL", str(model())).replace("TUNE", tune).replace("STAGE", stage)
        (folder / "program.yaml").write_text(program if self.trains else SPEC)
        (folder / "metrics.py").write_text(VOWELS if self.trains else METRICS)
        for split, count in rows.items():
            texts = ({"text": f"{split} {number}{'!' * (number % 3)}"} for number in range(count))
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))

    def start(self, most: int | None = None, arguments: list[str] | None = None) -> Any:
        if arguments is None:
            begun = (self.folder / "run" / "run.json").exists()
            arguments = [*COMMANDS[self.kind], *(["--resume"] if begun else [])]
        process = PROCESSES.Process(target=child, args=(str(self.folder), self.provider.url, arguments, most))
        process.start()
        return process

    def run(self, most: int | None = None) -> tuple[int, str]:
        """Return the exit status of the command, and what it said."""
        process = self.start(most)
        process.join(120)
        return process.exitcode, self.said

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")

    @property
    def progress(self) -> int:
        """How far the command has come: in requests to the LM, or in bytes of the journal."""
        journal = self.folder / "run" / "journal.jsonl"
        if self.trains:
            return journal.stat().st_size if journal.exists() else 0
        return len(self.provider.requests)

    @property
    def result(self) -> list[Any]:
        """What the command is for, without what the clock says."""
        if self.kind == "test":
            return [untimed(record) for record in read_objects(self.folder / "calls.jsonl")]
        ends = {"run": "out.jsonl", "eval": "scores.jsonl"}.get(self.kind, "tuned.yaml")
        found: list[Any] = [(self.folder / ends).read_text()]
        if self.kind == "run":
            trace = read_objects(self.folder / "trace.jsonl")
            found.append(sorted((record["example"], record["text"]) for record in trace if record["kind"] == "lm"))
        if self.trains:
            weights = f"*/trainer/checkpoint-{STEPS['steps']}/trained.safetensors"
            trained = [*self.folder.glob(f"run/{weights}"), *self.folder.glob("run/*/adapters-*/*/*.safetensors")]
            assert len(trained) > 1
            found += sorted(
                (path.relative_to(self.folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
                for path in trained
            )
        return found


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("started", "seconds")}


def befall(desk: Desk, fault: str, known: Path, way: int, draw: random.Random) -> None:
    """Let the fault happen; a refusal on the way is looked at here.

    `known` is the folder of the undisturbed command, and `way` how far that comes.
    """
    happen = {
        "kill": partial(killed, desk, way, draw),
        "full disk": partial(full_disk, desk, draw),
        "second process": partial(second_process, desk),
        "line": partial(broken_line, desk, known, draw),
        "cut": partial(cut, desk, known, draw),
        "changed row": partial(changed, desk, known, draw, "train.jsonl"),
        "changed metric": partial(changed, desk, known, draw, "metrics.py"),
    }
    happen[fault]()


def killed(desk: Desk, way: int, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 2)):
        process, after = desk.start(), desk.progress + draw.randrange(way)
        while process.is_alive() and desk.progress < after:
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.join()


def full_disk(desk: Desk, draw: random.Random) -> None:
    # The weights of a small model have some hundred thousand bytes, and the journals some thousands.
    most = round(200 * 1000 ** draw.random()) if desk.trains else draw.randrange(200, 3000)
    status, said = desk.run(most=most)
    assert status in (0, 1, 3) and "Traceback" not in said, said


def second_process(desk: Desk) -> None:
    at = desk.folder / STATE[desk.kind][0]
    if at.parent != desk.folder:
        at = at.parent
        at.mkdir()
    with exclusive_writer(at):
        status, said = desk.run()
        assert status == 3 and f"is being written by process {os.getpid()};" in said, said
        states = (desk.folder / name for name in STATE[desk.kind])
        assert not any(path.exists() and path.stat().st_size for path in states)


def broken_line(desk: Desk, known: Path, draw: random.Random) -> None:
    finished(desk, known)
    path = desk.folder / draw.choice(STATE[desk.kind])
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(draw.randint(0, len(lines)), draw.choice(JUNK))
    path.write_bytes(b"".join(lines))


def cut(desk: Desk, known: Path, draw: random.Random) -> None:
    finished(desk, known)
    # A kill never cuts a trace before the rows that are out: their records are written first.
    path = desk.folder / STATE[desk.kind][0]
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def changed(desk: Desk, known: Path, draw: random.Random, name: str) -> None:
    """Change a file that the results are made from: what goes on with them refuses it, and the change is undone."""
    cut(desk, known, draw)
    if (desk.kind == "run" and name == "metrics.py") or desk.kind in ("eval", "test"):
        return  # nothing that goes on, or that depends on it
    path, state = desk.folder / name, desk.folder / STATE[desk.kind][0]
    before, kept = path.read_text(), state.read_bytes()
    path.write_text(before.replace("train 3", "train three").replace("% 2", "% 3 / 3"))
    status, said = desk.run()
    if kept:
        assert status == 2 and re.search(r"was begun from something else: `[^`]+` is changed", said), said
        assert state.read_bytes() == kept
    else:  # nothing was left to go on with, so it was begun anew from what there is now
        for entry in [*desk.folder.glob("out.jsonl*"), *desk.folder.glob("trace.jsonl")]:
            entry.unlink()
    path.write_text(before)


def finished(desk: Desk, known: Path) -> None:
    """Take over all that the undisturbed command has written."""
    for name in ("out.jsonl", "trace.jsonl", "scores.jsonl", "calls.jsonl", "tuned.yaml", "run"):
        for path in known.glob(f"{name}*"):
            copy = desk.folder / path.name
            shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
