"""Redaction of test rows and answers for the journal and the reports, which show which rows became right or wrong.

Reports may be read by more people than the data. Where a program has private values, they and the journal's records of the
test therefore hold only inputs that are not private, and outputs that no private value reaches: no label, no error and no
feedback, which may quote private values. Demos, and the runs and replies that stages learn from, are in the journal whole,
which only its owner may read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lmprog.compiler.plan import Plan
from lmprog.compiler.trust.private import private_names
from lmprog.scoring.evaluation import RowScore, Scores

ROWS = 1000
"""Rows that are kept; of a longer split the first."""
LENGTH = 500
"""Characters of a value that are kept."""


class ShownRows:
    """The shortening of rows and answers for the journal and pages: the first 1,000 rows, long values cut, private values left
    out.

    `guarded` is True where the program has private values; labels, errors and feedback are then left out too.
    """

    def __init__(self, plan: Plan) -> None:
        secret, reached = private_names(plan)
        self.guarded = bool(secret or reached)
        self.inputs = frozenset(plan.inputs) - secret
        self.outputs = frozenset(plan.outputs) - reached

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Return each of the first 1,000 rows as short texts by column: all columns, or where the program has private values
        only its inputs that are not private."""
        return [
            {name: short(value) for name, value in row.items() if not self.guarded or name in self.inputs}
            for row in rows[:ROWS]
        ]

    def answers(self, scores: Scores) -> list[dict[str, Any]]:
        """Return the program's answer in each run, in the order of the scores and at most 1,000: a dictionary with its
        `outputs` as short texts, without those that private values reach, and where the program has no private values its
        `error` or the metric's `feedback` if any."""
        return [self._answer(score) for score in scores.rows[:ROWS]]

    def recovered(self, scores: Scores) -> list[dict[str, Any]]:
        """Return an entry for each run in which an `on_error` answered a failure: its place among all the scores
        (`run`, which may be above 1,000) and the `failures`, without their messages where the program has private
        values."""
        found = []
        for run, score in enumerate(scores.rows):
            entries = [each.as_json() for each in score.result.recovered]
            for entry in entries:
                entry["error"] = f"{entry['step']}: not shown" if self.guarded else short(entry["error"])
            if entries:
                found.append({"run": run, "failures": entries})
        return found

    def _answer(self, score: RowScore) -> dict[str, Any]:
        outputs = score.result.outputs or {}
        found: dict[str, Any] = {
            "outputs": {name: short(value) for name, value in outputs.items() if name in self.outputs}
        }
        if not self.guarded:
            failed = score.result.error
            if error := score.cause or (str(failed) if failed is not None else None):
                found["error"] = short(error)
            elif score.feedback:
                found["feedback"] = short(score.feedback)
        return found


def short(value: Any) -> str:
    """Return a value as text that UTF-8 can hold, cut after LENGTH (500) characters, where `…` follows; what is no text is
    written as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}…"
