"""`lmprog view` on traces and on evaluations: the table, what is private, comparisons, and labels by keys in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmprog.failure import Failure
from lmprog.lms.lm import ToolCall
from lmprog.reports.page.server import Refused
from lmprog.reports.page.trace_report import TraceReport, trace_page
from lmprog.reports.page.trace_server import stored
from lmprog.traces.feedback import keep, read_feedback
from lmprog.traces.files import TraceWriter
from lmprog.traces.run_record import RunRecord
from tests.functional.test_eval import spec

__all__ = ["spec"]

EVIL = "<script>alert(1)</script>"
TYPES = {"label": {"enum": ["billing", "refund"]}, "sure": "bool"}


CALL = ToolCall("1", "weather", {"place": "Oslo"}, '{"place": "Oslo"}')


def trace_of(path: Path, *answers: str | None, private: tuple[str, ...] = (), **more: Any) -> Path:
    """Write a trace with a run for each answer; None is a run that failed."""
    with TraceWriter(path) as writer:
        writer.write(
            RunRecord(
                program="desk",
                digest="d",
                example=f"run{row}",
                rollout=0,
                inputs={"text": f"t{row} {EVIL}"},
                outputs=None if answer is None else {"label": answer, "sure": True},
                error=Failure("tool", "it broke", "look") if answer is None else None,
                types=TYPES,
                private=private,
                **more,
            )
            for row, answer in enumerate(answers)
        )
    return path


def test_the_table_has_runs_with_what_people_said(tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "trace.jsonl", "billing", "refund", None, "refund", "refund")
    keep(trace, [("run0", {"score": 1}), ("run1", {"score": 0, "correction": {"label": "billing"}, "comment": EVIL})])
    keep(trace, [("run3", {"score": 0.2}), ("run4", {"comment": "odd"})])
    report = TraceReport([trace])
    assert [(entry.number, entry.way) for entry in report.entries] == [
        ("run0", "right"), ("run1", "corrected"), ("run2", "failed"), ("run3", "wrong"), ("run4", "commented"),
    ]  # fmt: skip
    assert report.entries[1].feedback == f"score 0; label: billing; {EVIL}"
    assert report.entries[2].sides[0] is not None and report.entries[2].sides[0].words == ["look: it broke"]
    assert [*report.keys] == [("1", "billing"), ("2", "refund")]
    page = trace_page([trace])
    assert EVIL not in page and "connect-src 'self'" in page and "take back" in page
    still = trace_page([trace], live=False)
    assert "connect-src 'none'" in still and "take back" not in still


def test_a_run_that_ends_with_calls_of_its_client_has_not_failed(tmp_path: Path) -> None:
    run = RunRecord(program="desk", digest="d", example="a", rollout=0, inputs={}, client_calls=(CALL,))
    with TraceWriter(tmp_path / "trace.jsonl") as writer:
        writer.write([run, replace(run, example="b", private=("text",))])
    entries = TraceReport([tmp_path / "trace.jsonl"]).entries
    assert [entry.sides[0] and entry.sides[0].words for entry in entries] == [
        ['it ended with calls of the client: weather({"place": "Oslo"})'], [],
    ]  # fmt: skip
    assert entries[0].way == "client calls"


def test_private_values_are_left_out(tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "trace.jsonl", "billing", None, private=("text",), said={"right": "t0 was meant"})
    keep(trace, [("run0", {"score": 0, "comment": "t0 is a name"})])
    page = trace_page([trace])
    for private in ("t0", "t1", "it broke"):
        assert private not in page
    assert "(private)" in page and "score 0; (private)" in page and "billing" in page
    shown = trace_page([trace], show_private=True)
    assert "t0 is a name" in shown and "it broke" in shown


def test_of_two_evaluations_those_that_disagree_stand_first(tmp_path: Path) -> None:
    mine = trace_of(tmp_path / "mine.jsonl", "billing", "refund", "billing", None, "refund", scores={"right": 1.0})
    theirs = tmp_path / "theirs.jsonl"
    trace_of(theirs, "billing", "billing", scores={"right": 1.0})
    with TraceWriter(theirs) as writer:
        for row, score in ((2, 0.0), (3, 2.0)):
            made = RunRecord(
                program="desk",
                digest="e",
                example=f"r{row}",
                rollout=0,
                inputs={"text": f"t{row} {EVIL}"},
                outputs={"label": "refund", "sure": True},
                scores={"right": score},
            )
            writer.write([made])
    report = TraceReport([mine, theirs])
    assert [(entry.number, entry.way) for entry in report.entries] == [
        ("run3", "worse"), ("run2", "better"), ("run1", "differs"), ("run4", "alone"), ("run0", "equal"),
    ]  # fmt: skip
    assert "mine.jsonl" in trace_page([mine, theirs]) and "no run on these inputs" in trace_page([mine, theirs])


def test_the_lines_of_an_evaluation_are_compared_by_their_rows(cli, tmp_path: Path) -> None:
    for name, labels in (("a", "xxy"), ("b", "xyy")):
        lines = [
            {"row": row, "repeat": 0, "score": float(label == "x"), "feedback": "hm", "outputs": {"label": label}}
            for row, label in enumerate(labels)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    found = [(entry.number, entry.way) for entry in TraceReport([a, b]).entries]
    assert found == [("1", "better"), ("0", "equal"), ("2", "equal")]
    assert cli("view", a, b, "--export", tmp_path / "diff.html")[0] == 0
    assert "take back" not in trace_page([a])
    status, _, err = cli("view", tmp_path / "diff.html", "--export", tmp_path / "x.html")
    assert status == 2 and "has no run: name a file that --trace has written" in err
    status, _, err = cli("view", tmp_path, b)
    assert status == 2 and "OTHER is for traces" in err


def test_the_trace_of_an_evaluation_has_scores_labels_and_both_programs(cli, spec, tmp_path, provider) -> None:
    def answer(body: dict[str, Any]) -> str:
        known = 8 if body["messages"][0]["content"].startswith("Sort.") else 5
        return "refund" if int(body["messages"][-1]["content"]) < known else "billing"

    provider.answer = answer
    trace = tmp_path / "both.jsonl"
    assert cli("eval", spec, "--against", tmp_path / "other.yaml", "--trace", trace)[0] == 0
    report = TraceReport([trace])
    assert report.can_store and len(report.names) == 2 and report.name == "desk"
    assert [(entry.number, entry.way) for entry in report.entries[:4]] == [
        ("5", "better"), ("6", "better"), ("7", "better"), ("0", "equal"),
    ]  # fmt: skip
    assert report.entries[0].columns == {"label": "refund"}
    assert [side.scores for side in report.entries[0].sides if side] == [{"exact": 1.0}, {"exact": 0.0}]
    missed = tmp_path / "missed.jsonl"
    assert cli("rows", trace, "--where", "metrics.exact < 1", "-o", missed)[0] == 0
    rows = [json.loads(line) for line in missed.read_text().splitlines()]
    assert sorted((row["text"], row["label"], row["answer"]["label"]) for row in rows) == [
        (str(row), "refund", "billing") for row in range(5, 10)
    ]


def test_feedback_of_the_page_is_stored_or_refused(tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "trace.jsonl", "billing")
    body: dict[str, Any] = {"run": "run0", "feedback": {"correction": {"label": "refund"}}}
    assert stored(trace, body, False) == {"said": "label: refund", "way": "corrected", "colour": "back"}
    assert stored(trace, {"run": "run0", "feedback": {"score": 1}}, False)["said"] == "score 1; label: refund"
    for wrong, status in (
        ({"run": "run9", "feedback": {"score": 1}}, 404),
        ({"run": "run0", "feedback": {"score": 7}}, 422),
    ):
        with pytest.raises(Refused) as refused:
            stored(trace, wrong, False)
        assert refused.value.status == status
    assert read_feedback(trace) == {"run0": {"score": 1, "correction": {"label": "refund"}}}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    trace = trace_of(tmp_path / "trace.jsonl", "billing", "refund", "billing", None)
    command = [sys.executable, "-c", "from lmprog.cli.main import main; main()", "view", str(trace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+/", process.stderr.readline())
        assert found
        yield found.group(), trace
        process.kill()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_keys_store_feedback(browser, served: tuple[str, Path], width: int, scheme: str) -> None:
    url, trace = served
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(url)
    row = page.locator("tr.entry")
    assert row.count() == 4 and not page.locator("#label").is_visible()
    page.keyboard.press("j")
    page.keyboard.press("y")
    row.nth(0).get_by_text("score 1").wait_for()
    row.nth(1).and_(page.locator("[aria-current]")).wait_for()
    page.keyboard.press("1")
    row.nth(1).get_by_text("corrected").wait_for()
    row.nth(2).and_(page.locator("[aria-current]")).wait_for()
    page.keyboard.press("c")
    page.keyboard.type("y is no key here")
    page.keyboard.press("Enter")
    row.nth(2).get_by_text("y is no key here").wait_for()
    page.locator("#label button", has_text="wrong").click()
    row.nth(2).locator(".badge", has_text="wrong").wait_for()
    page.keyboard.press("k")
    page.keyboard.press("k")
    page.keyboard.press("k")
    page.keyboard.press("u")
    row.nth(0).locator(".badge", has_text="no feedback").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("t3 failed")
    assert [row.nth(place).is_visible() for place in range(4)] == [False, False, False, True]
    page.locator("#search").fill("")
    page.locator("#ways button", has_text="corrected").click()
    assert [row.nth(place).is_visible() for place in range(4)] == [False, True, False, False]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    assert read_feedback(trace) == {
        "run1": {"correction": {"label": "billing"}},
        "run2": {"comment": "y is no key here", "score": 0},
    }
    page.close()
