"""Teachers of `grpo`: what their runs become in the groups of the program in training."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

import lmprog
from lmprog.errors import ProviderError
from lmprog.lms.lm import Completion, Request
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.health import health
from lmprog.optimizers.grpo.sampling.rollouts import SkippedRuns, Wave
from lmprog.optimizers.grpo.sampling.teachers import Unfit
from lmprog.optimizers.grpo.stage import WeightStage, grpo_stage
from lmprog.optimizers.journal.files import Journal
from lmprog.optimizers.optimizer import Task
from lmprog.scoring.data import rows_of
from lmprog.spending.budget import Budget

STUDENT = """
lmprog: 1
name: words
inputs: {text: str}
outputs: {first: "${{ steps.first.word }}", second: "${{ steps.second.word }}"}
lms:
  lm: {model: hf/MODEL, params: {max_tokens: 6}}
  big: {model: openai/big}
modules:
  say: {lm: lm, inputs: {text: str}, outputs: {word: OUTPUT}, instructions: Say ours, MORE}
steps:
  first: {module: say, with: {text: "${{ inputs.text }}"}}
  second: {module: say, with: {text: "${{ str(steps.first.word) }}"}}
data: {train: rows.jsonl, dev: rows.jsonl}
metrics:
  letters:
    python: ./metrics.py:letters
    with: {first: "${{ str(outputs.first) }}", second: "${{ str(outputs.second) }}", text: "${{ inputs.text }}"}
optimize:
  metric: letters
  tune: {say: [weights]}
  stages: [{grpo: {rollouts: 3, examples: 3, no_signal: drop, scale: group, teachers: TEACHERS}}]
"""
BIG = """
lmprog: 1
name: big
inputs: {text: str}
outputs: {first: "${{ steps.first.word }}", second: "${{ steps.second.word }}"}
lms:
  big: {model: LM}
modules:
  say: {lm: big, inputs: {text: str}, outputs: {word: OUTPUT}, instructions: Say theirs, MORE}
steps:
  first: {module: say, with: {text: "${{ inputs.text }}"}}
  second: {module: say, with: {text: "${{ str(steps.first.word) }}"}}
"""
METRICS = "def letters(first: str, second: str, text: str) -> float:\n    return sum(map(ord, first + second + text)) % 7 / 6\n"
ONE = "[{program: big.yaml, rollouts: 2}]"


@pytest.fixture
def staged(tmp_path: Path, tiny_model: Callable[..., Path]) -> Callable[..., WeightStage]:
    """A stage whose teacher's LM answers by a script."""

    def make(answer: Callable[[Request], Any], **how: str) -> WeightStage:
        from lmprog.lms.local import LocalLM
        from lmprog.lms.local.weights import Weights

        class Big:
            async def complete(self, request: Request) -> Completion:
                said = answer(request)
                if isinstance(said, Exception):
                    raise said
                return said if isinstance(said, Completion) else Completion(said)

        model = f"hf/{tiny_model()}"
        output = how.get("output", "str")
        lm = how.get("lm", "openai/big").replace("hf/MODEL", model)
        (tmp_path / "metrics.py").write_text(METRICS)
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": word}) + "\n" for word in ("a", "bc", "d")))
        teacher = (
            BIG.replace("OUTPUT", output)
            .replace("MORE", how.get("theirs", "retry: 0"))
            .replace("LM}", lm + how.get("params", "") + "}")
        )
        (tmp_path / "big.yaml").write_text(teacher)
        student = (
            STUDENT.replace("hf/MODEL", model).replace("OUTPUT", output).replace("MORE", how.get("ours", "retry: 0"))
        )
        (tmp_path / "words.yaml").write_text(student.replace("TEACHERS", how.get("teachers", ONE)))
        program = lmprog.load(tmp_path / "words.yaml", lms={"lm": LocalLM(Weights(model)), "big": Big()})
        budget = Budget({})
        rows = rows_of(program.plan, "train")
        task = Task(program.with_budget(budget), rows, rows, "letters", budget, Journal(tmp_path / "run", ()), 0)
        return grpo_stage(task, Config.model_validate(program.plan.optimize.stages[0].options))  # type: ignore[union-attr]

    return make


def collected(stage: WeightStage, step: int = 0) -> tuple[Wave, list[Any]]:
    """The wave of a step and its training rows."""
    seen: list[Wave] = []
    inner = stage.source._wave  # type: ignore[attr-defined]

    async def wave(*where: Any) -> Wave:
        seen.append(await inner(*where))
        return seen[-1]

    stage.source._wave = wave  # type: ignore[attr-defined]
    rows = stage.rows(step)
    stage.source._wave = inner  # type: ignore[attr-defined]
    return seen[0], rows


def test_the_runs_of_a_teacher_are_members_of_the_groups(staged) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return f"x{request.seed % 7}"

    stage = staged(answer)
    wave, rows = collected(stage)
    lm = stage.policy.lms[stage.policy.adapters[0]]
    assert len(asked) == 3 * 2 * 2 and all("theirs" in str(request.messages) for request in asked)
    assert len({request.seed for request in asked}) == len(asked)
    by_example: dict[int, list[Any]] = {}
    for rollout in wave.rollouts:
        by_example.setdefault(rollout.example, []).append(rollout)
    expected = []
    for example, runs in by_example.items():
        assert [run.rollout for run in runs] == [0, 1, 2, 3, 4]
        assert [run.teacher for run in runs] == [None] * 3 + ["big.yaml"] * 2
        rewards = []
        for run in runs:
            first, second = (made.outputs["word"] for made in run.invocations)
            rewards.append(sum(map(ord, first + second + stage.task.train[example]["text"])) % 7 / 6)
        mean = sum(rewards) / 5
        spread = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / 5) or 1.0
        for call in (0, 1):
            for run, reward in zip(runs, rewards, strict=True):
                made = run.invocations[call]
                words = "".join(message["content"] for message in made.messages)
                assert words == f"Say ours{made.inputs['text']}"
                # Letters are tokens: what the small model was sent, and the reply with its end.
                assert lm.weights.tokenizer.decode(made.prompt_token_ids) == (
                    f"<user>Say ours<user>{made.inputs['text']}<reply>"
                )
                if run.teacher is not None:
                    assert lm.weights.tokenizer.decode(made.token_ids) == made.outputs["word"] + "<end>"
                expected.append((made.prompt_token_ids, made.token_ids, pytest.approx((reward - mean) / spread)))
    assert [(row.prompt_ids, row.reply_ids, row.advantage) for row in rows] == expected
    assert len(rows) == 3 * 2 * 5


def test_the_figures_of_a_step_tell_teachers_apart(staged) -> None:
    stage = staged(lambda request: f"x{request.seed % 7}")
    wave, _ = collected(stage)
    own = [run.reward for run in wave.rollouts if run.teacher is None]
    theirs = [run.reward for run in wave.rollouts if run.teacher is not None]
    assert stage.health["reward"] == pytest.approx(sum(own) / 9)
    assert stage.health["modules"]["say"]["calls"] == 18
    assert stage.health["modules"]["say"]["reward"] == pytest.approx(sum(own) / 9)
    assert stage.health["teachers"] == {
        "big.yaml": {"rollouts": 6, "reward": pytest.approx(sum(theirs) / 6), "lost": 0, "failed": 0, "unfit": 0}
    }
    assert "teachers" not in health([Wave((), 0)], [], [], [])


def test_a_step_that_is_sampled_again_has_the_same_rows_with_teachers_of_any_kind(staged) -> None:
    teachers = "[{program: big.yaml, rollouts: 1}, {program: big.yaml, rollouts: 2}]"
    params = ", params: {max_tokens: 5, temperature: 1.0}"
    stage = staged(lambda request: "", lm="hf/MODEL", teachers=teachers, params=params)
    wave, rows = collected(stage, 3)
    stage.source.state.taken, stage.source.state.averages = 0, {}
    assert collected(stage, 3)[1] == rows
    stage.source.state.taken = 0
    assert collected(stage, 4)[1] != rows
    assert [run.rollout for run in wave.rollouts if run.example == 0] == [0, 1, 2, 3, 4, 5]
    assert len({run.invocations[0].token_ids for run in wave.rollouts if run.teacher}) > 6


def test_what_a_teacher_fails_at_is_counted_and_is_not_learnt(staged) -> None:
    def answer(request: Request) -> Any:
        example, rollout, path, *_ = request.key
        if (rollout, path) == (3, "second"):
            return ProviderError("no answer")
        if rollout == 4:
            return {"0": "7", "1": "none", "2": "1234567"}[str(example)]
        return "5"

    stage = staged(answer, output="int", teachers="[{program: big.yaml, rollouts: 3}]")
    wave, _ = collected(stage)
    # 3 of each example are lost, one cannot be read, and one is longer than `max_tokens` lets a reply be.
    assert wave.skipped_runs == {"big.yaml": SkippedRuns(lost=3, failed=1, unfit=1)}
    assert wave.lost == 0
    joined = [(run.example, run.rollout) for run in wave.rollouts if run.teacher]
    assert sorted(joined) == [(0, 4), (0, 5), (1, 5), (2, 5)]
    assert stage.health["unreadable"] == sum(
        run.failure == "unreadable" for run in wave.rollouts if run.teacher is None
    )


def test_a_teacher_that_never_answers_ends_the_stage_and_one_that_has_answered_does_not(staged) -> None:
    down = [True]
    stage = staged(lambda request: ProviderError("wrong key") if down[0] else "x")
    with pytest.raises(ProviderError, match=r"not one of 6 rollouts of the teacher big.yaml.*wrong key"):
        stage.rows(0)
    down[0] = False
    assert collected(stage)[0].skipped_runs["big.yaml"].lost == 0
    down[0] = True
    wave, _ = collected(stage, 1)
    assert wave.skipped_runs["big.yaml"].lost == 6 and len(wave.rollouts) == 9


def taught(stage: WeightStage, said: Completion | str) -> str:
    """What the first call of a teacher that says `said` becomes."""
    (teacher,) = stage.source.teachers.teachers
    result = asyncio.run(teacher.program.run({"text": "a"}))
    made = stage.source.teachers.taught(result.trace[0], teacher.program.plan, stage.policy.program)
    lm = stage.policy.lms[stage.policy.adapters[0]]
    assert lm.text(made.token_ids) == made.text
    return str(lm.weights.tokenizer.decode(made.token_ids))


@pytest.mark.parametrize(
    ("how", "said", "learnt"),
    [
        ({}, "abc", "abc<end>"),
        ({}, "abcde", "abcde<end>"),
        ({}, "abcdef", None),  # with its end it is longer than the reply of 6 tokens that the student may give
        ({}, Completion("abcde", finish_reason="length"), "abcde"),
        ({}, "a<end>b", None),
        ({}, "é", None),  # the student has no token for it
        ({"output": "int"}, "12", "12<end>"),
        ({"output": "int"}, " 12 ", " 12 <end>"),
        ({"output": "int"}, "It is 12.", "12<end>"),
        ({"output": "{enum: [yes, no]}"}, "Yes.", "yes<end>"),
        ({"output": "int", "theirs": "format: json"}, '{"word": 7}', "7<end>"),
    ],
)
def test_a_reply_is_put_in_the_form_that_the_program_reads(staged, how: dict[str, str], said: Any, learnt: Any) -> None:
    stage = staged(lambda request: said, **how)
    if learnt is None:
        with pytest.raises(Unfit):
            taught(stage, said)
    else:
        assert taught(stage, said) == learnt


def test_a_reply_of_the_same_model_keeps_the_tokens_that_were_sampled(staged) -> None:
    stage = staged(lambda request: "", lm="hf/MODEL")
    (teacher,) = stage.source.teachers.teachers
    made = asyncio.run(teacher.program.run({"text": "a"})).trace[0]
    # Tokens that say the same otherwise than the tokenizer would.
    odd = replace(made, text="ab", outputs={"word": "ab"}, token_ids=(0, 69, 70, 1))
    assert stage.source.teachers.taught(odd, teacher.program.plan, stage.policy.program).token_ids == (0, 69, 70, 1)
    elsewhere = replace(teacher.program.plan.lms["big"], model="hf/other")
    plan = replace(teacher.program.plan, lms={"big": elsewhere})
    assert stage.source.teachers.taught(odd, plan, stage.policy.program).token_ids == (69, 70, 1)
