"""What training follows: a reward beside the metric, by module too, with the trace and the other runs in scope."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog.compiler import compile_file
from lmprog.errors import LmprogError, ProviderError, UsageError
from lmprog.lms.lm import Completion, Request, Usage
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.comparisons import compare
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Wave, collect
from lmprog.scoring.evaluation import evaluate
from lmprog.scoring.metrics import Scorer

SPEC = """\
lmprog: 1
name: story
inputs: {topic: str}
outputs: {title: "${{ steps.name.title }}", story: "${{ steps.tell.story }}"}
lms:
  lm: {model: hf/nowhere, params: {max_tokens: 9}}
  judge: {model: openai/judge}
modules:
  name: {lm: lm, inputs: {topic: str}, outputs: {title: str}, instructions: Name it}
  tell: {lm: lm, inputs: {title: str}, outputs: {story: str}, instructions: Tell it}
steps:
  name: {module: name, with: {topic: "${{ inputs.topic }}"}}
  tell: {module: tell, with: {title: "${{ steps.name.title }}"}}
data: {train: rows.jsonl, dev: dev.jsonl}
metrics:
  length: {python: "./m.py:length", with: {text: "${{ outputs.story }}"}}
  brief: {value: "metrics.length - 0.01 * trace.modules.tell.reply_tokens - (0.5 if trace.cut > 0 else 0.0)", range: [-2, 1]}
  short_title:
    python: ./m.py:length
    with: {text: "${{ default(first(trace.modules.name.outputs.title), '') }}"}
    range: [0, 3]
  rank: {program: ./rank.yaml, with: {stories: "${{ runs.outputs.story }}", own: "${{ runs.index0 }}"}, lms: {judge: judge}}
  longest: {value: "1.0 if trace.reply_tokens == max(runs.reply_tokens) else 0.0"}
optimize:
  metric: length
  tune: {name: [weights], tell: [weights]}
  stages: [grpo: {rollouts: 3}]
"""
JUDGE = """\
lmprog: 1
name: rank
inputs: {stories: "list[str]", own: int}
outputs: {score: "${{ steps.rank.score }}"}
lms: {judge: {model: openai/judge}}
modules:
  rank:
    lm: judge
    inputs: {stories: "list[str]", own: int}
    outputs: {score: float}
    prompt: {user: "{{ stories | tojson }} {{ own }}"}
steps: {rank: {module: rank, with: {stories: "${{ inputs.stories }}", own: "${{ inputs.own }}"}}}
"""
METRICS = "def length(text: str) -> float:\n    return min(1.0, len(text) / 10)\n"


class Teller:
    """Names after the topic, and tells as many letters as its seed says; fails where it is told to."""

    def __init__(self, fails: int | None = None) -> None:
        """The run whose story is the `fails`-th to be asked for gets none, however often it is asked."""
        self.fails, self.seeds = fails, []

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        if "Tell it" not in str(request.messages):
            return Completion("ab", usage=Usage(5, 2))
        self.seeds.append(request.seed)
        if self.fails is not None and request.seed in self.seeds[self.fails : self.fails + 1]:
            raise ProviderError("gone")
        length = (request.seed or 0) % 9
        return Completion("x" * length, usage=Usage(7, length), finish_reason="length" if length == 8 else "stop")


class Judge:
    """Scores a story by its place among all of them, the longest first."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []

    async def complete(self, request: Request) -> Completion:
        written, _, place = request.messages[-1]["content"].rpartition(" ")
        stories, own = json.loads(written), int(place)
        self.asked.append((stories, own))
        shorter = sum(len(story) < len(stories[own]) for story in stories)
        return Completion(str(shorter / max(1, len(stories))), usage=Usage(9, 1))


@pytest.fixture
def story(tmp_path: Path) -> Callable[..., Path]:
    def write(*replacements: tuple[str, str]) -> Path:
        text = SPEC
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "story.yaml").write_text(text)
        (tmp_path / "rank.yaml").write_text(JUDGE)
        (tmp_path / "m.py").write_text(METRICS)
        for name, count in (("rows", 4), ("dev", 3)):
            rows = "".join(json.dumps({"topic": f"{name}{n}"}) + "\n" for n in range(count))
            (tmp_path / f"{name}.jsonl").write_text(rows)
        return tmp_path / "story.yaml"

    return write


def following(reward: str) -> tuple[str, str]:
    return "  metric: length\n", f"  metric: length\n  reward: {reward}\n"


def wave_of(path: Path, teller: Teller, judge: Judge | None = None, **options: Any) -> tuple[Wave, Reward]:
    program = lmprog.load(path, lms={"lm": teller, "judge": judge or Judge()})
    config = Config(**options)
    reward = Reward(program, "length", ["name", "tell"], config)
    rows = [{"topic": "a"}, {"topic": "b"}]
    how: dict[str, Any] = {"rollouts": 3, "params": {}, "format_failure": -1.0, "seed": 4}
    wave = asyncio.run(collect(program, rows, [0, 1], reward, **how))
    return Wave(tuple(reward.with_failures(wave.rollouts)), wave.lost), reward


def test_without_a_reward_training_follows_the_metric(story) -> None:
    wave, reward = wave_of(story(), Teller())
    assert (reward.lowest, reward.highest, reward.width("name")) == (0.0, 1.0, 1.0)
    for run in wave.rollouts:
        assert run.reward == len(run.invocations[-1].outputs["story"]) / 10 and run.rewards == {}


def test_length_and_format_are_plain_arithmetic_over_the_trace(story) -> None:
    wave, reward = wave_of(story(following("brief")), Teller())
    assert (reward.lowest, reward.highest) == (-2.0, 1.0)
    for run in wave.rollouts:
        length = len(run.invocations[-1].outputs["story"])
        assert run.reward == pytest.approx(length / 10 - 0.01 * length - 0.5 * (length == 8))


def test_modules_follow_rewards_of_their_own(story) -> None:
    wave, reward = wave_of(story(following("{name: short_title, tell: brief}")), Teller())
    assert reward.width("name") == 3.0 and reward.width("tell") == 3.0 and reward.width(None) == 3.0
    for run in wave.rollouts:
        length = len(run.invocations[-1].outputs["story"])
        tell = length / 10 - 0.01 * length - 0.5 * (length == 8)
        assert run.rewards == pytest.approx({"name": 0.2, "tell": tell})
        assert run.reward == pytest.approx((0.2 + tell) / 2)
    groups, values = compare(wave.rollouts, Config(), width=reward.width)
    by_module = {(group.example, group.module): found for group, found in zip(groups, values, strict=True)}
    assert by_module[0, "name"] == by_module[1, "name"] == [0.0] * 3
    assert any(by_module[0, "tell"]) and sum(by_module[0, "tell"]) == pytest.approx(0)


def test_a_module_without_one_follows_the_metric(story) -> None:
    wave, _ = wave_of(story(following("{name: short_title}")), Teller())
    for run in wave.rollouts:
        assert run.rewards == pytest.approx({"name": 0.2, "tell": len(run.invocations[-1].outputs["story"]) / 10})


@pytest.mark.parametrize("reward", ["rank", "longest"])
def test_a_reward_sees_the_other_runs_of_the_row(story, reward: str) -> None:
    judge = Judge()
    wave, _ = wave_of(story(following(reward)), Teller(), judge)
    for example in (0, 1):
        runs = [run for run in wave.rollouts if run.example == example]
        lengths = [len(run.invocations[-1].outputs["story"]) for run in runs]
        if reward == "rank":
            expected = [sum(other < own for other in lengths) / 3 for own in lengths]
        else:
            expected = [float(own == max(lengths)) for own in lengths]
        assert [run.reward for run in runs] == pytest.approx(expected)
    assert len(judge.asked) == (6 if reward == "rank" else 0)
    assert all(len(stories) == 3 and own in (0, 1, 2) for stories, own in judge.asked)


def test_runs_that_failed_are_compared_with_none(story) -> None:
    judge = Judge()
    wave, _ = wave_of(story(following("rank")), Teller(fails=1), judge)
    assert wave.lost == 1 and len(wave.rollouts) == 5
    assert sorted(len(stories) for stories, _ in judge.asked) == [2, 2, 3, 3, 3]


def test_a_metric_that_compares_scores_no_single_run(story) -> None:
    program = lmprog.load(story(), lms={"lm": Teller(), "judge": Judge()})
    assert Scorer(program, "longest").compares and not Scorer(program, "brief").compares
    with pytest.raises(UsageError, match="only a reward"):
        evaluate(program, [{"topic": "a"}], "longest")
    assert evaluate(program, [{"topic": "a"}], "brief").mean > -2  # a trace there is for any score


def found(path: Path) -> list[tuple[str, str]]:
    from lmprog.optimizers.optimizer import options_of

    compilation = compile_file(path, stage_configs=options_of)
    return [(each.code, each.message) for each in compilation.findings if each.code not in ("LMP602", "LMP502")]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ((following("brief"),), "", ""),
        ((following("{name: short_title, tell: brief}"),), "", ""),
        ((following("rank"),), "", ""),
        ((following("breif"),), "LMP103", "`reward` names `breif`"),
        ((following("{name: breif}"),), "LMP103", "`name` names `breif`"),
        ((following("{nam: brief}"),), "LMP103", "the module `nam`"),
        ((("metric: length", "metric: longest"),), "LMP603", "compares the runs of a row"),
        ((("max(runs.reply_tokens)", "max(runs.tokens)"), following("longest")), "LMP603", "no field `tokens`"),
        ((("trace.modules.tell.reply", "trace.modules.tel.reply"), following("brief")), "LMP203", "tel"),
        ((following("{name: brief}"), ("rollouts: 3", "level: trajectory")), "LMP702", "`level: trajectory`"),
        ((following("longest"), ("rollouts: 3", "teachers: [{program: ./story.yaml}]")), "", ""),
        ((following("brief"), ("grpo: {rollouts: 3}", "grpo: {rollouts: 3, format_failure: 1}")), "LMP702", "-2 to 1"),
        ((following("brief"), ("tune: {name: [weights], tell: [weights]}", "tune: {tell: [demos]}"),
          ("grpo: {rollouts: 3}", "bootstrap")), "LMP202", "no stage trains weights"),
        ((following("{name: brief}"), ("tune: {name: [weights], tell", "tune: {tell")), "LMP702", "`name`, whose weights"),
    ],
)  # fmt: skip
def test_what_check_says_of_a_reward(story, changes, code: str, said: str) -> None:
    path = story(*changes)
    if "teachers" in path.read_text():
        # A teacher of the program is the program without its teachers.
        path.with_name("plain.yaml").write_text(SPEC.replace("  judge: {model: openai/judge}\n", ""))
        path.write_text(path.read_text().replace("./story.yaml", "./plain.yaml"))
        code, said = "LMP702", "compares the runs of a row, and not those of teachers"
    findings = found(path)
    assert [each for each, _ in findings] == ([code] if code else []), findings
    assert all(said in message for _, message in findings), findings


def test_private_values_reach_a_judge_by_the_trace_and_by_the_runs(story) -> None:
    private = ("inputs: {topic: str}\noutputs", "inputs: {topic: {type: str, private: true}}\noutputs")
    for given in ("runs.outputs.story", "trace.modules.tell.replies", "trace.modules.tell.outputs.story"):
        path = story(private, following("rank"), ("runs.outputs.story", given))
        findings = found(path)
        assert [each for each, _ in findings] == ["LMP402"], (given, findings)
        assert "topic reaches judge (untrusted) of the judge rank" in findings[0][1]
    path = story(private, following("rank"), ("${{ runs.outputs.story }}", "${{ ['a'] }}"))
    assert found(path) == []


def test_the_most_that_a_judged_reward_asks_is_counted(story) -> None:
    from lmprog.compiler.bounds import calls
    from lmprog.optimizers.staged.stages import make

    plain, judged = (
        lmprog.load(story(*how), lms={"lm": Teller(), "judge": Judge()}) for how in ((), (following("rank"),))
    )
    assert (calls(plain.plan), calls(judged.plan)) == (2, 3)
    (stage,) = judged.plan.optimize.stages  # type: ignore[union-attr]
    assert make(stage).most_calls(judged, 4, 3) == make(stage).most_calls(plain, 4, 3) * 3 // 2


def test_modules_of_a_run_as_a_whole_follow_one_reward(story) -> None:
    program = lmprog.load(story(following("{name: brief}")), lms={"lm": Teller(), "judge": Judge()})
    with pytest.raises(LmprogError, match="level: trajectory"):
        Reward(program, "length", ["name", "tell"], Config(level="trajectory"))
