"""A run of an ensemble: who has a vote, who picks, and whose failure ends it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import lmprog
from lmprog import Completion, ProviderError, Request

SPEC = """
    lmprog: 1
    name: sort
    lms: {small: {model: openai/small}, large: {model: openai/large}}
    modules:
      classify:
        lm: small
        inputs: {text: str}
        outputs: {label: {type: {enum: [x, y]}}}
    metrics:
      calls: {value: trace.modules.classify.calls / 10}
      right: {value: "outputs.label == row.label"}
    data: {dev: rows.jsonl}
    ensemble:
      RULE
      members:
        - classify: {instructions: One.}
        - classify: {instructions: Two.}
        - classify: {instructions: Three.}
"""


class Script:
    """Says for each member what the script has for it; an exception is raised."""

    def __init__(self, says: Mapping[str, Any]) -> None:
        self.says, self.asked = says, 0

    async def complete(self, request: Request) -> Completion:
        self.asked += 1
        system = str(request.messages[0]["content"])
        said = next((said for word, said in self.says.items() if word in system), self.says.get("judge"))
        if isinstance(said, Exception):
            raise said
        return Completion(str(said))


@pytest.fixture
def ran(write, tmp_path: Path):
    """Runs the ensemble with a script of what its members say; returns the result, and the LM of the judge."""
    (tmp_path / "rows.jsonl").write_text('{"text": "hm", "label": "y"}\n')

    def run(*says: Any, rule: str = "vote: label", judge: Any = None):
        script = Script(dict(zip(("One.", "Two.", "Three."), says, strict=True)))
        large = Script({"judge": judge})
        program = lmprog.load(write(SPEC.replace("RULE", rule)), lms={"small": script, "large": large})
        return program, large

    return run


def outcome(program: lmprog.Program) -> Any:
    (result,) = program.map([{"text": "hm"}])
    return result.outputs["label"] if result.error is None else result.error.kind


@pytest.mark.parametrize(
    ("says", "label"),
    [
        (("x", "y", "y"), "y"),
        (("y", "x", "x"), "x"),
        (("x", "y", "?"), "x"),  # a tie, which the first decides
        (("?", "y", "x"), "y"),
        (("?", "?", "y"), "y"),
        (("?", "?", "?"), "expression"),
        (("x", "x", ProviderError("down")), "provider"),  # an outage is none of those that vote
    ],
)
def test_a_vote(ran, says: tuple[Any, ...], label: str) -> None:
    assert outcome(ran(*says)[0]) == label


@pytest.mark.parametrize(
    ("says", "judge", "label", "asked"),
    [
        (("x", "y", "x"), "2", "y", 1),
        (("y", "y", "y"), "3", "y", 0),
        (("?", "y", "x"), "2", "x", 1),  # numbers are of the answers that there are
        (("?", "y", "x"), "3", "y", 1),
        (("x", "y", "y"), "none of them", "x", 1),
        (("x", "y", "y"), ProviderError("down"), "x", 1),
        (("?", "?", "?"), "1", "expression", 0),
    ],
)
def test_a_judge(ran, says: tuple[Any, ...], judge: Any, label: str, asked: int) -> None:
    program, large = ran(*says, rule="judge: large", judge=judge)
    assert (outcome(program), large.asked) == (label, asked)


def test_a_metric_counts_the_calls_of_a_module_in_all_members(ran) -> None:
    program, _ = ran("x", "y", "?")
    scores = lmprog.evaluate(program, [{"text": "hm", "label": "y"}], "calls")
    assert scores.mean == 0.3


def test_equal_models_under_two_names_stay_apart(write) -> None:
    """Each member asks the LM of its own id, also where another is declared alike."""
    text = SPEC.replace("RULE", "vote: label").replace("openai/large", "openai/small").replace("lm: small", "lm: large")
    small, large = Script({}), Script({"One.": "x", "Two.": "x", "Three.": "x"})
    program = lmprog.load(write(text), lms={"small": small, "large": large})
    assert program(text="hm").outputs == {"label": "x"}
    assert (small.asked, large.asked) == (0, 3)
