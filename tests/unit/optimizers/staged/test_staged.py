"""The runner of stages: the sealed test, resuming between stages, an optimizer of another package, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict

import lmprog
from lmprog.cli.progress import OptimizeProgress
from lmprog.errors import ProviderError, UsageError
from lmprog.lms.lm import Completion, Request
from lmprog.optimizers import optimizer as registry
from lmprog.optimizers.candidate import Candidate

STAGES = "  stages:\n    - prompt_search: {trials: 6, bootstrap_rows: 4, demos: [2], demo_sets: 2}\n"
TEST_NUMBERS = set(range(3000, 3020))


class Fixed:
    """An optimizer that proposes what it is told to; it looks at all that its task holds."""

    name: ClassVar[str] = "fixed"

    class Config(BaseModel):
        model_config = ConfigDict(extra="forbid")
        words: str

    made = 0

    def __init__(self, config: Config) -> None:
        self.config = config

    def most_calls(self, program, train: int, dev: int) -> int:
        return 0

    def optimize(self, task) -> Candidate:
        type(self).made += 1
        assert not {row["number"] for row in [*task.train, *task.dev]} & TEST_NUMBERS
        return Candidate(instructions={"judge": self.config.words})


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.BUILT_IN, "fixed", f"{__name__}:Fixed")
    monkeypatch.setattr(registry, "import_module", lambda name: __import__("sys").modules[name])
    Fixed.made = 0
    return Fixed


def stages(*words: str) -> tuple[str, str]:
    return (STAGES, "  stages:\n" + "".join(f"    - fixed: {{words: {text}}}\n" for text in words))


class Watched:
    """The script of the conftest, which remembers the numbers that it was asked about, in order."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(int(request.messages[-1]["content"]))
        knows = any("divide" in str(message["content"]).lower() for message in request.messages)
        return Completion(("odd", "even")[knows and self.asked[-1] % 2 == 0])


def run(spec: Path, folder: Path, **how):
    lm = Watched()
    tuned = lmprog.optimize(spec, lms={"judge": lm, "writer": lm}, run_dir=folder, out=folder / "out.yaml", **how)
    return tuned, lm


def test_the_test_rows_are_asked_once_after_the_last_stage(write_spec, fixed, tmp_path: Path) -> None:
    tuned, lm = run(write_spec(stages("Guess.", "Divide by two.")), tmp_path / "run")
    first = next(place for place, number in enumerate(lm.asked) if number in TEST_NUMBERS)
    assert set(lm.asked[first:]) == TEST_NUMBERS
    assert lm.asked[first:].count(3000) == 3  # before, after the first stage, after the second
    test = tuned.report["test"]
    assert (test["metric"], test["n"]) == ("accuracy", 20)
    assert (test["before"]["mean"], test["after"]["mean"], test["difference"]["mean"]) == (0.5, 1.0, 0.5)
    assert [stage["test"]["mean"] for stage in tuned.report["stages"]] == [0.5, 1.0]
    assert [stage["stage"] for stage in tuned.report["stages"]] == ["fixed", "fixed"]


def test_the_overlay_is_the_tuned_program(write_spec, fixed, tmp_path: Path) -> None:
    tuned, _ = run(write_spec(stages("Divide by two.")), tmp_path / "run")
    program = lmprog.load(tuned.overlay, lms={"judge": Watched(), "writer": Watched()})
    assert program.plan.modules["judge"].instructions == "Divide by two."
    assert program(number=8).outputs == {"parity": "even"}
    assert program.plan.tuned is not None and program.plan.tuned["seed"] == 0
    assert json.loads((tmp_path / "run" / "report.json").read_text()) == tuned.report


def test_no_test_split_gives_no_test(write_spec, fixed, tmp_path: Path) -> None:
    tuned, _ = run(write_spec(stages("Guess."), ("  test: test.jsonl\n", "")), tmp_path / "run")
    assert tuned.report["test"] is None


def test_an_optimizer_of_another_package_may_record_steps_of_its_own(
    write_spec, fixed, tmp_path: Path, monkeypatch, capsys
) -> None:
    def optimize(self, task) -> Candidate:
        task.journal.record_step("step", 1, reward="good")
        task.journal.record_step("step", 2, reward=0.5)
        return Candidate()

    monkeypatch.setattr(fixed, "optimize", optimize)
    spec = write_spec(stages("Guess."), ("  test: test.jsonl\n", ""))
    tuned, _ = run(spec, tmp_path / "run", listen=OptimizeProgress().listen)
    (stage,) = tuned.report["stages"]
    assert (stage["steps"], stage["step_seconds"]) == (2, 0.0)
    said = capsys.readouterr().err
    assert "  step 1\n" in said and "  step 2  reward 0.50\n" in said


def test_resume_does_no_finished_stage_again(write_spec, fixed, tmp_path: Path) -> None:
    spec, folder = write_spec(stages("Guess.", "Divide by two.")), tmp_path / "run"
    whole, _ = run(spec, folder)
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    ended = next(place for place, line in enumerate(lines) if '"stage/1-fixed"' in line)
    (folder / "journal.jsonl").write_text("".join(lines[: ended + 1]))
    Fixed.made = 0
    resumed, _ = run(spec, folder, resume=True)
    assert Fixed.made == 1
    assert resumed.report["test"] == whole.report["test"]
    _, lm = run(spec, folder, resume=True)
    assert lm.asked == []


@pytest.mark.slow
def test_outages_of_test_rows_are_left_out_said_and_scored_again_on_resume(write_spec, fixed, tmp_path: Path) -> None:
    spec, folder = write_spec(stages("Divide by two.")), tmp_path / "run"

    class Down(Watched):
        """Is not there for some of the rows while the tuned program is tested."""

        lost = frozenset({3000, 3001})

        async def complete(self, request: Request) -> Completion:
            completion = await super().complete(request)
            if self.asked[-1] in self.lost and "Divide" in str(request.messages):
                raise ProviderError("down")
            return completion

    lm = Down()
    tuned = lmprog.optimize(spec, lms={"judge": lm, "writer": lm}, run_dir=folder, out=folder / "out.yaml")
    test = tuned.report["test"]
    assert (test["n"], test["outages"], test["failures"]) == (
        18,
        {"before": 0, "after": 2},
        {"before": {}, "after": {}},
    )
    assert (test["before"]["mean"], test["after"]["mean"]) == (0.5, 1.0)  # on the rows that are compared
    assert test["doubt"].startswith(
        "outages left too many rows without a score (before 0 of 20 rows (0%), after 2 of 20"
    )
    resumed, lm = run(spec, folder, resume=True)
    test = resumed.report["test"]
    assert (test["n"], test["outages"], test["doubt"]) == (20, {"before": 0, "after": 0}, None)
    assert sorted(lm.asked) == [3000, 3001]  # what was answered is kept
    assert "doubt" not in (folder / "out.yaml").read_text()


def test_test_rows_that_an_on_error_answered_are_counted_also_by_a_resumed_run(
    write_spec, fixed, tmp_path: Path
) -> None:
    given = '{number: "${{ inputs.number }}"}}'
    spec = write_spec(stages("Divide by two."), (given, f"{given[:-1]}, on_error: {{parity: odd}}}}"))
    folder = tmp_path / "run"

    class Down(Watched):
        """Does not answer one of the test rows."""

        async def complete(self, request: Request) -> Completion:
            if request.messages[-1]["content"] == "3003":
                raise ProviderError("down")
            return await super().complete(request)

    lm = Down()
    tuned = lmprog.optimize(spec, lms={"judge": lm, "writer": lm}, run_dir=folder, out=folder / "out.yaml")
    one = [{"step": "judge", "kind": "provider", "count": 1, "first": "row 3: judge: down"}]
    assert tuned.report["test"]["recovered"] == {"before": one, "after": one}
    assert tuned.report["test"]["outages"] == {"before": 0, "after": 0}
    assert "recovered" not in (folder / "out.yaml").read_text()
    resumed, lm = run(spec, folder, resume=True)
    assert (resumed.report["test"]["recovered"], lm.asked) == ({"before": one, "after": one}, [])


def test_a_run_directory_is_one_runs_own(write_spec, fixed, tmp_path: Path) -> None:
    spec, folder = write_spec(stages("Guess.")), tmp_path / "run"
    with pytest.raises(UsageError, match="there is no run in"):
        run(spec, folder, resume=True)
    run(spec, folder)
    with pytest.raises(UsageError, match="holds a run already"):
        run(spec, folder)
    with pytest.raises(UsageError, match="another seed"):
        run(spec, folder, resume=True, seed=5)
    with pytest.raises(UsageError, match=r"begun from something else: `optimize.stages\[0\]` is changed"):
        run(spec, folder, resume=True, overrides={"optimize.stages": [{"fixed": {"words": "Look."}}]})
    spec.write_text(spec.read_text().replace("Say something.", "Say something else."))
    with pytest.raises(UsageError, match=r"`modules.judge.instructions` is changed"):
        run(spec, folder, resume=True)


def test_an_unknown_optimizer_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no optimizer 'mipro'; installed are .*grpo, prompt_search"):
        registry.find("mipro")


def test_the_kept_options_are_those_of_the_configs() -> None:
    assert registry.OPTIONS.read_text() == registry.written_options(), "run python -m lmprog.optimizers.optimizer"
