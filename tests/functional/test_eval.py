"""`lmprog eval`: the JSON document, comparisons, repeats, failures apart from low scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.functional.traced import calls

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
FEW = "10 rows are few: a gain below 59 points would hardly show (with 80% power); 230 rows would show one of 10 points"
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
    usage = document.pop("usage")
    seconds = usage.pop("seconds")
    assert 0 < seconds["p50"] <= seconds["p95"] < 60
    assert usage == {
        "lm_calls": 10,
        "tool_calls": 0,
        "retried": 0,
        "prompt_tokens": 110,
        "completion_tokens": 30,
        "usd": None,
        "unpriced": 10,
        "forgiven": {},
    }
    assert document == {
        "program": "desk",
        "spec": str(spec),
        "split": "test",
        "metric": "exact",
        "mean": 0.8,
        "n": 10,
        "unreadable": 0,
        "errors": 0,
        "causes": {},
        "failures": {},
        "confusions": [{"wanted": "refund", "said": "billing", "count": 2}],
        "few_rows": FEW,
    }


def test_the_lines(cli, spec) -> None:
    status, out, _ = cli("eval", spec, "--split", "dev")
    first, remark, usage, confused = out.splitlines()
    assert (status, first) == (0, f"{spec}: exact 30.0% [10.8, 60.3] on 10 rows of dev")
    assert remark == f"  {FEW}"
    assert usage.startswith("  10 LM calls, 110 + 30 tokens, 0.")
    assert confused == "  most often taken for another: refund -> billing (7)"


def test_unreadable_replies_score_lowest_and_are_named(cli, spec, provider) -> None:
    provider.otherwise = lambda text: "refund" if int(text) < 8 else "what?"
    status, out, _ = cli("eval", spec)
    assert status == 0
    assert "\n  2 replies could not be read (scored lowest)\n" in out
    assert out.endswith("refund -> (unreadable) (2)\n")
    document = json.loads(cli("eval", spec, "--format", "json")[1])
    assert (document["mean"], document["n"], document["unreadable"]) == (0.8, 10, 2)


def test_retries_and_what_was_forgiven_are_counted(cli, spec, provider) -> None:
    provider.replies = ["what?", "refund", "The label is refund."]
    arguments = (spec, "--set", "modules.sort.retry=1", "--concurrency", 1)
    out = cli("eval", *arguments)[1]
    assert "\n  11 LM calls (1 of them retries), " in out
    assert "\n  forgiven in replies: a label before an enum value (1)\n" in out


def test_the_first_rows(cli, spec) -> None:
    assert (
        f"{spec}: exact 100.0% [51.0, 100.0] on the first 4 of 10 rows of test\n" in cli("eval", spec, "--limit", 4)[1]
    )
    document = json.loads(cli("eval", spec, "--limit", 4, "--format", "json")[1])
    assert (document["n"], document["of"]) == (4, 10)


def test_the_table_by_label(cli, spec, write, provider) -> None:
    labels = ["billing", "billing", "refund", "refund", "refund"]
    rows = ({"text": str(index), "label": label, "size": index % 2} for index, label in enumerate(labels))
    write("".join(json.dumps(row) + "\n" for row in rows), "test.jsonl")
    provider.otherwise = lambda text: "billing" if int(text) in (0, 2) else "refund"
    out = cli("eval", spec)[1].splitlines()
    assert out[3].split() == ["by", "label", "n", "exact", "precision"]
    assert out[4].split() == ["billing", "2", "50.0%", "[9.5,", "90.5]", "50.0%"]
    assert out[5].split() == ["refund", "3", "66.7%", "[20.8,", "93.9]", "66.7%"]
    assert out[6] == "  most often taken for another: billing -> refund (1), refund -> billing (1)"
    document = json.loads(cli("eval", spec, "--by", "size", "--format", "json")[1])
    assert document["by"]["column"] == "size"
    assert [(group["value"], group["n"]) for group in document["by"]["groups"]] == [(0, 3), (1, 2)]
    status, _, err = cli("eval", spec, "--by", "colour")
    assert (status, err) == (2, "lmprog: the rows have no column 'colour'; theirs are text, label, size\n")


def test_a_line_for_each_scored_run(cli, spec, write, tmp_path, provider) -> None:
    write(
        "import lmprog\ndef exact(label, wanted):\n    return lmprog.Score(0.25, f'{label}, not {wanted}')\n",
        "metrics.py",
    )
    provider.otherwise = lambda text: FAILURE if text == "1" else "what?" if text == "2" else "billing"
    status, out, _ = cli("eval", spec, "--out", tmp_path / "new" / "scores.jsonl", "--limit", 3, "--repeats", 2)
    assert status == 3
    assert out.splitlines()[-1] == "  row 0, 0.25: billing, not refund"
    lines = [json.loads(line) for line in (tmp_path / "new" / "scores.jsonl").read_text().splitlines()]
    # A row that an outage ended is run again after the others of its repeat.
    assert [(line["row"], line["repeat"], line["score"], line["kind"]) for line in lines] == [
        *((0, 0, 0.25, None), (2, 0, 0.0, "unreadable"), (1, 0, None, "provider")),
        *((0, 1, 0.25, None), (2, 1, 0.0, "unreadable"), (1, 1, None, "provider")),
    ]
    assert lines[0]["outputs"] == {"label": "billing"}
    assert lines[0]["feedback"] == "billing, not refund"
    assert "who are you" in lines[2]["error"]
    assert cli("eval", spec, "--out", tmp_path / "new" / "scores.jsonl", "--limit", 1)[0] == 0
    assert len((tmp_path / "new" / "scores.jsonl").read_text().splitlines()) == 1


def test_a_file_of_others_is_left_alone(cli, spec, tmp_path) -> None:
    before = (tmp_path / "test.jsonl").read_bytes()
    status, _, err = cli("eval", spec, "--out", tmp_path / "test.jsonl")
    assert (status, "left alone" in err) == (2, True)
    assert (tmp_path / "test.jsonl").read_bytes() == before


JUDGE = """
    lmprog: 1
    inputs: {label: str}
    outputs: {score: "${{ steps.judge.score }}"}
    lms: {critic: {model: openai/y, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules:
      judge: {lm: critic, inputs: {label: str}, outputs: {why: str, score: float}, instructions: Judge.}
    steps:
      judge: {module: judge, with: {label: "${{ inputs.label }}"}}
"""


def test_a_judge_is_counted_traced_and_kept_apart(cli, spec, write, tmp_path, provider) -> None:
    write(JUDGE, "judge.yaml")
    judged = 'metrics: {good: {program: ./judge.yaml, with: {label: "${{ outputs.label }}"}}}'
    write(f"lmprog: 1\nextends: ./program.yaml\n{judged}\n", "judged.yaml")
    judge = "<why>so</why><score>0.5</score>"

    def answer(text: str) -> str:
        if len(text) < 3:
            return "billing" if text == "3" else "refund"
        return "no idea" if "billing" in text else judge

    provider.otherwise = answer
    trace = tmp_path / "trace.jsonl"
    arguments = (tmp_path / "judged.yaml", "--metric", "good", "--trace", trace)
    status, out, _ = cli("eval", *arguments)
    assert status == 1
    assert ": good 45.0% [" in out and "] on 10 rows of test\n" in out
    failed = r"1 run failed \(metric\) and scored lowest: row \d+: the judge 'good' failed: judge: "
    failed += "the reply has no output 'why'"
    assert re.search(f"\n  {failed}; the reply begins .*\n", out)
    assert "\n  judges: 10 LM calls, 110 + 30 tokens, " in out
    records = calls(trace)
    assert [record["program"] for record in records] == ["desk", "judge"] * 10
    assert {record["parent"] for record in records[1::2]} == {"metrics.good"}
    assert [record["example"] for record in records[1::2]] == list(range(10))
    provider.otherwise = lambda text: "refund" if len(text) < 3 else FAILURE
    status, _, err = cli("eval", *arguments)
    assert status == 3
    assert err.startswith("lmprog: no row could be scored: the judge 'good': judge: openai/y gave no answer")


@pytest.mark.slow
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
    assert [difference[name] for name in ("n", "better", "worse", "equal")] == [10, 6, 0, 4]
    text = cli("eval", spec, "--against", other, "--concurrency", 1)[1]
    assert f"\n{other}: exact 20.0% " in text
    assert text.splitlines()[-1].startswith("difference, paired: +60.0 points [")
    assert text.endswith(", p = 0.031; of 10 rows 6 better, 0 worse, 4 equal\n")


def test_repeats(cli, spec, provider) -> None:
    document = json.loads(cli("eval", spec, "--repeats", 2, "--format", "json")[1])
    assert (document["n"], len(provider.requests)) == (10, 20)


FAILURE = (401, {}, json.dumps({"error": {"message": "who are you"}}))


def test_an_own_failure_is_a_score_and_no_error(cli, spec, write, tmp_path, provider) -> None:
    breaks = "steps: {number: {value: \"${{ int(steps.sort.label) if inputs.text == '3' else 0 }}\"}}"
    more = 'outputs: {label: "${{ steps.sort.label }}", number: "${{ steps.number.value }}"}'
    broken = write(f"lmprog: 1\nextends: ./program.yaml\n{more}\n{breaks}\n", "broken.yaml")
    status, out, _ = cli("eval", broken, "--out", tmp_path / "out.jsonl")
    assert status == 0
    assert f"{broken}: exact 70.0% [39.7, 89.2] on 10 rows of test\n" in out
    assert re.search(r"\n  1 run failed \(expression\) and scored lowest: row \d+: number: ", out)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["row"], line["score"], line["kind"]) for line in lines if line["kind"]] == [(3, 0.0, "expression")]
    document = json.loads(cli("eval", broken, "--format", "json")[1])
    assert (document["n"], document["errors"], document["failures"]["expression"]["count"]) == (10, 0, 1)


@pytest.mark.slow
def test_a_comparison_with_many_outages_says_that_it_shows_nothing(cli, spec, tmp_path, provider) -> None:
    provider.replies = ["refund"] * 10
    provider.otherwise = lambda text: FAILURE if text == "3" else "refund"
    other = tmp_path / "other.yaml"
    status, out, _ = cli("eval", spec, "--against", other, "--concurrency", 1)
    assert (status, "; of 9 rows " in out) == (3, True)
    said = f"({spec} 0 of 10 rows (0%), {other} 1 of 10 rows (10%)), so this comparison shows nothing; try again later"
    assert out.endswith(f"outages left too many rows without a score {said}\n")
    assert json.loads(cli("eval", spec, "--against", other, "--format", "json")[1])["difference"]["doubt"]


def test_provider_failures_are_not_scored(cli, spec, provider) -> None:
    provider.otherwise = lambda text: FAILURE if int(text) < 5 else "refund"
    status, out, _ = cli("eval", spec, "--format", "json")
    document = json.loads(out)
    assert (status, document["mean"], document["n"], document["errors"]) == (3, 1.0, 5, 5)
    assert document["causes"]["provider"]["count"] == 5
    said = "5 runs failed (provider) and are not scored: sort: openai/x gave no answer: "
    assert said in cli("eval", spec)[1]


@pytest.mark.slow
def test_failures_of_the_other_program_count_too(cli, spec, tmp_path, provider) -> None:
    provider.replies = ["refund"] * 10
    provider.otherwise = lambda text: FAILURE if int(text) < 3 else "refund"
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
        (
            ["--split", "train"],
            "lmprog: desk has no data split 'train' (it has: dev, test); say --split dev, or name it under `data:`\n",
        ),
        (["--metric", "rouge"], "lmprog: desk has no metric 'rouge' (it has: exact)\n"),
    ],
)
def test_what_the_program_does_not_have(cli, spec, arguments, message) -> None:
    status, out, err = cli("eval", spec, *arguments)
    assert (status, out, err) == (2, "", message)


def test_made_up_replies_have_no_score(cli, spec) -> None:
    status, out, err = cli("eval", spec, "--fake")
    assert (status, out) == (2, "") and "lmprog test --fake" in err and "--dry-run" in err


def test_a_metric_that_fails(cli, spec, write) -> None:
    write("def exact(label, wanted):\n    raise ValueError('no')\n", "metrics.py")
    status, _, err = cli("eval", spec)
    assert (status, err) == (
        1,
        "lmprog: no row could be scored: the metric 'exact' raised ValueError: no (metrics.py:2); "
        "it fails on every row, so correct it\n",
    )


def test_a_budget_ends_the_scoring_before_it_is_exceeded(cli, spec, provider) -> None:
    status, out, err = cli("eval", spec, "--budget", "lm_calls=2")
    assert (status, out) == (1, "")
    assert "the budget of 2 lm calls is spent" in err
    assert len(provider.requests) <= 2
    assert cli("eval", spec, "--budget", "euros=2")[0] == 2
