"""Rows of use: labels, duplicates, conditions, columns and what is private."""

from __future__ import annotations

from typing import Any

import pytest

from lmprog.errors import UsageError
from lmprog.traces.use_rows import Use, rows_of_use


def use(id: str, text: str, label: str | None = "billing", private: Any = (), **feedback: Any) -> Use:
    """Return a run with feedback; `label` None is a run that failed."""
    run: dict[str, Any] = {"id": id, "program": "desk", "inputs": {"text": text}, "private": list(private)}
    if label is not None:
        run["outputs"] = {"label": label, "sure": True}
    return Use(run, feedback)


ANSWER = {"label": "billing", "sure": True}


@pytest.mark.parametrize(
    ("made", "row"),
    [
        (use("1", "a"), {"label": "billing", "sure": True}),
        (use("1", "a", score=1), {"label": "billing", "sure": True, "score": 1}),
        (
            use("1", "a", score=0.4, comment="no"),
            {"label": None, "sure": None, "score": 0.4, "comment": "no", "answer": ANSWER},
        ),
        (use("1", "a", correction={"label": "refund"}), {"label": "refund", "sure": True, "answer": ANSWER}),
        (use("1", "a", score=0, correction={"sure": False}), {"label": "billing", "sure": False, "score": 0, "answer": ANSWER}),
        # A correction that has what the program gave agrees with it.
        (use("1", "a", correction={"label": "billing"}), {"label": "billing", "sure": True, "score": 1.0}),
        (use("1", "a", None, correction={"label": "refund"}), {"label": "refund"}),
    ],
)  # fmt: skip
def test_labels_are_corrections_or_answers_that_nobody_called_wrong(made: Use, row: dict[str, Any]) -> None:
    assert rows_of_use([made], unlabelled=True).rows == [{"text": "a", **row, "run": "1"}]
    labelled = [] if row["label"] is None else [{"text": "a", **row, "run": "1"}]
    assert rows_of_use([made]).rows == labelled


def test_of_equal_inputs_the_best_known_run_makes_the_row() -> None:
    bad, plain = use("1", "a", score=0), use("2", "a")
    good, better = use("3", "a", score=0.5), use("4", "a", "refund", score=1)
    corrected = use("5", "a", correction={"label": "refund"})
    for uses, kept in (
        ([plain, bad], "1"),
        ([bad, good, plain], "3"),
        ([good, better, bad], "4"),
        ([better, good], "3"),
        ([corrected, better], "5"),
    ):
        found = rows_of_use(uses, unlabelled=True)
        assert ([row["run"] for row in found.rows], found.repeated) == ([kept], len(uses) - 1)
    failed = rows_of_use([use("1", "b", None), use("2", "c", None, score=0)])
    assert (failed.rows, failed.failed) == ([], 2)


@pytest.mark.parametrize(
    ("where", "kept", "unfit"),
    [
        ("inputs.text == 'b'", "2", 0),
        ("${{ row.score < 0.5 }}", "1", 2),
        ("row.score != null and row.score < 0.5", "1", 0),
        ("outputs.label == 'refund' or len(row.text) > 1", "3", 0),
        ("row.label == null", "1", 0),
        ("trace.program == 'desk' and not row.comment", "23", 0),
    ],
)
def test_a_condition_chooses_runs(where: str, kept: str, unfit: int) -> None:
    found = rows_of_use(
        [use("1", "a", score=0, comment="x"), use("2", "b"), use("3", "cc", "refund")], where=where, unlabelled=True
    )
    assert ("".join(row["run"] for row in found.rows), len(found.unfit)) == (kept, unfit)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("outputs.lable == 1", "no run has `outputs.lable`; did you mean `label`?"),
        ("steps.a.b", "there is no `steps`; names: inputs"),
        ("feedback.score", "`feedback` is not a root of expressions"),
        ("row.score = 1", "write `==`"),
        ("", "the expression is empty"),
    ],
)
def test_a_mistake_in_a_condition_is_named(where: str, said: str) -> None:
    with pytest.raises(UsageError) as found:
        rows_of_use([use("1", "a")], where=where)
    assert str(found.value).startswith("--where: ") and said in str(found.value)


def test_columns_have_one_value_each() -> None:
    for names, said in (
        ({"label": "text"}, "as an input has"),
        ({"label": "score"}, "the name of a column of feedback"),
    ):
        with pytest.raises(UsageError, match=said):
            rows_of_use([use("1", "a", score=1)], names=names)
    (row,) = rows_of_use([use("1", "a", score=1)], names={"label": "intent", "score": "liked"}).rows
    assert row == {"text": "a", "intent": "billing", "sure": True, "liked": 1, "run": "1"}


def test_private_columns_are_named_and_a_comment_is_one_of_them() -> None:
    found = rows_of_use([use("1", "a", private=("text",), comment="says a")])
    assert found.private == ["text", "comment"]
    found = rows_of_use([use("1", "a", private=("label",), score=0)], names={"label": "intent"}, unlabelled=True)
    assert found.private == ["intent", "answer"]


def test_the_columns_of_a_scored_row_stay_its_labels_unless_they_are_corrected() -> None:
    scored = use("1", "a")
    run = {**scored.run, "columns": {"label": "refund", "hops": 2}, "scores": {"right": 0.0}}
    (row,) = rows_of_use([Use(run, {})], where="metrics.right < 1").rows
    assert row == {"text": "a", "label": "refund", "sure": True, "hops": 2, "answer": ANSWER, "run": "1"}
    (row,) = rows_of_use([Use(run, {"correction": {"label": "other"}})]).rows
    assert (row["label"], row["hops"]) == ("other", 2)
