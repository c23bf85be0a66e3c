"""`lmprog eval`: the JSON document, comparisons, repeats, failures apart from low scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPEC = """
    lmprog: 1
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}"}
    lms:
      lm: {model: openai/x, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: {enum: [billing, refund]}}, instructions: Sort.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
    data: {dev: dev.jsonl, test: test.jsonl}
    metrics:
      exact: {python: "./metrics.py:exact", with: {label: "${{ outputs.label }}", wanted: "${{ row.label }}"}}
"""
OTHER = """
    lmprog: 1
    extends: ./program.yaml
    modules: {sort: {instructions: Guess.}}
"""


@pytest.fixture
def spec(write, provider, monkeypatch) -> Path:
    """Ten test rows, all `refund`; the LM says `refund` to those below its threshold, which `Guess.` puts lower."""
    monkeypatch.setenv("TEST_API_BASE", provider.url)
    monkeypatch.setattr("lmprog.lms.api.FIRST_WAIT", 0.0)
    provider.otherwise = lambda text: "refund" if int(text) < 8 else "billing"
    write("def exact(label, wanted):\n    return label == wanted\n", "metrics.py")
    for name, start in (("dev", 5), ("test", 0)):
        rows = ({"text": str(index), "label": "refund"} for index in range(start, start + 10))
        write("".join(json.dumps(row) + "\n" for row in rows), f"{name}.jsonl")
    write(OTHER, "other.yaml")
    return write(SPEC)


def test_the_document(cli, spec) -> None:
    status, out, err = cli("eval", spec, "--format", "json")
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document.pop("ci95") == pytest.approx([0.490162, 0.943318], abs=1e-6)
    assert document == {
        "program": "desk",
        "split": "test",
        "metric": "exact",
        "mean": 0.8,
        "n": 10,
        "unreadable": 0,
        "errors": 0,
    }


def test_the_line(cli, spec) -> None:
    status, out, _ = cli("eval", spec, "--split", "dev")
    assert (status, out) == (0, f"{spec}: exact 30.0% [10.8, 60.3] on 10 rows of dev\n")


def test_unreadable_replies_score_lowest_and_are_named(cli, spec, provider) -> None:
    provider.otherwise = lambda text: "refund" if int(text) < 8 else "what?"
    status, out, _ = cli("eval", spec)
    assert status == 0
    assert out.endswith(" on 10 rows of test; 2 replies could not be read (scored lowest)\n")
    document = json.loads(cli("eval", spec, "--format", "json")[1])
    assert (document["mean"], document["n"], document["unreadable"]) == (0.8, 10, 2)


def test_against_another_program(cli, spec, tmp_path, provider) -> None:
    def answer(text: str) -> str:
        guessing = provider.requests[-1]["messages"][0]["content"].startswith("Guess.")
        return "refund" if int(text) < (2 if guessing else 8) else "billing"

    provider.otherwise = answer
    other = tmp_path / "other.yaml"
    status, out, err = cli("eval", spec, "--against", other, "--format", "json", "--concurrency", 1)
    assert (status, err) == (0, "")
    document = json.loads(out)
    assert document["mean"] == 0.8
    assert (document["against"]["mean"], document["against"]["spec"]) == (0.2, str(other))
    difference = document["difference"]
    assert difference["mean"] == pytest.approx(0.6)
    assert difference["p"] == pytest.approx(2 / 2**6)
    assert 0 < difference["ci95"][0] < 0.6 < difference["ci95"][1] <= 1
    text = cli("eval", spec, "--against", other, "--concurrency", 1)[1].splitlines()
    assert text[1].startswith(f"{other}: exact 20.0%")
    assert text[2].startswith("difference, paired: +60.0 points [")


def test_repeats(cli, spec, provider) -> None:
    document = json.loads(cli("eval", spec, "--repeats", 2, "--format", "json")[1])
    assert (document["n"], len(provider.requests)) == (10, 20)


FAILURE = (401, {}, json.dumps({"error": {"message": "who are you"}}))


def test_provider_failures_are_not_scored(cli, spec, provider) -> None:
    provider.otherwise = lambda text: FAILURE if int(text) < 5 else "refund"
    status, out, _ = cli("eval", spec, "--format", "json")
    document = json.loads(out)
    assert (status, document["mean"], document["n"], document["errors"]) == (3, 1.0, 5, 5)
    assert "5 runs failed and are not scored: sort: openai/x gave no answer: " in cli("eval", spec)[1]


def test_failures_of_the_other_program_count_too(cli, spec, tmp_path, provider) -> None:
    provider.replies = ["refund"] * 10 + [FAILURE] * 3
    status, out, _ = cli("eval", spec, "--against", tmp_path / "other.yaml", "--format", "json", "--concurrency", 1)
    assert (status, json.loads(out)["against"]["errors"], json.loads(out)["errors"]) == (3, 3, 0)


def test_nothing_could_be_scored(cli, spec, provider) -> None:
    provider.otherwise = FAILURE
    status, out, err = cli("eval", spec, "--format", "json")
    assert (status, out) == (3, "")
    assert err.startswith("lmprog: no row could be scored: sort: openai/x gave no answer: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "train"], "lmprog: desk has no data split 'train' (it has: dev, test); name it under `data:`\n"),
        (["--metric", "rouge"], "lmprog: desk has no metric 'rouge' (it has: exact)\n"),
    ],
)
def test_what_the_program_does_not_have(cli, spec, arguments, message) -> None:
    status, out, err = cli("eval", spec, *arguments)
    assert (status, out, err) == (2, "", message)


def test_a_metric_that_fails(cli, spec, write) -> None:
    write("def exact(label, wanted):\n    raise ValueError('no')\n", "metrics.py")
    status, _, err = cli("eval", spec)
    assert (status, err) == (1, "lmprog: the metric 'exact' raised ValueError: no\n")
