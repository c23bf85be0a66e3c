"""`lmprog test`: checks, assertions and judges of examples, and what is said where they do not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str, tone: {type: str, default: kind}}
    outputs:
      answer: ${{ steps.write.answer }}
      price: ${{ steps.write.price }}
      order: ${{ steps.write.order }}
      items: ${{ steps.write.items }}
    lms:
      lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}
    modules:
      write:
        lm: lm
        inputs: {text: str, tone: str}
        outputs: {answer: str, price: float, order: {city: str, size: int}, items: "list[str]"}
        format: json
    steps:
      write: {module: write, with: {text: "${{ inputs.text }}", tone: "${{ inputs.tone }}"}}
    metrics:
      polite: {program: ./judge.yaml, range: [0, 10], with: {answer: "${{ outputs.answer }}"}}
      same: {python: "./metrics.py:same", with: {found: "${{ outputs.answer }}", wanted: "${{ row.answer }}"}}
    tests:
      checks:
        inputs: {text: Where is it?}
        expect:
          answer: {contains: [parcel, Bonn], excludes: sorry, regex: "(?i)^your"}
          price: {equals: 12, within: 0.5}
          order: {partial: {city: {one_of: [Bonn, Ulm]}}}
          items: {contains: tea}
      asserts:
        inputs: {text: Where is it?}
        assert: [trace.calls == 1, "len(outputs.items) <= inputs.tone.length or true", len(outputs.answer) < 60]
      the judge:
        inputs: {text: Where is it?}
        metric: polite
        at_least: 6
      to the letter:
        inputs: {text: Where is it?}
        expect: {answer: Your parcel is in Bonn.}
        metric: same
        at_least: 1
"""
JUDGE = """
    lmprog: 1
    lms: {critic: {model: openai/y, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules:
      judge: {lm: critic, inputs: {answer: str}, outputs: {feedback: str, score: int}, format: json}
"""
GOOD = {
    "answer": "Your parcel is in Bonn.",
    "price": 12.4,
    "order": {"city": "Bonn", "size": 2},
    "items": ["tea", "milk"],
}
BAD = {
    "answer": "We are sorry, it is in Ulm.",
    "price": 13,
    "order": {"city": "Paris", "size": 2},
    "items": ["milk"],
}


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    write(JUDGE, "judge.yaml")
    write("def same(found: str, wanted: str) -> bool:\n    return found == wanted\n", "metrics.py")
    return write(SPEC.replace("len(outputs.items) <= inputs.tone.length or true", "inputs.tone == 'kind'"))


def answering(provider, reply: dict[str, object], score: int) -> None:
    judged = json.dumps({"feedback": "Say where the parcel is.", "score": score})
    provider.otherwise = lambda text: json.dumps(reply) if "Where" in text else judged


def test_all_hold(cli, spec, provider) -> None:
    answering(provider, GOOD, 7)
    status, out, err = cli("test", spec)
    assert (status, err) == (0, ""), out
    assert "        polite 7, at least 6: Say where the parcel is.\n" in out
    assert out.endswith("4 tests: 4 passed\n")


def test_each_that_does_not_hold_has_its_line(cli, spec, provider) -> None:
    answering(provider, BAD, 4)
    status, out, _ = cli("test", spec)
    assert status == 1
    for line in (
        "answer: expected 'parcel', 'Bonn' in it, got 'We are sorry, it is in Ulm.'",
        "answer: expected no 'sorry' in it, got 'We are sorry, it is in Ulm.'",
        "answer: expected a text that matches (?i)^your, got 'We are sorry, it is in Ulm.'",
        "price: expected 12 within 0.5, got 13",
        "order.city: expected one of 'Bonn', 'Ulm', got 'Paris'",
        "items: expected 'tea' in it, got ['milk']",
        "polite 4, below 6: Say where the parcel is.",
        "answer: expected 'Your parcel is in Bonn.', got 'We are sorry, it is in Ulm.'",
        "same 0, below 1",
    ):
        assert f"        {line}\n" in out
    assert out.endswith("4 tests: 1 passed, 3 failed\n")


def test_the_judge_of_an_example_is_recorded_and_replayed(cli, spec, provider, tmp_path) -> None:
    answering(provider, GOOD, 7)
    assert cli("test", spec, "--record", tmp_path / "calls.jsonl")[0] == 0
    provider.otherwise = "nothing is asked"
    status, out, _ = cli("test", spec, "--replay", tmp_path / "calls.jsonl")
    assert (status, out.endswith("4 tests: 4 passed\n")) == (0, True)


def test_a_judge_that_a_provider_ends_is_no_failed_test(cli, spec, provider) -> None:
    answering(provider, GOOD, 7)
    before = provider.otherwise
    failure = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    provider.otherwise = lambda text: before(text) if "Where" in text else failure
    status, out, _ = cli("test", spec, "-k", "the judge")
    assert (status, "1 stopped by a provider" in out) == (3, True)
