"""`lmprog eval` of several metrics, programs and models: on the same rows, each compared with the first."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.functional.test_eval import SPEC, spec
from tests.functional.test_eval_page import EVIL, Reader, rows_of

__all__ = ["spec"]

JUDGE = """
    lmprog: 1
    lms: {critic: {model: openai/critic, api_base: "${{ env.TEST_API_BASE }}", api_key: none-needed}}
    modules: {judge: {lm: critic, inputs: {label: str}, outputs: {feedback: str, score: float}, format: json}}
"""
MORE = """      polite: {program: ./judge.yaml, with: {label: "${{ outputs.label }}"}}
      both: {value: 0.5 * metrics.polite + 0.5 * metrics.exact}
"""
KNOWN = {"openai/x": 8, "openai/y": 5, "openai/z": 10}


@pytest.fixture
def judged(spec: Path, write, provider) -> Path:
    """Each model knows the rows below its number; the judge likes `refund` better."""
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        asked.append(body["model"])
        said = body["messages"][-1]["content"]
        if body["model"] == "critic":
            return json.dumps({"feedback": f"I read {said}.", "score": 0.75 if said == "refund" else 0.25})
        known = KNOWN[f"openai/{body['model']}"] - (0 if body["messages"][0]["content"].startswith("Sort.") else 1)
        return "refund" if int(said) < known else "billing"

    provider.answer, provider.asked = answer, asked
    write(JUDGE, "judge.yaml")
    return write(SPEC + MORE)


def test_several_metrics_run_each_row_and_each_judge_once(cli, judged: Path, provider, tmp_path: Path) -> None:
    lines = tmp_path / "scores.jsonl"
    status, out, err = cli("eval", judged, "--metric", "exact,polite", "--metric", "both", "--out", lines)
    assert status == 0, err
    assert (provider.asked.count("x"), provider.asked.count("critic")) == (10, 10)
    printed = out.splitlines()
    assert printed[0] == "exact, polite, both on 10 rows of test"
    assert re.split(" {2,}", printed[2]) == ["", "exact", "polite", "both"]
    assert re.split(" {2,}", printed[3])[1:3] == [str(judged), "80.0% [49.0, 94.3]"]
    assert "  polite: judges: 10 LM calls" in out and "  polite: row 8, 0.25: I read billing." in out
    first = json.loads(lines.read_text().splitlines()[0])
    assert (first["score"], first["metrics"]["polite"]["score"], first["metrics"]["both"]["score"]) == (
        1.0,
        0.75,
        0.875,
    )
    assert first["metrics"]["both"]["feedback"] == "I read refund."


def test_the_document_of_several_metrics_begins_as_that_of_one(cli, judged: Path) -> None:
    one = json.loads(cli("eval", judged, "--metric", "exact", "--format", "json")[1])
    several = json.loads(cli("eval", judged, "--metric", "exact,both", "--format", "json")[1])
    metrics = several.pop("metrics")
    one["usage"].pop("seconds"), several["usage"].pop("seconds")
    assert several == one
    assert metrics["exact"]["mean"] == 0.8 and metrics["both"]["mean"] == pytest.approx(0.725)
    low, high = metrics["both"]["ci95"]
    assert low < 0.725 < high


def test_a_comparison_by_several_metrics(cli, judged: Path, tmp_path: Path) -> None:
    status, out, _ = cli(
        "eval", judged, "--against", tmp_path / "other.yaml", "--metric", "exact,both", "--format", "json"
    )
    found = json.loads(out)
    assert status == 0 and found["difference"]["mean"] == pytest.approx(0.1)
    assert found["metrics"]["both"]["difference"]["mean"] == pytest.approx(0.075)
    assert "difference" not in found["against"].get("metrics", {})


def test_programs_and_models_are_columns(cli, judged: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    status, out, _ = cli("eval", judged, other, "--lm", "lm=openai/x,openai/y", "--metric", "exact", "--format", "json")
    found = json.loads(out)
    assert status == 0 and found["mean"] == 0.8
    assert [(column["spec"], column["lms"], column["mean"]) for column in found["columns"]] == [
        (str(judged), {"lm": "openai/x"}, 0.8),
        (str(judged), {"lm": "openai/y"}, 0.5),
        (str(other), {"lm": "openai/x"}, 0.7),
        (str(other), {"lm": "openai/y"}, 0.4),
    ]
    differences = [column.get("difference", {}) for column in found["columns"]]
    assert [each.get("mean") for each in differences] == [None, *map(pytest.approx, (-0.3, -0.1, -0.4))]
    assert (differences[1]["worse"], differences[1]["n"]) == (3, 10)
    low, high = differences[1]["ci95"]
    assert low < -0.3 < high


def test_the_table_of_a_matrix(cli, judged: Path) -> None:
    status, out, _ = cli("eval", judged, "--lm", "lm=openai/x,openai/y", "--lm", "lm=openai/z", "--metric", "exact")
    lines = out.splitlines()
    assert status == 0
    assert lines[0] == f"exact on 10 rows of test; differences are paired, against {judged}, lm=openai/x"
    assert [line.split("  ")[1] for line in lines[3:8] if line.startswith(f"  {judged}")] == [
        f"{judged}, lm=openai/{model}" for model in "xyz"
    ]
    assert "-30.0 points [" in lines[5] and "+20.0 points [" in lines[7]


def test_a_model_that_is_down_leaves_the_others(cli, judged: Path, provider) -> None:
    before = provider.answer
    failure = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    provider.answer = lambda body: failure if body["model"] == "y" else before(body)
    arguments = ("eval", judged, "--lm", "lm=openai/x,openai/y,openai/z", "--metric", "exact")
    status, out, _ = cli(*arguments, "--format", "json")
    columns = json.loads(out)["columns"]
    assert status == 3
    assert [column["mean"] for column in columns] == [0.8, None, 1.0]
    assert columns[1]["causes"]["provider"]["count"] == 10 and "difference" not in columns[1]
    status, out, _ = cli(*arguments)
    assert status == 3 and "lm=openai/z" in out and "who are you" in out


def test_the_page_of_a_matrix(cli, judged: Path, tmp_path: Path) -> None:
    page = tmp_path / "eval.html"
    status, _, err = cli(
        "eval", judged, "--lm", "lm=openai/x,openai/y,openai/z", "--metric", "exact,polite", "--html", page
    )
    assert status == 0, err
    text = page.read_text()
    assert rows_of(text) == [("equal" if row < 5 else "differs", row) for row in range(10)]
    assert text.count("difference, points") == 2 and '<th scope="col">polite</th>' in text
    assert "polite: I read billing." in text and f"{judged}, lm=openai/y: 0, polite 0.25</h4>" in text


def test_what_models_and_judges_write_is_escaped_on_the_page(cli, judged: Path, tmp_path: Path, provider) -> None:
    provider.answer = lambda body: (
        json.dumps({"feedback": EVIL, "score": 0.5}) if body["model"] == "critic" else "refund"
    )
    page = tmp_path / "eval.html"
    assert cli("eval", judged, "--lm", f"lm=openai/x,openai/{EVIL}", "--metric", "exact,polite", "--html", page)[0] == 0
    found = Reader(page.read_text())
    assert (found.links, found.scripts) == ([], 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "other.yaml"], "--against is for one program with one model"),
        (["--out", "scores.jsonl"], "--out is for one program with one model"),
    ],
)
def test_what_is_for_one_program_is_refused(cli, judged: Path, arguments: list[str], said: str) -> None:
    status, _, err = cli("eval", judged, "--lm", "lm=openai/x,openai/y", *arguments)
    assert (status, said in err) == (2, True)


def test_a_metric_that_one_of_the_programs_lacks_is_named_first(cli, judged: Path, write, provider) -> None:
    write(SPEC, "plain.yaml")
    status, _, err = cli("eval", judged, judged.with_name("plain.yaml"), "--metric", "polite")
    assert (status, provider.asked) == (2, []) and "has no metric 'polite'" in err


def test_a_judge_that_is_down_leaves_the_other_metrics(cli, judged: Path, provider) -> None:
    before = provider.answer
    failure = (401, {}, json.dumps({"error": {"message": "who are you"}}))
    provider.answer = lambda body: failure if body["model"] == "critic" else before(body)
    status, out, _ = cli("eval", judged, "--metric", "exact,polite", "--limit", "3")
    assert status == 3 and "who are you" in out
    line = next(line for line in out.splitlines() if line.startswith(f"  {judged}"))
    assert re.split(" {2,}", line)[2].startswith("100.0%") and line.endswith("  -")
    status, out, _ = cli("eval", judged, "--metric", "exact,polite", "--limit", "3", "--format", "json")
    metrics = json.loads(out)["metrics"]
    assert status == 3 and (metrics["exact"]["errors"], metrics["polite"]["errors"]) == (0, 3)
    assert metrics["polite"]["mean"] is None and metrics["polite"]["causes"]["provider"]["count"] == 3
