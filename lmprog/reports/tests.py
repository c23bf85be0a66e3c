"""Outcomes of a spec's tests as text, JSON and JUnit XML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from xml.sax.saxutils import escape

from lmprog.boundary.terminal import printable
from lmprog.reports.junit import attribute, clean, suite
from lmprog.reports.markdown import tests as tests_table
from lmprog.scoring.testing import Outcome

_WORDS = {"passed": ("passed", "32"), "failed": ("FAILED", "31"), "error": ("ERROR ", "33"), "ran": ("ran   ", "32")}


def line(outcome: Outcome, colour: bool = False) -> str:
    """Return a test's outcome as a line of text, and below it the lines of its message: why it did not pass, or the score of a
    gate.

    Control characters of the program are escaped; with `colour` the text has colour codes of terminals.
    """
    word, code = _WORDS[outcome.status]
    if colour:
        word = f"\033[{code}m{word}\033[0m"
    said = [f"{word}  {printable(f'{outcome.spec}: {outcome.name}')}  ({outcome.seconds:.1f} s)"]
    return "\n".join([*said, *(f"        {printable(text)}" for text in outcome.message.splitlines())])


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the counts of the outcomes in a line, as `3 tests: 2 passed, 1 failed`."""
    counts = Counter(outcome.status for outcome in outcomes)
    named = (
        (counts["passed"], "passed"),
        (counts["ran"], "ran"),
        (counts["failed"], "failed"),
        (counts["error"], "stopped by a provider"),
    )
    parts = [f"{count} {name}" for count, name in named if count]
    return f"{len(outcomes)} test{'' if len(outcomes) == 1 else 's'}: {', '.join(parts)}"


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as JSON.

    `{"tests": [{"spec", "name", "status", "message", "score", "seconds"}], "passed", "failed",
    "errors"}`, and in a dry run `"ran"`; `score` is absent where there is none.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    found = {"passed": counts["passed"], "failed": counts["failed"], "errors": counts["error"]}
    found |= {"ran": counts["ran"]} if counts["ran"] else {}
    tests = [outcome.as_json() for outcome in outcomes]
    return json.dumps({"tests": tests, **found}, indent=2, ensure_ascii=False) + "\n"


def junit(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a JUnit document (XML) with one suite and a case for each test; a test that an outage
    ended is an error, not a failure, and one that only ran (in a dry run) passes. Without outcomes the suite is empty.
    """
    counts = Counter(outcome.status for outcome in outcomes)
    return suite("lmprog test", [_case(outcome) for outcome in outcomes], counts["failed"], counts["error"])


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as Markdown: the summary as the heading, and a table of the tests that failed or that an outage
    ended.
    """
    return tests_table(outcomes, summary(outcomes))


def _case(outcome: Outcome) -> str:
    """Return a test's outcome as a test case of JUnit (XML)."""
    where = f"  <testcase classname={attribute(str(outcome.spec))} name={attribute(outcome.name)} "
    where += f'file={attribute(str(outcome.spec))} time="{outcome.seconds:.3f}">'
    text = escape(clean(outcome.message))
    if outcome.status in ("passed", "ran"):
        element = [f"    <system-out>{text}</system-out>"] if text else []
    else:
        kind = "failure" if outcome.status == "failed" else "error"
        element = [f"    <{kind} message={attribute(outcome.message)}>{text}</{kind}>"]
    return "\n".join([where, *element, "  </testcase>"])
