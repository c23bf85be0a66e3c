"""Whatever befalls a command at a random moment, the same command then ends with the same bytes, or refuses and says why.

Each round draws a moment and a place. LMPROG_CHAOS=200 makes that many rounds, and adds the stages that train weights.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lmprog.ownership import owned

ROUNDS = int(os.environ.get("LMPROG_CHAOS", "20"))
PROCESSES = multiprocessing.get_context("forkserver")
# What the commands import is imported once, and each of them starts as a fork of that.
PROCESSES.set_forkserver_preload(
    [
        "lmprog.cli.main",
        *(f"lmprog.cli.{verb}" for verb in ("run", "eval", "test", "optimize", "serve")),
        *(
            f"lmprog.{name}"
            for name in ("lms.api", "optimization", "testing", "evaluation", "reports.tests", "reports.scores")
        ),
        *(
            f"lmprog.optimizers.{name}"
            for name in ("resuming", "staged", "bootstrap", "prompt_search", "grpo.following")
        ),
        *("aiohttp", "optuna", "scipy.stats", "rich.console", "lmprog.serving.application", "lmprog.serving.server"),
    ]
)
SPEC = """
    lmprog: 1
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
VERBS: dict[str, list[str]] = {
    "run": ["--inputs", "train.jsonl", "--out", "out.jsonl", "--trace", "trace.jsonl"],
    "eval": ["--out", "scores.jsonl", "--trace", "trace.jsonl"],
    "test": ["--record", "calls.jsonl"],
    "optimize": ["--run-dir", "run", "-o", "tuned.yaml"],
}
STATE = {
    "run": ["out.jsonl", "trace.jsonl"],
    "eval": ["scores.jsonl"],
    "test": ["calls.jsonl"],
    "optimize": ["run/journal.jsonl"],
}
"""What a later command goes on with, and a fault may break."""
ENDS = {"run": "out.jsonl", "eval": "scores.jsonl", "test": "calls.jsonl", "optimize": "tuned.yaml"}
FAULTS = ("kill", "kill", "cut", "line", "full disk", "second process", "changed row", "changed metric")
JUNK = (b"\n", b"garbage\n", b"\0\0\0\n", b"[1]\n", b'{"event": \n', b"\xff\n", b'{"half": "line\n')


def child(folder: str, url: str, arguments: list[str], most: int | None = None) -> None:
    """A command in a process of its own, whose files may grow to `most` bytes."""
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
    """The program in a folder of its own, and its commands there."""

    def __init__(self, folder: Path, verb: str, url: str) -> None:
        self.folder, self.verb, self.url = folder, verb, url
        folder.mkdir()
        (folder / "program.yaml").write_text("\n".join(line[4:] for line in SPEC.splitlines()).lstrip())
        (folder / "metrics.py").write_text(METRICS)
        for split, count in (("train", 12), ("dev", 8), ("test", 6)):
            rows = ({"text": f"{split} {number}{'!' * (number % 3)}"} for number in range(count))
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, most: int | None = None) -> Any:
        begun = (self.folder / "run" / "run.json").exists()
        more = ["--resume"] if self.verb == "optimize" and begun else []
        process = PROCESSES.Process(
            target=child, args=(str(self.folder), self.url, [self.verb, "program.yaml", *VERBS[self.verb], *more], most)
        )
        process.start()
        return process

    def run(self, most: int | None = None) -> tuple[int, str]:
        """The exit status of the command, and what it said."""
        process = self.start(most)
        process.join(60)
        return process.exitcode, self.said

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")

    @property
    def result(self) -> Any:
        """What the command is for, without what the clock says."""
        path = self.folder / ENDS[self.verb]
        if self.verb == "test":
            return [untimed(record) for record in map(json.loads, path.read_text().splitlines())]
        found = [path.read_text().replace(str(self.folder), "HERE")]
        if self.verb == "run":
            trace = (self.folder / "trace.jsonl").read_text().splitlines()
            found.append(json.dumps(sorted((json.loads(line)["example"], json.loads(line)["text"]) for line in trace)))
        return found


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("started", "seconds")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Desk]:
    """Each command as it ends where nothing befalls it, by verb."""
    return {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_fault_ends_in_the_same_bytes_or_in_a_refusal(number: int, whole, provider, tmp_path_factory) -> None:
    draw = random.Random(f"chaos {number}")
    # All verbs and faults come in turn; moments and places are drawn.
    verb, fault = [*VERBS][number % len(VERBS)], FAULTS[(number + number // len(FAULTS)) % len(FAULTS)]
    provider.answer = lambda body: (
        "about " + json.dumps(body["messages"][-1]["content"])[-6:-1] * (len(body["messages"]) % 3)
    )
    provider.seconds = 0.005
    folder = tmp_path_factory.mktemp("chaos")
    if verb not in whole:
        first = Desk(folder / "whole", verb, provider.url)
        status, said = first.run()
        assert status == 0, said
        whole[verb] = first
        first.wanted = first.result  # type: ignore[attr-defined]
        first.asked = len(provider.requests)  # type: ignore[attr-defined]
    known, asked = whole[verb], whole[verb].asked  # type: ignore[attr-defined]
    desk = Desk(folder / "desk", verb, provider.url)
    befall(desk, fault, known, asked, provider, draw)
    status, said = desk.run()
    assert (status, "Traceback" in said) == (0, False), f"{verb}, {fault}: {said}"
    assert desk.result == known.wanted, f"{verb}, {fault}: {said}"  # type: ignore[attr-defined]
    assert not [*desk.folder.rglob("*.lock")]


def befall(desk: Desk, fault: str, known: Desk, asked: int, provider: Any, draw: random.Random) -> None:
    """Let the fault happen; a refusal on the way is looked at here."""
    state = [desk.folder / name for name in STATE[desk.verb]]
    if fault == "kill":
        for _ in range(draw.randint(1, 2)):
            process, after = desk.start(), len(provider.requests) + draw.randrange(asked)
            while process.is_alive() and len(provider.requests) < after:
                time.sleep(0.001)
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
            process.join()
    elif fault == "full disk":
        status, said = desk.run(most=draw.randrange(200, 3000))
        assert status in (0, 1, 3) and "Traceback" not in said, said
    elif fault == "second process":
        at = desk.folder / ("run" if desk.verb == "optimize" else ENDS[desk.verb])
        if desk.verb == "optimize":
            at.mkdir()
        with owned(at):
            status, said = desk.run()
            assert status == 3 and f"is being written by process {os.getpid()};" in said, said
            assert not any(path.exists() and path.stat().st_size for path in state)
    else:
        finished(desk, known)
        # A kill never cuts a trace before the rows that are out: their records are written first.
        path = draw.choice(state) if fault == "line" else state[0]
        content = path.read_bytes()
        if fault == "line":
            lines = content.splitlines(keepends=True)
            lines.insert(draw.randint(0, len(lines)), draw.choice(JUNK))
            path.write_bytes(b"".join(lines))
        else:
            cut = draw.randrange(len(content))
            path.write_bytes(content[:cut])
            if fault != "cut":
                changed(desk, "metrics.py" if fault == "changed metric" else "train.jsonl", cut, content)


def finished(desk: Desk, known: Desk) -> None:
    """Take over all that the undisturbed command has written."""
    for name in ("out.jsonl", "trace.jsonl", "scores.jsonl", "calls.jsonl", "tuned.yaml", "run"):
        for path in known.folder.glob(f"{name}*"):
            copy = desk.folder / path.name
            shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)


def changed(desk: Desk, name: str, cut: int, content: bytes) -> None:
    """Change a file that the results are made from: what goes on with them refuses it, and the change is undone."""
    path = desk.folder / name
    before = path.read_text()
    path.write_text(before.replace("train 3", "train three").replace("% 2", "% 3 / 3"))
    if (desk.verb == "run" and name == "metrics.py") or desk.verb in ("eval", "test"):
        path.write_text(before)  # nothing that goes on, or that depends on it
        return
    kept = (desk.folder / STATE[desk.verb][0]).read_bytes()
    status, said = desk.run()
    if kept:
        assert status == 2 and re.search(r"was begun from something else: `[^`]+` is changed", said), said
        assert (desk.folder / STATE[desk.verb][0]).read_bytes() == kept
    else:  # nothing was left to go on with, so it was begun anew from what there is now
        for entry in [*desk.folder.glob("out.jsonl*"), *desk.folder.glob("trace.jsonl")]:
            entry.unlink()
    path.write_text(before)


def test_a_server_that_is_killed_comes_back_the_same(provider, tmp_path: Path) -> None:
    draw = random.Random("serve")
    provider.answer = lambda body: f"about {body['messages'][-1]['content']}"
    desk = Desk(tmp_path / "desk", "run", provider.url)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    arguments = [
        "serve",
        "program.yaml",
        "--port",
        str(port),
        "--trace",
        "trace.jsonl",
        "--request-log",
        "requests.jsonl",
    ]
    answered = 0
    for _ in range(max(3, ROUNDS // 20)):
        process = PROCESSES.Process(target=child, args=(str(desk.folder), desk.url, arguments))
        process.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.02)
        for _ in range(draw.randint(1, 4)):
            answer = httpx.post(f"http://127.0.0.1:{port}/run", json={"text": "a"})
            assert answer.json()["outputs"] == {"label": "about a"}
            answered += 1
        other = ["serve", str(desk.folder / "program.yaml"), "--port", "0", "--trace", str(desk.folder / "trace.jsonl")]
        second = PROCESSES.Process(target=child, args=(str(tmp_path), desk.url, other))
        second.start()
        second.join(30)
        assert (
            second.exitcode == 3
            and f"is being written by process {process.pid};" in (tmp_path / "said.txt").read_text()
        )
        process.kill()
        process.join()
        with (desk.folder / "trace.jsonl").open("ab") as file:
            file.write(draw.choice([b"", b'{"torn', *JUNK]))
    lines = (desk.folder / "trace.jsonl").read_bytes().splitlines()
    assert sum(line.startswith(b'{"version": 1, "kind": "lm"') for line in lines) == answered


LONG = pytest.mark.skipif("LMPROG_CHAOS" not in os.environ, reason="trains weights: set LMPROG_CHAOS")
TRAINED = ["grpo", "sft", "fast_slow"]


@LONG
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", TRAINED)
def test_a_training_that_is_killed_and_broken_ends_the_same(
    stage: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    import test_killed_training as training

    draw = random.Random(stage)
    for split, topics in (("train", "sea sky bread snow"), ("dev", "rain milk wool iron")):
        (tmp_path / f"{split}.jsonl").write_text("".join(f'{{"topic": "{topic}"}}\n' for topic in topics.split()))
    write("def vowels(line):\n    return sum(letter in 'aeiou' for letter in line) / max(1, len(line))\n", "metrics.py")
    options = training.STAGES["grpo" if stage == "fast_slow" else stage] | (
        {"prompts": {"every": 3}} if stage == "fast_slow" else {}
    )
    training.STAGES.setdefault(stage, options)
    spec = write(training.SPEC)
    assert training.start(stage, spec, tmp_path / "whole").wait() == 0
    wanted = (tmp_path / "whole.yaml").read_text()
    for number in range(ROUNDS // 50):
        folder = tmp_path / f"broken-{number}"
        running = training.start(stage, spec, folder)
        steps = draw.randrange(1, training.STEPS)
        while (
            running.poll() is None
            and max((event.get("step", 0) for event in training.events(folder)), default=0) < steps
        ):
            time.sleep(0.01)
        running.kill()
        running.wait()
        with (folder / "journal.jsonl").open("ab") as file:
            file.write(draw.choice(JUNK))
        assert training.start(stage, spec, folder, "--resume").wait() == 0
        assert folder.with_suffix(".yaml").read_text().replace(folder.name, "whole") == wanted
