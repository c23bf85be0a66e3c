"""Pages of this machine alone: which requests are answered, and what a page may say of a program with private values."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmprog
from lmprog.cli.columns import Column, Plan, unscored
from lmprog.errors import UsageError
from lmprog.reports.matrix import Matrix
from lmprog.reports.page.evaluation_report import EvaluationReport
from lmprog.reports.page.server import LocalHandler

SPEC = """
lmprog: 1
name: desk
inputs: {text: {type: str, private: true}}
lms: {lm: {model: openai/none, trusted: true}}
modules: {ask: {lm: lm, inputs: {text: str}, outputs: {answer: str}, instructions: Answer.}}
steps: {ask: {module: ask, with: {text: "${{ inputs.text }}"}}}
outputs: {answer: "${{ steps.ask.answer }}"}
"""


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"host": "127.0.0.1:8000"}, True),
        ({"host": "localhost"}, True),  # a browser leaves port 80 out
        ({"host": "127.0.0.1", "origin": "http://127.0.0.1"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1"}, False),
        ({"host": "127.0.0.1.example.com"}, False),
        ({"host": "example.com:8000"}, False),
        ({}, False),
    ],
)
def test_only_requests_of_this_machine_are_answered(headers: dict[str, str], allowed: bool) -> None:
    refused: list[int] = []

    class Handler(LocalHandler):
        def __init__(self) -> None:
            self.headers = headers  # type: ignore[assignment]

        def answer(self, status: int, text: str, kind: str = "text/plain") -> None:
            refused.append(status)

    assert Handler().is_allowed() is allowed
    assert refused == ([] if allowed else [403])


def test_an_error_that_may_quote_a_private_value_is_not_on_the_page(write) -> None:
    spec = write(SPEC)
    plan = Plan("test", [{"text": "a secret"}], 1, ("exact",), None, {"repeats": 1})
    failed = unscored(Column(spec, {}, lmprog.load(spec)), plan, UsageError("the metric failed: 'a secret'"))
    report = EvaluationReport(Matrix([failed]), None, Path("."))
    assert report.guarded is not None
    assert report.failures(failed) == ["not scored"]
