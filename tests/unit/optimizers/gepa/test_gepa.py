"""gepa finds the good instructions, never runs a refused candidate, keeps to its bounds, and resumes for nothing."""

from __future__ import annotations

import pytest

from lmprog.errors import ProviderError, UsageError
from lmprog.lms.lm import Completion
from lmprog.optimizers.candidate import Candidate
from lmprog.optimizers.gepa import GEPA
from lmprog.optimizers.gepa.config import Config

PROPOSER = ("  tune: {judge: [instructions, demos]}\n", "  tune: {judge: [instructions, demos]}\n  proposer: writer\n")


class Writer:
    """Proposes bad, check-breaking and good instructions in turn, and remembers what it was shown."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts or ("Guess.", "word " * 6000, "Divide by two and look.")
        self.shown: list[str] = []

    async def complete(self, request) -> Completion:
        self.shown.append(request.messages[-1]["content"])
        return Completion(f"```\n{self.texts[(len(self.shown) - 1) % len(self.texts)]}\n```")


def made(parity, task_of, writer, limits=None, **options):
    program, script = parity(PROPOSER)
    task = task_of(program.with_lms({"writer": writer}), limits)
    return GEPA(Config.model_validate({"max_metric_calls": 120, **options})), task, script


def test_the_good_instructions_win_and_the_breaking_are_refused(parity, task_of) -> None:
    writer = Writer()
    stage, task, script = made(parity, task_of, writer)
    assert stage.optimize(task) == Candidate(instructions={"judge": "Divide by two and look."})
    refused = [event for event in task.journal.events if event["event"] == "refused"]
    assert len(refused) == 1 and "LMP501" in refused[0]["findings"]
    assert script.calls + len(writer.shown) == task.budget.spent.lm_calls <= stage.most_calls(task.program, 20, 30)
    assert "The run scored 0.0" in writer.shown[0] and "even" in writer.shown[0]
    assert not any(str(row["number"]) in shown for shown in writer.shown for row in task.dev)


def test_it_resumes_for_nothing(parity, task_of) -> None:
    writer = Writer()
    stage, task, script = made(parity, task_of, writer)
    first = stage.optimize(task)
    paid = script.calls, len(writer.shown)
    assert stage.optimize(task_of(task.program)) == first
    assert (script.calls, len(writer.shown)) == paid


@pytest.mark.parametrize("limit", [20, 40])
def test_the_budget_ends_it_with_the_best_so_far(parity, task_of, limit: int) -> None:
    writer = Writer("Divide by two.")
    stage, task, script = made(parity, task_of, writer, {"lm_calls": limit})
    stage.optimize(task)
    assert script.calls + len(writer.shown) <= limit


def test_a_proposer_that_fails_is_no_end_in_silence(parity, task_of) -> None:
    class Down:
        async def complete(self, request):
            raise ProviderError("nobody answers")

    stage, task, _ = made(parity, task_of, Down())
    with pytest.raises(ProviderError, match="nobody answers"):
        stage.optimize(task)


def test_what_it_cannot_do_is_said(parity, task_of) -> None:
    program, _ = parity()
    with pytest.raises(UsageError, match=r"name one of `lms` as optimize\.proposer"):
        GEPA(Config()).optimize(task_of(program))
    stage, task, script = made(parity, task_of, Writer(), max_metric_calls=10)
    with pytest.raises(UsageError, match="the dev rows and one reflection take 23"):
        stage.optimize(task)
    assert script.calls == 0


CRITIC = """
lmprog: 1
inputs: {found: str, wanted: str}
outputs: {score: "${{ steps.score.value }}", feedback: "${{ steps.said.value }}"}
steps:
  score: {value: "1.0 if inputs.found == inputs.wanted else 0.0"}
  said: {value: "'you said ' + inputs.found"}
"""
BOTH = """metrics:
  critic: {program: ./critic.yaml, with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}}
  accuracy:
    value: 0.5 * metrics.critic + 0.5 * metrics.same
  same:
"""


def test_what_a_judge_says_is_read_in_the_reflection(parity, task_of, tmp_path) -> None:
    (tmp_path / "critic.yaml").write_text(CRITIC)
    writer = Writer("Divide by two.")
    program, _ = parity(PROPOSER, ("metrics:\n  accuracy:\n", BOTH))
    task = task_of(program.with_lms({"writer": writer}))
    GEPA(Config.model_validate({"max_metric_calls": 60})).optimize(task)
    assert "The run scored 0.0 (0.0 to 1.0). you said odd" in writer.shown[0]
