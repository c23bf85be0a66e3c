"""Tables of an evaluation: labels that are no texts, beside those that are."""

from __future__ import annotations

from typing import Any

from lmprog.runtime.result import Result
from lmprog.scoring.evaluation import RowScore, Scores
from lmprog.scoring.tables import Labels, by_column, confusions


def score(row: int, value: float, said: Any, kind: str | None = None) -> RowScore:
    return RowScore(row, 0, value, Result(None if said is None else {"label": said}, ()), kind=kind)


def test_no_reply_is_another_value_than_the_label_none() -> None:
    rows = [{"label": "None"}, {"label": "None"}, {"label": None}]
    scores = Scores("exact", [score(0, 1.0, "None"), score(1, 0.0, None, "unreadable"), score(2, 0.0, "None")])
    labels = Labels("label", "label")
    assert confusions(scores, rows, labels) == [(None, "None", 1), ("None", None, 1)]
    found = [(group.value, group.estimate.n, group.precision) for group in by_column(scores, rows, "label", labels)]
    assert found == [(None, 1, None), ("None", 2, 0.5)]
