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
from lmprog.metrics import Scorer
from lmprog.optimizers.grpo.advantages import advantages
from lmprog.optimizers.grpo.groups import form_groups
from lmprog.optimizers.grpo.rollouts import collect

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
