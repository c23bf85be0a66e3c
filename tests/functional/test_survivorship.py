"""Another instruction makes the LM break 36 of 60 rows, and be right on the others: it scores 40%, and nothing takes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import Completion, Request
from lmprog.optimizers.grpo.advantages import advantages
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.sampling.rollouts import collect
from lmprog.scoring.metrics import Scorer

pytestmark = pytest.mark.slow

ROWS = 60
BROKEN, RIGHT = "drop table", "select {}"
TOOLS = """
def run(query: str) -> int:
    if not query.startswith("select "):
        raise ValueError(f"near {query.split()[0]!r}: syntax error")
    return int(query.removeprefix("select "))
"""
METRICS = """
def same(found: int, wanted: int) -> bool:
    return found == wanted

def parsed(found: str, wanted: int) -> bool:
    return int(found.removeprefix("select ")) == wanted
"""
ASK = """
              ask: {module: write, with: {number: "${{ inputs.number }}"}}"""
WAYS = {
    "tool": {
        "tools": '{run: {python: "./tools.py:run", result: found}}',
        "steps": ASK + '\n              use: {tool: run, with: {query: "${{ steps.ask.query }}"}}',
        "outputs": '{found: "${{ steps.use.found }}"}',
        "metric": "same",
    },
    "expression": {
        "steps": ASK + "\n              use: {value: \"${{ int(replace(steps.ask.query, 'select ', '')) }}\"}",
        "outputs": '{found: "${{ steps.use.value }}"}',
        "metric": "same",
    },
    "metric": {"steps": ASK, "outputs": '{found: "${{ steps.ask.query }}"}', "metric": "parsed"},
}
KINDS = sorted(WAYS)


class Writer:
    """Right on three rows of five; with BAD in its prompt it breaks these, and is right on the other two."""

    def __init__(self, bad: Callable[[str], bool]) -> None:
        self.bad = bad
        self.proposals = 0

    async def complete(self, request: Request) -> Completion:
        prompt = "\n".join(str(message["content"]) for message in request.messages)
        if "reflection" in request.key:
            self.proposals += 1
            return Completion("```\nExplain it at length.\n```")
        number = int(str(request.messages[-1]["content"]).split()[-1])
        first = number % 5 < 3
        breaks = self.bad(prompt) and first
        text = BROKEN if breaks else RIGHT.format(number if self.bad(prompt) or first else -1)
        return Completion(text, token_ids=(1, 2), prompt_token_ids=(3,), logprobs=(-0.5, -0.5))


def told_to_explain(prompt: str) -> bool:
    return "at length" in prompt


def shown_a_demo(prompt: str) -> bool:
    return prompt.count("select ") > 0


@pytest.fixture
def desk(write, tmp_path: Path) -> Callable[..., tuple[Path, Writer]]:
    """Writes a program whose tool, expression or metric raises on what the LM says, to be optimized by a stage."""

    def make(kind: str, stage: str, tune: str, bad: Callable[[str], bool] = told_to_explain) -> tuple[Path, Writer]:
        for split in ("train", "dev", "test"):
            lines = [json.dumps({"number": number, "wanted": number}) + "\n" for number in range(ROWS)]
            (tmp_path / f"{split}.jsonl").write_text("".join(lines))
        write(TOOLS, "tools.py")
        write(METRICS, "metrics.py")
        way = WAYS[kind]
        tools = f"tools: {way['tools']}" if "tools" in way else ""
        spec = write(f"""
            lmprog: 1
            name: desk
            inputs: {{number: int}}
            outputs: {way["outputs"]}
            lms: {{lm: {{model: openai/none, trusted: true}}}}
            {tools}
            modules:
              write: {{lm: lm, format: text, inputs: {{number: int}}, outputs: {{query: str}}, instructions: Write SQL.}}
            steps:{way["steps"]}
            data: {{train: train.jsonl, dev: dev.jsonl, test: test.jsonl}}
            metrics:
              right:
                python: ./metrics.py:{way["metric"]}
                with: {{found: "${{{{ outputs.found }}}}", wanted: "${{{{ row.wanted }}}}"}}
            optimize:
              metric: right
              train: train
              validate: dev
              {tune}
              stages: [{stage}]
        """)
        return spec, Writer(bad)

    return make


SEARCH = "{prompt_search: {trials: 4, minibatch: 8, demos: [2], bootstrap_rows: 0, proposals: 0}}"
EXPLAIN = "tune: {write: [instructions]}\n              instructions: {write: [Explain it at length.]}"
PROPOSED = "tune: {write: [instructions]}\n              proposer: lm"
STAGES = {
    "prompt_search": (SEARCH, EXPLAIN, told_to_explain),
    "gepa": ("{gepa: {max_metric_calls: 120}}", PROPOSED, told_to_explain),
    "bootstrap": ("{bootstrap: {sets: 3, demos: 2, labelled: 0, rows: 20}}", "tune: {write: [demos]}", shown_a_demo),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", sorted(STAGES))
def test_what_breaks_rows_is_refused(desk, tmp_path: Path, kind: str, optimizer: str) -> None:
    stage, tune, bad = STAGES[optimizer]
    spec, writer = desk(kind, stage, tune, bad)
    run_dir = tmp_path / "run"
    tuned = lmprog.optimize(spec, lms={"lm": writer}, run_dir=run_dir)
    test = tuned.report["test"]
    assert (test["n"], test["before"]["mean"], test["after"]["mean"]) == (ROWS, 0.6, 0.6)
    assert test["outages"] == {"before": 0, "after": 0} and test["doubt"] is None
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    tried = [event["value"]["score"]["mean"] for event in events if "/candidate/" in str(event.get("key"))]
    assert len(tried) > 1 and max(tried[1:]) < 0.75  # of the rows that survive it scores 1
    assert optimizer != "gepa" or writer.proposals


class Trained(Writer):
    """Breaks rows with the weights of any step, and not with those that it began with."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: self.steps > 0)
        self.steps = 0

    async def complete(self, request: Request) -> Completion:
        self.steps = 0 if request.adapter is None else 1
        return await super().complete(request)


class NoWeights:
    """Stands for an LM in training and its weights."""

    held_bytes = head_bytes = 0

    def __init__(self) -> None:
        self.weights = self

    def trained_step(self) -> None:
        pass


@pytest.fixture
def weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts doubles in the places of the trainer and the weights: each step has an adapter of its own, and is scored on dev."""
    pytest.importorskip("trl", reason="needs the extra 'local'")
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.grpo import stage as module
    from lmprog.optimizers.grpo.policy import Policy
    from lmprog.optimizers.grpo.sampling.served import Served
    from lmprog.optimizers.sft.local_replies import Replies

    def written(folder: Path, *_: Any) -> Candidate:
        folder.mkdir(parents=True, exist_ok=True)
        return Candidate(adapters={"lm": {"path": str(folder)}})

    def train(stage: Any, done: Any) -> None:
        policy = stage.policy
        for step in range(stage.source.config.steps):
            stage.runner.run(stage.prompts.prepare(step, policy.program))
            policy.program = policy.start.with_candidate(written(stage.keeper.checkpoints.best(step + 1)))
            stage.end_of_step(step + 1, {}, {})
        policy.program = policy.start

    async def begun(source: Any) -> bool:
        return True

    monkeypatch.setattr(Served, "trained_lm", lambda *_: NoWeights())
    monkeypatch.setattr(module.WeightStage, "train", train)
    monkeypatch.setattr(Policy, "save", lambda *_: None)
    monkeypatch.setattr(Replies, "begin", begun)
    monkeypatch.setattr(module, "change_in", written)


WEIGHTS = "tune: {write: [weights, instructions]}\n              instructions: {write: [Write SQL as always.]}"
TRAINING = {
    "grpo": "{grpo: {steps: 4, evaluate_every: 2}}",
    "sft": "{sft: {steps: 4, evaluate_every: 2}}",
    "fast_slow": "{fast_slow: {steps: 4, every: 2, evaluate_every: 2, trials: 1, bootstrap_rows: 0, proposals: 0}}",
    "alternate": f"{{alternate: {{rounds: 2, of: [{SEARCH}, {{grpo: {{steps: 4, evaluate_every: 2}}}}]}}}}",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", sorted(TRAINING))
def test_weights_that_break_rows_are_refused(desk, weightless, tmp_path: Path, kind: str, optimizer: str) -> None:
    spec, _ = desk(kind, TRAINING[optimizer], WEIGHTS)
    spec.write_text(spec.read_text().replace("openai/none", "embedded/smollm2-135m"))
    run_dir = tmp_path / "run"
    tuned = lmprog.optimize(spec, lms={"lm": Trained()}, run_dir=run_dir)
    test = tuned.report["test"]
    assert (test["n"], test["before"]["mean"], test["after"]["mean"]) == (ROWS, 0.6, 0.6)
    assert tuned.report["accepted"]["kept"] == 0 and "adapter:" not in tuned.overlay.read_text()
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    trained = [event["score"]["mean"] for event in events if event["event"] == "dev" and event["step"]]
    before = [event["score"]["mean"] for event in events if event["event"] == "dev" and not event["step"]]
    assert trained and max(trained) < min(before)  # of the rows that survive they score 1
    assert [event["verdict"] for event in events if event["event"] == "compared"][-1] == "no better"


LONG = [f"Explain it at length, {how}." for how in ("once", "twice", "three times")]


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_of_what_breaks_rows_scores_by_all_of_them(desk, tmp_path: Path, kind: str) -> None:
    """A member that fails has no vote, and the others decide; what the metric breaks on is an answer as any other."""
    tune = f"tune: {{write: [instructions]}}\n              instructions: {{write: {json.dumps(LONG)}}}"
    search = SEARCH.replace("trials: 4", "trials: 8").replace("minibatch: 8", "minibatch: 30")
    spec, writer = desk(kind, f"{search}, {{ensemble: {{members: 3}}}}", tune)
    run_dir = tmp_path / "run"
    tuned = lmprog.optimize(spec, lms={"lm": writer}, run_dir=run_dir)
    test = tuned.report["test"]
    assert (test["n"], test["before"]["mean"], test["outages"]) == (ROWS, 0.6, {"before": 0, "after": 0})
    # With the program as written beside two that break 36 rows: of the others it is right on none, and they on all.
    assert test["after"]["mean"] == (0.6 if kind == "metric" else 1.0)
    events = [json.loads(line) for line in (run_dir / "journal.jsonl").read_text().splitlines()]
    (scored,) = [
        event["value"]["score"]["mean"]
        for event in events
        if "2-ensemble/candidate/" in str(event.get("key")) and event["value"]["words"].get("ensemble")
    ]
    assert scored < 0.6 if kind == "metric" else scored == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_its_score_is_that_of_all_rows(desk, kind: str, cli, monkeypatch) -> None:
    spec, writer = desk(kind, SEARCH, EXPLAIN)
    program = lmprog.load(spec, lms={"lm": writer})
    rows = [{"number": number, "wanted": number} for number in range(ROWS)]
    scores = lmprog.evaluate(with_instructions(program), rows, "right")
    assert (scores.mean, len(scores.by_row), scores.errors, scores.outages.rows) == (0.4, ROWS, [], 0)
    assert {name: count for name, (count, _) in scores.failures.items()} == {kind: 36}
    difference = scores.against(lmprog.evaluate(program, rows, "right"))
    assert (difference.n, round(difference.mean, 9)) == (ROWS, -0.2) and not difference.significant_gain


@pytest.mark.parametrize("kind", KINDS)
def test_a_wave_of_it_has_a_signal(desk, kind: str) -> None:
    """Half of the runs of each row break, and their calls are pushed down."""
    spec, writer = desk(kind, SEARCH, EXPLAIN)
    program = lmprog.load(spec, lms={"lm": writer})
    answer = writer.complete

    async def half(request: Request) -> Any:
        completion = await answer(request)
        broken = int(request.key[1]) % 2
        return Completion(BROKEN, (9, 9), (-0.5, -0.5), (3,)) if broken else completion

    writer.complete = half  # type: ignore[method-assign]
    rows = [{"number": number, "wanted": number} for number in (0, 1)]
    scorer = Scorer(program, "right")
    wave = asyncio.run(collect(program, rows, [0, 1], scorer, rollouts=4, params={}, format_failure=-0.25, seed=1))
    assert wave.lost == 0 and wave.by_signal() == ([0, 1], [])
    assert [(run.reward, run.failure) for run in wave.rollouts] == [(1.0, None), (-0.25, kind)] * 4
    groups = form_groups(wave.rollouts)
    for group, values in zip(groups, advantages(groups), strict=True):
        assert len(group.members) == 4
        for member, value in zip(group.members, values, strict=True):
            (made,) = member.invocations
            assert (value < 0) == (made.text == BROKEN)


def with_instructions(program: lmprog.Program) -> lmprog.Program:
    from lmprog.optimizers.candidate import Candidate

    return program.with_candidate(Candidate(instructions={"write": "Explain it at length."}))
