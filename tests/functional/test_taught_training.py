"""`lmprog optimize` with teachers: programs whose runs join those of a small model that gets nothing right by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the extra 'local'")

pytestmark = pytest.mark.model

STUDENT = """
lmprog: 1
name: words
inputs: {text: str}
lms:
  lm: {model: hf/MODEL, params: {max_tokens: 4}}
modules:
  say: {lm: lm, inputs: {text: str}, outputs: {word: str}, instructions: Say it}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  right: {python: ./metrics.py:right, with: {word: "${{ outputs.word }}"}}
optimize:
  metric: right
  accept: point
  tune: {say: [weights]}
  stages:
    - grpo:
        steps: STEPS
        examples: 4
        rollouts: 3
        learning_rate: 0.02
        evaluate_every: 8
        no_signal: drop
        lora: {rank: 4, alpha: 8}
        teachers: TEACHERS
"""
BIG = """
lmprog: 1
extends: ./program.yaml
lms:
  lm: {model: openai/big, api_base: BASE, api_key: none, price: {input: 1.0, output: 2.0}, params: {temperature: 1.0}}
modules:
  say: {instructions: Say the word}
"""
WORDY = """
lmprog: 1
extends: ./program.yaml
lms:
  lm: {params: {temperature: 1.0}}
modules:
  say: {instructions: Say another}
"""
METRICS = "def right(word: str) -> bool:\n    return word == 'abc'\n"


@pytest.fixture
def words(tiny_model, write, provider) -> Callable[..., Path]:
    """Writes a program that is to say a word which it never says, and its teachers."""

    def make(teachers: str, steps: int = 16) -> Path:
        write(METRICS, "metrics.py")
        for name, count in (("rows.jsonl", 8), ("dev.jsonl", 12)):
            write("".join(json.dumps({"text": f"{name[0]}{n}"}) + "\n" for n in range(count)), name)
        write(BIG.replace("BASE", provider.url), "big.yaml")
        write(WORDY, "wordy.yaml")
        text = STUDENT.replace("MODEL", str(tiny_model())).replace("TEACHERS", teachers).replace("STEPS", str(steps))
        return write(text)

    return make


def steps_of(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


def test_a_bigger_teacher_gives_a_signal_where_all_runs_of_the_program_fail(cli, words, provider) -> None:
    def answer(body: dict[str, Any]) -> str:
        assert "Say the word" in str(body["messages"])
        return "abc" if "r" in body["messages"][-1]["content"] else "wrong"

    provider.answer = answer
    spec = words("[{program: big.yaml, rollouts: 1}]")
    status, out, err = cli("optimize", spec, "--dry-run", "--format", "json")
    assert status == 0, err
    # 16 steps of 4 examples, each run 3 times and once by the teacher, and dev scored 3 times, and once more before and after;
    # a probe of 8 rows, each run greedily and 3 times at each of 4 temperatures.
    stage, after = json.loads(out)["parts"][:2]
    assert (stage["lm_calls"], after["lm_calls"]) == (16 * 4 * (3 + 1) + 3 * 12 + 8 * (1 + 4 * 3), 2 * 12)
    assert stage["usd"] > 0
    status, out, err = cli("optimize", spec, "--run-dir", spec.parent / "run", "--format", "json")
    assert status == 0, err
    report = json.loads(out)
    steps = steps_of(spec.parent / "run")
    assert len(steps) == 16 and len(provider.requests) == 16 * 4
    # No run of the program is right at any temperature, so that the probe has tried all.
    assert report["spent"]["lm_calls"] == 16 * 4 * 4 + 3 * 12 + 8 * (1 + 4 * 3)
    assert steps[0]["reward"] == 0.0 and steps[0]["without_signal"] == 0
    assert steps[0]["teachers"]["big.yaml"] == {"rollouts": 4, "reward": 1.0, "lost": 0, "failed": 0, "unfit": 0}
    assert report["stages"][0]["validate"]["mean"] >= 0.5
    assert cli("check", spec.with_name("program.tuned.yaml"))[0] == 0


def test_without_a_teacher_it_has_no_signal(cli, words) -> None:
    spec = words("[]", steps=1)
    status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert status == 0, err
    (step,) = steps_of(spec.parent / "run")
    assert step["without_signal"] == step["examples"] == 4 and "teachers" not in step


def test_a_step_that_was_cut_asks_a_teacher_nothing_again_and_ends_the_same(cli, words, provider, monkeypatch) -> None:
    from lmprog.optimizers.grpo.stage import WeightStage

    provider.answer = lambda body: "abc"
    teachers = "[{program: big.yaml, rollouts: 1}, {program: wordy.yaml, rollouts: 2}]"
    spec = words(teachers, steps=3)

    def optimized(folder: str, *more: str) -> tuple[int, str]:
        status, _, err = cli("optimize", spec, "--run-dir", spec.parent / folder, *more)
        return status, err

    assert optimized("whole")[0] == 0
    asked = len(provider.requests)
    inner = WeightStage.end_of_step

    def cut(self: WeightStage, step: int, *figures: Any) -> None:
        if step == 2:
            raise KeyboardInterrupt
        inner(self, step, *figures)

    monkeypatch.setattr(WeightStage, "end_of_step", cut)
    assert optimized("cut")[0] == 130
    assert len(provider.requests) == asked + 2 * 4
    monkeypatch.setattr(WeightStage, "end_of_step", inner)
    with spec.with_name("big.yaml").open("a") as file:
        file.write("description: Nothing that it does has changed.\n")
    status, err = optimized("cut", "--resume")
    assert status == 0, err
    assert len(provider.requests) == 2 * asked
    whole, again = (
        (spec.parent / folder / "1-grpo/adapters-3/lm/adapter_model.safetensors") for folder in ("whole", "cut")
    )
    assert whole.read_bytes() == again.read_bytes()
    figures = [
        [
            {key: value for key, value in step.items() if key in ("reward", "loss", "teachers")}
            for step in steps_of(folder)
        ]
        for folder in (spec.parent / "whole", spec.parent / "cut")
    ]
    assert figures[0] == figures[1]
    spec.with_name("big.yaml").write_text(spec.with_name("big.yaml").read_text().replace("the word", "a word"))
    status, err = optimized("cut", "--resume")
    assert status == 2 and "was begun from something else" in err


def test_private_values_do_not_reach_a_teacher_that_is_not_trusted(cli, words) -> None:
    spec = words("[{program: big.yaml}, {program: wordy.yaml}]")
    spec.write_text(
        spec.read_text().replace("inputs: {text: str}\nlms", "inputs: {text: {type: str, private: true}}\nlms")
    )
    status, out, err = cli("check", spec)
    assert status == 1
    assert "the private value inputs.text reaches lm (untrusted)" in out + err
    assert "path: inputs.text (private) -> big.yaml: say.text -> lm (untrusted)" in out + err
    assert "wordy.yaml: say" not in out + err


def test_in_fast_slow_replies_are_learnt_with_the_prompts_of_the_population(cli, words, provider, monkeypatch) -> None:
    from lmprog.optimizers.grpo.sampler import Sampler

    sent: dict[bool, set[str]] = {True: set(), False: set()}
    inner = Sampler._of_trained

    def seen(self: Sampler, invocations: Any) -> Any:
        for made in inner(self, invocations):
            sent[made.text == "abc"].add(str(made.messages[0]["content"]))
        return inner(self, invocations)

    monkeypatch.setattr(Sampler, "_of_trained", seen)
    provider.answer = lambda body: "abc"
    spec = words("[{program: big.yaml, rollouts: 3}]", steps=1)
    text = spec.read_text().replace("- grpo:", "- fast_slow:").replace("say: [weights]", "say: [weights, instructions]")
    text = text.replace("steps: 1", "steps: 1\n        every: 1\n        trials: 2\n        rows: 4")
    spec.write_text(text + "  instructions: {say: [Say that]}\n")
    status, _, err = cli("optimize", spec, "--run-dir", spec.parent / "run")
    assert status == 0, err
    assert sent[True] and sent[True] == sent[False] <= {"Say it", "Say that"}
    (step,) = steps_of(spec.parent / "run")
    assert step["teachers"]["big.yaml"]["rollouts"] == 12
    assert sum(member["rollouts"] for member in step["prompts"].values()) == 12
    assert cli("check", spec.with_name("program.yaml"))[0] == 0
