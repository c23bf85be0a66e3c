"""`lmprog credit`: shares and gains through the command line, on a server that draws its replies."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPEC = """
    lmprog: 1
    name: chain
    inputs: {text: str}
    outputs: {said: "${{ steps.answer.said }}"}
    lms: {student: {model: openai/student, api_base: URL, api_key: none, trusted: true, context: 2000, cache: false,
                    price: {input: 1.0, output: 4.0}, params: {max_tokens: 9, temperature: 1.0}}}
    modules:
      query: {lm: student, inputs: {text: str}, outputs: {words: str}, instructions: Ask}
      answer: {lm: student, inputs: {words: str}, outputs: {said: str}, instructions: Reply}
    steps:
      query: {module: query, with: {text: "${{ inputs.text }}"}}
      answer: {module: answer, with: {words: "${{ steps.query.words }}"}}
    data: {dev: dev.jsonl}
    metrics:
      right: {python: "./metrics.py:right", with: {said: "${{ outputs.said }}"}}
"""
TUNED = """
    lmprog: 1
    extends: ./program.yaml
    modules: {query: {instructions: Ask well}, answer: {instructions: Reply well}}
"""


class World:
    """`answer` is right half of the time where the query is good, always where it is tuned, and never after a bad query.

    A query is good half of the time, and always where it is tuned; no two are alike. All is drawn by the seed and the prompt.
    """

    def __init__(self, counted: Callable[[str, int, int], Any]) -> None:
        self.counted, self.lock = counted, threading.Lock()
        self.asked = 0

    def __call__(self, body: dict[str, Any]) -> Any:
        system, last = body["messages"][0]["content"], body["messages"][-1]["content"]
        with self.lock:
            self.asked += 1
        draw = random.Random(f"{body['seed']} {last}")
        drawn = draw.random() < 0.5 or "well" in system
        if "Ask" in system:
            text = f"{'good' if drawn else 'bad'} {draw.random():.6f}"
        else:
            text = "yes" if drawn and "good" in last else "no"
        return self.counted(text, 20, 3)


@pytest.fixture
def chain(write, provider) -> Path:
    write("".join(json.dumps({"text": f"question {n}"}) + "\n" for n in range(30)), "dev.jsonl")
    write("def right(said: str) -> bool:\n    return said == 'yes'\n", "metrics.py")
    provider.answer = World(provider.counted)
    write(TUNED, "tuned.yaml")
    spec: Path = write(SPEC.replace("URL", f'"{provider.url}"'))
    return spec


@pytest.mark.slow
def test_shares_sum_to_one_and_are_as_they_must_be(cli, chain, provider) -> None:
    status, out, err = cli("credit", chain, "--format", "json", "--limit", 12)
    assert status == 0, err
    found = json.loads(out)
    query, answer = found["modules"]
    # The reward is 1 with 1/4: its variance is 3/16, of which 1/16 is that of the query's quality.
    assert query["share"]["mean"] == pytest.approx(1 / 3, abs=0.2)
    assert query["share"]["mean"] + answer["share"]["mean"] == pytest.approx(1)
    assert query["share"]["ci95"][0] < 1 / 3 < query["share"]["ci95"][1]
    assert (found["rows"], found["repeats"], query["calls"], query["reached"]["mean"]) == (12, 8, 1, 1)
    assert found["spent"]["lm_calls"] == provider.answer.asked == 12 * 8 * 3
    assert found["rest"]["mean"] == 0 and found["lost"] == {} and found["split"] == "dev"


@pytest.mark.slow
def test_each_module_alone_against_all_together(cli, chain, provider) -> None:
    tuned = chain.with_name("tuned.yaml")
    options = [tuned, "--against", chain, "--limit", 30, "--repeats", 2]
    bound = json.loads(cli("credit", *options, "--dry-run", "--format", "json")[1])
    assert provider.answer.asked == 0 and bound["unknown"] == [] and bound["bounded"]
    status, out, err = cli("credit", *options, "--format", "json")
    assert status == 0, err
    found = json.loads(out)["tuned_alone"]
    assert found["together"]["mean"] == 1 and found["together"]["gain"]["ci95"][0] > 0.4
    assert found["alone"]["query"]["mean"] == pytest.approx(0.5, abs=0.25)
    assert found["alone"]["answer"]["gain"]["n"] == 30
    assert 0 < provider.answer.asked <= bound["in_all"]["lm_calls"]
    status, out, _ = cli("credit", *options)
    assert status == 0 and "all runs of a row score the same" in out
    assert "+ answer" in out and "all together beyond the sum of each alone" in out


def test_a_person_sees_shares_and_cost(cli, chain) -> None:
    status, out, _ = cli("credit", chain, "--limit", 4, "--repeats", 4)
    assert status == 0
    assert "right " in out and "over 4 rows, 4 runs of each" in out
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["module", "query", "answer"]
    assert "48 LM calls, 960 + 144 tokens" in out


@pytest.mark.slow
def test_a_spent_budget_reports_what_was_done_and_exits_with_1(cli, chain, provider) -> None:
    status, out, _ = cli("credit", chain, "--budget", "lm_calls=150", "--format", "json")
    found = json.loads(out)
    assert status == 1 and found["rows"] == 4 and "after 4 of 30 rows" in found["note"]
    assert provider.answer.asked <= 150
    status, _, err = cli("credit", chain, "--budget", "lm_calls=5")
    assert status == 1 and "the budget of 5 lm calls is spent" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repeats", 1], "--repeats"),
        (["--metric", "other"], "no metric 'other'"),
        (["--split", "test"], "no data split 'test'"),
        (["--against", "SPEC"], "no module of program.yaml has other words"),
    ],
)
def test_wrong_usage(cli, chain, options: list[Any], said: str) -> None:
    status, _, err = cli("credit", chain, *(chain if option == "SPEC" else option for option in options))
    assert status == 2 and said in err


def test_failures_of_the_provider_are_told_and_exit_with_3(cli, chain, provider) -> None:
    world = provider.answer
    provider.answer = lambda body: (400, {}, "{}") if body["messages"][-1]["content"] == "question 1" else world(body)
    status, out, _ = cli("credit", chain, "--limit", 3, "--repeats", 2)
    assert status == 3 and "over 2 rows" in out and "2 runs failed (provider) and not scored" in out
