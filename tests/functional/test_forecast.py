"""`lmprog optimize --dry-run`: no optimizer exceeds it, prices and contexts that are unknown are named, time is an estimate."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPEC = """
    lmprog: 1
    name: parity
    inputs: {number: int}
    outputs: {parity: "${{ steps.judge.parity }}"}
    lms:
      student: {model: openai/student, api_base: URL, api_key: none, trusted: true, params: {max_tokens: 9},
                context: 2000, price: {input: 1.0, output: 4.0}}
      writer: {model: openai/writer, api_base: URL, api_key: none, trusted: true, params: {max_tokens: 40},
               context: 8000, price: {input: 10.0, output: 40.0}}
    modules:
      judge:
        lm: student
        inputs: {number: int}
        outputs: {parity: {type: {enum: [odd, even]}}}
        instructions: Say something.
        retry: 1
    steps:
      judge: {module: judge, with: {number: "${{ inputs.number }}"}}
    data: {train: train.jsonl, dev: dev.jsonl, test: test.jsonl}
    metrics:
      right: {python: "./metrics.py:right", with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}}
      liked: {program: ./liked.yaml, with: {found: "${{ outputs.parity }}", wanted: "${{ row.parity }}"}}
      both: {value: "(metrics.right + metrics.liked) / 2"}
    optimize:
      metric: both
      proposer: writer
      tune: {judge: [instructions, demos]}
      stages: STAGES
"""
LIKED = """
    lmprog: 1
    name: liked
    inputs: {found: str, wanted: str}
    outputs: {score: "${{ steps.score.score }}"}
    lms: {judge: {model: openai/judge, api_base: URL, api_key: none, params: {max_tokens: 5}, context: 500,
                  trusted: true, price: {input: 2.0, output: 2.0}}}
    modules: {score: {lm: judge, inputs: {found: str, wanted: str}, outputs: {score: int}, instructions: "1 or 0?"}}
    steps: {score: {module: score, with: {found: "${{ inputs.found }}", wanted: "${{ inputs.wanted }}"}}}
"""
STAGES = {
    "bootstrap": "[{bootstrap: {sets: 4, demos: 3, rows: 6}}]",
    "prompt_search": "[{prompt_search: {trials: 6, demos: [2, 4], demo_sets: 3, bootstrap_rows: 6, proposals: 3}}]",
    "gepa": "[{gepa: {max_metric_calls: 120}}]",
    "one after the other": "[{bootstrap: {sets: 2, demos: 2, rows: 4}}, {gepa: {max_metric_calls: 80}}]",
}
PRICES = {"student": (1.0, 4.0), "writer": (10.0, 40.0), "judge": (2.0, 2.0)}


class World:
    """Answers for all three LMs, and counts tokens as unkindly as a tokenizer in use may; most first replies are unreadable."""

    def __init__(self, reply: Callable[[str, int, int], Any]) -> None:
        self._reply = reply
        self.asked: dict[str, int] = dict.fromkeys(PRICES, 0)
        self.prompt = self.completion = 0
        self.usd = 0.0
        self._lock = threading.Lock()

    def __call__(self, body: dict[str, Any]) -> Any:
        model = body["model"].removeprefix("openai/")
        with self._lock:
            count = self.asked[model] = self.asked[model] + 1
        said = "\n".join(str(message["content"]) for message in body["messages"])
        last = str(body["messages"][-1]["content"])
        if model == "writer":
            text = ("Guess.", "Name what {{ breaks }}.", "Divide by two, and look.")[count % 3]
            text = f"<instructions>{text}</instructions>\n```\n{text}\n```"
        elif model == "judge":
            text = "1" if "even" in last else "0"
        elif count % 3 and "cannot be read" not in last:
            text = "I do not know, and say so at length."
        else:
            number = next(int(m["content"]) for m in reversed(body["messages"]) if str(m["content"]).isdigit())
            text = "even" if "divide by two" in said.lower() and number % 2 == 0 else "odd"
        prompt = sum(len(str(message["content"]).encode()) // 2 + 16 for message in body["messages"])
        reply = min(body["max_tokens"], len(text))
        with self._lock:
            self.prompt += prompt
            self.completion += reply
            self.usd += (prompt * PRICES[model][0] + reply * PRICES[model][1]) / 1e6
        return self._reply(text, prompt, reply)


@pytest.fixture
def parity(write, provider) -> Callable[..., Path]:
    """The program with its rows, its stages as given; replacements are made in the text."""

    def make(stages: str, *replacements: tuple[str, str]) -> Path:
        for name, first, count in (("train", 1000, 12), ("dev", 2000, 24), ("test", 3000, 6)):
            rows = [{"number": n, "parity": ("odd", "even")[n % 2 == 0]} for n in range(first, first + count)]
            write("".join(json.dumps(row) + "\n" for row in rows), f"{name}.jsonl")
        write("def right(found: str, wanted: str) -> bool:\n    return found == wanted\n", "metrics.py")
        write(LIKED.replace("URL", f'"{provider.url}"'), "liked.yaml")
        text = SPEC.replace("URL", f'"{provider.url}"').replace("STAGES", stages)
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        return write(text)

    return make


@pytest.mark.slow
@pytest.mark.parametrize("stages", STAGES.values(), ids=STAGES)
def test_no_optimizer_exceeds_its_bounds(cli, parity, provider, tmp_path: Path, stages: str) -> None:
    world = provider.answer = World(provider.counted)
    spec = parity(stages)
    status, out, _ = cli("optimize", spec, "--dry-run", "--format", "json")
    bound = json.loads(out)
    assert status == 0 and bound["unknown"] == [] and bound["bounded"] and sum(world.asked.values()) == 0
    for part in [*bound["parts"], bound["in_all"]]:
        assert all(0 <= part["estimate"][key] <= part[key] for key in part["estimate"])
    assert 0 < bound["in_all"]["estimate"]["usd"] < bound["in_all"]["usd"]
    status, out, err = cli("optimize", spec, "--run-dir", tmp_path / "run", "--format", "json")
    assert status == 0, err
    report = json.loads(out)
    searching = bound["parts"][: len(report["stages"])]
    for stage, most in zip(report["stages"], searching, strict=True):
        assert 0 < stage["lm_calls"] <= most["lm_calls"]
    for key in ("lm_calls", "prompt_tokens", "completion_tokens", "usd"):
        assert 0 < report["spent"][key] <= sum(part[key] for part in searching), key
    most = bound["in_all"]
    assert sum(world.asked.values()) <= most["lm_calls"] == sum(bound["most_lm_calls"].values())
    assert world.prompt <= most["prompt_tokens"] and world.completion <= most["completion_tokens"]
    assert world.usd <= most["usd"]
    assert world.asked["judge"] > 0 and (world.asked["writer"] > 0 or "bootstrap" in stages)


def test_what_is_not_known_is_named_and_nothing_is_made_up(cli, parity) -> None:
    spec = parity(STAGES["gepa"], ("context: 8000, price: {input: 10.0, output: 40.0}", "cache: false"))
    status, out, _ = cli("optimize", spec, "--dry-run", "--budget", "lm_calls=9", "--format", "json")
    assert status == 0
    found = json.loads(out)
    search, dev, _ = found["parts"]
    assert search["lm_calls"] > 0 and search["prompt_tokens"] is None and search["usd"] is None
    assert dev["prompt_tokens"] > 0 and dev["usd"] > 0
    assert found["in_all"]["usd"] is None and found["budget"] == {"lm_calls": 9}
    assert any("price of 'writer'" in line for line in found["unknown"])
    assert any("lms.writer.context" in line for line in found["unknown"])
    shown = cli("optimize", spec, "--dry-run", "--budget", "lm_calls=9")[1]
    assert "the price of 'writer' (openai/writer) is unknown: write lms.writer.price" in shown
    assert "parity: at most" in shown and "parity: estimated" in shown and "1/4 of `max_tokens`" in shown
    assert "unknown" in shown and "the search ends where it would exceed 9 lm calls" in shown


def test_the_time_is_by_the_limits_then_by_a_finished_run(cli, parity, tmp_path: Path) -> None:
    slow = (
        "trusted: true, params: {max_tokens: 9}",
        "trusted: true, limits: {requests_per_minute: 6}, params: {max_tokens: 9}",
    )
    spec = parity(STAGES["bootstrap"], slow)

    def said(*more: object) -> dict[str, Any]:
        return json.loads(cli("optimize", spec, "--dry-run", "--format", "json", *more)[1])

    before = said()
    dev = before["parts"][1]
    # 24 rows twice, of at most 2 tries at 6 a minute, and 48 calls of the judge at 2 s each, 24 at a time or more.
    assert 960 < dev["seconds"] <= 960 + 2 * 48
    assert "2 seconds a call" in before["time"]
    run = tmp_path / "run"
    run.mkdir()
    stage = {"stage": "bootstrap", "lm_calls": 100, "seconds": 50.0}
    (run / "report.json").write_text(json.dumps({"spent": {"lm_calls": 100, "seconds": 200.0}, "stages": [stage]}))
    after = said("--run-dir", run)
    assert str(run) in after["time"]
    assert after["parts"][0]["seconds"] == after["parts"][0]["lm_calls"] / 2
    assert after["parts"][1]["seconds"] == after["parts"][1]["lm_calls"] * 2


def test_a_model_in_this_process_has_no_rate_until_one_is_measured(cli, parity) -> None:
    spec = parity(STAGES["bootstrap"])
    status, out, _ = cli("optimize", spec, "--dry-run", "--lm", "student=embedded/smollm2-135m")
    assert status == 0 and "time: unknown for a model in this process" in out
