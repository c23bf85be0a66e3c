"""`fallback` and `balance` of LMs: which answers, what is counted and traced, and what is no outage."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import Completion, ProviderError, Request

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms:
      main: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed, params: {temperature: 0.25},
        limits: {tries: 2}, fallback: [other]}
      other: {model: openai/y, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed, params: {max_tokens: 9},
        limits: {tries: 1}, fallback: [last]}
      last: {model: openai/z, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed, limits: {tries: 1}}
    modules:
      sort: {lm: main, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Sort.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
    data: {test: test.jsonl}
    metrics:
      exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}}
    tests:
      one: {inputs: {text: "1"}, expect: {label: refund}}
"""
DOWN = (503, {}, json.dumps({"error": {"message": "down"}}))
CROWDED = (429, {}, json.dumps({"error": {"message": "slow down"}}))
WRONG_KEY = (401, {}, json.dumps({"error": {"message": "who are you"}}))


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setattr("lmprog.lms.api.FIRST_WAIT", 0.0)
    write("def exact(label, wanted):\n    return label == wanted\n", "metrics.py")
    write("".join(json.dumps({"text": str(index), "label": "refund"}) + "\n" for index in range(12)), "test.jsonl")
    return write(SPEC)


def answers(provider, **by_model: Any) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Any:
        bodies.append(body)
        return by_model[body["model"]]

    provider.answer = answer
    return bodies


@pytest.mark.parametrize(("failure", "tries"), [(DOWN, 2), (CROWDED, 2), (WRONG_KEY, 1)])
def test_an_outage_is_answered_by_the_next(cli, spec, provider, tmp_path, failure, tries) -> None:
    bodies = answers(provider, x=failure, y="refund")
    trace = tmp_path / "calls.jsonl"
    status, out, err = cli("eval", spec, "--format", "json", "--trace", trace)
    found = json.loads(out)
    assert (status, err, found["mean"], found["errors"]) == (0, "", 1.0, 0)
    assert (found["usage"]["lm_calls"], found["usage"]["answered_by"], found["usage"]["passed_over"]) == (
        12,
        {"other": 12},
        {"main": 12},
    )
    assert Counter(body["model"] for body in bodies) == {"x": 12 * tries, "y": 12}
    # Each has its own parameters.
    assert all(
        (body.get("temperature"), body.get("max_tokens")) == (None, 9) for body in bodies if body["model"] == "y"
    )
    record = json.loads(trace.read_text().splitlines()[0])
    assert record["lm"] == "other" and "openai/x gave no answer" in record["passed_over"]["main"]
    shown = cli("trace", trace)[1]
    assert "answered by other: 12 calls" in shown and "no reply of main: 12 calls" in shown


def test_the_fallback_of_a_fallback_is_next(cli, spec, provider) -> None:
    answers(provider, x=DOWN, y=DOWN, z="refund")
    status, out, _ = cli("run", spec, "--input", "text=1")
    assert (status, "refund" in out) == (0, True)


def test_where_none_answers_all_are_named(cli, spec, provider) -> None:
    answers(provider, x=DOWN, y=DOWN, z=WRONG_KEY)
    status, _, err = cli("run", spec, "--input", "text=1")
    assert status == 3
    for said in ("main: openai/x gave no answer (tried 2 times)", "other: openai/y gave no answer", "last: openai/z"):
        assert said in err


def test_a_reply_that_cannot_be_read_is_no_outage(cli, spec, provider) -> None:
    bodies = answers(provider, x="what?")
    status, out, _ = cli("eval", spec, "--format", "json")
    found = json.loads(out)
    assert (status, found["unreadable"], {body["model"] for body in bodies}) == (0, 12, {"x"})
    assert found["usage"]["answered_by"] == {"main": 12} and found["usage"]["passed_over"] == {}


def test_a_recording_replays_whoever_answered(cli, spec, provider, tmp_path) -> None:
    answers(provider, x=DOWN, y="refund")
    assert cli("test", spec, "--record", tmp_path / "calls.jsonl")[0] == 0
    answers(provider)
    assert cli("test", spec, "--replay", tmp_path / "calls.jsonl")[0] == 0


@pytest.mark.slow
def test_balanced_lms_share_the_calls_in_the_same_way_every_time(cli, write, spec, provider) -> None:
    write(SPEC.replace("fallback: [other]", "balance: [other]"))
    shares = []
    for _ in range(2):
        bodies = answers(provider, x="refund", y="refund")
        status, out, _ = cli("eval", spec, "--format", "json", "--concurrency", 1 + len(shares))
        assert status == 0
        shares.append({body["messages"][-1]["content"]: body["model"] for body in bodies})
    assert shares[0] == shares[1] and set(shares[0].values()) == {"x", "y"}
    assert json.loads(out)["usage"]["answered_by"].keys() == {"main", "other"}
    answers(provider, x="refund", y=DOWN)
    status, out, _ = cli("eval", spec, "--format", "json")
    usage = json.loads(out)["usage"]
    assert (status, usage["answered_by"]) == (0, {"main": 12}) and usage["passed_over"].keys() == {"other"}


class Scripted:
    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Completion(text=self.answer)


def test_lms_put_in_by_hand_answer_for_each_other(spec) -> None:
    main, other = Scripted(ProviderError("away")), Scripted("refund")
    program = lmprog.load(spec, lms={"main": main, "other": other, "last": Scripted("billing")})
    result = program(text="1")
    (made,) = result.trace
    assert (result.outputs, made.lm, made.passed_over) == ({"label": "refund"}, "other", {"main": "away"})
    main.answer = lmprog.UsageError("wrong")
    with pytest.raises(lmprog.UsageError, match="wrong"):
        program(text="1")


def test_a_judge_falls_back_too(cli, write, spec, provider) -> None:
    write(
        """
        lmprog: 1
        lms:
          critic: {model: openai/c, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed,
            limits: {tries: 1}, fallback: [more]}
          more: {model: openai/d, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}
        modules: {judge: {lm: critic, inputs: {label: str}, outputs: {score: float}}}
        """,
        "judge.yaml",
    )
    write(
        SPEC.replace(
            "    tests:", '      polite: {program: ./judge.yaml, with: {label: "${{ outputs.label }}"}}\n    tests:'
        )
    )
    answers(provider, x="refund", c=DOWN, d="0.5")
    status, out, _ = cli("eval", spec, "--metric", "polite", "--format", "json")
    found = json.loads(out)
    assert (status, found["mean"], found["judges"]["answered_by"]) == (0, 0.5, {"more": 12})


def test_budgets_and_estimates_count_the_dearest(cli, write, spec, provider) -> None:
    prices = SPEC.replace("fallback: [other]", "fallback: [other], price: {input: 1, output: 1}")
    prices = prices.replace("fallback: [last]", "price: {input: 1000, output: 1000}, context: 4000").replace(
        "params: {temperature: 0.25}", "params: {temperature: 0.25, max_tokens: 5}, context: 8000"
    )
    path = write(prices)
    answers(provider, x="refund", y="refund")
    status, _, err = cli("eval", path, "--limit", 1, "--budget", "usd=0.001")
    assert (status, "the budget of 0.001 usd is spent" in err) == (1, True)
    assert cli("eval", write(prices.replace(", fallback: [other]", "")), "--limit", 1, "--budget", "usd=0.001")[0] == 0
