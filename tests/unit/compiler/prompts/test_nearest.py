"""`demos: {nearest: k, of: [...]}`: which demos a call is shown, in prompts, checks and overlays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lmprog.compiler import compile_file
from lmprog.compiler.bounds import static_characters
from lmprog.compiler.overlay import write_overlay
from lmprog.compiler.prompts.messages import PromptBuilder
from lmprog.compiler.prompts.nearest import Nearest
from lmprog.optimizers.candidate import Candidate

TEXTS = ["my card has not arrived", "change my pin", "the card arrived broken", "a refund of a payment"]
POOL = [{"text": text, "label": f"l{place}"} for place, text in enumerate(TEXTS)]
SPEC = """\
lmprog: 1
name: desk
inputs: {text: str}
lms: {student: {model: openai/gpt-4.1, context: CONTEXT}}
modules:
  classify:
    inputs: {text: str}
    outputs: {label: str}
    instructions: Say which.
"""


@pytest.fixture
def plan(tmp_path: Path):
    """Compiles the program with demos."""

    def make(demos: str, more: str = "", context: int = 4000):
        spec = tmp_path / "desk.yaml"
        spec.write_text(SPEC.replace("CONTEXT", str(context)) + f"    demos: {demos}\n" + more)
        return compile_file(spec)

    return make


def places(query: str, count: int = 2) -> list[int]:
    return Nearest(POOL, ["text"], count).places({"text": query})


def test_the_nearest_comes_last() -> None:
    assert places("a broken card") == [0, 2]
    assert places("I want to change the PIN")[-1] == 1


def test_a_demo_of_just_these_inputs_is_left_out() -> None:
    assert 0 not in places(TEXTS[0], 4) and len(places(TEXTS[0], 4)) == 3


@pytest.mark.parametrize("query", ["", "zzz", "the", "?"])
def test_where_no_demo_shares_a_word_they_come_in_their_order(query: str) -> None:
    assert places(query) == [1, 0]


def test_demos_without_a_word_can_be_picked_from() -> None:
    assert Nearest([{"text": "?"}, {"text": "!"}], ["text"], 1).places({"text": "card"}) == [0]


def test_inputs_that_are_no_text_are_compared_as_they_are_written() -> None:
    pool = [{"found": ["blue moon"], "n": 1}, {"found": ["red sun"], "n": 2}, {"found": None, "n": 3}]
    assert Nearest(pool, ["found", "n"], 1).places({"found": ["a red rose"], "n": 7}) == [1]


def demos(*rows: dict[str, str]) -> str:
    return "[" + ", ".join("{" + ", ".join(f"{key}: {value}" for key, value in row.items()) + "}" for row in rows) + "]"


def test_a_prompt_shows_the_nearest_demos_as_earlier_turns(plan) -> None:
    found = plan(f"{{nearest: 2, of: {demos(*POOL)}}}")
    assert found.findings == () and found.plan.modules["classify"].nearest == 2
    prompt = PromptBuilder(found.plan.modules["classify"], {}).build({"text": "a broken card"})
    said = [message["content"] for message in prompt.messages]
    assert said[1:] == [TEXTS[0], "l0", TEXTS[2], "l2", "a broken card"]
    assert prompt.constant == (1, 0)  # the demos are other ones for another row


def test_a_layout_that_prints_demos_prints_the_nearest(plan) -> None:
    layout = '    prompt: {user: "{% for demo in demos %}{{ demo.label }} {% endfor %}{{ text }}"}\n'
    found = plan(f"{{nearest: 1, of: {demos(*POOL)}}}", layout)
    prompt = PromptBuilder(found.plan.modules["classify"], {}).build({"text": "a broken card"})
    assert prompt.messages[-1]["content"] == "l2 a broken card" and prompt.constant == (0, 0)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("{nearest: 0, of: [{text: a, label: b}]}", "LMP101"),
        ("{of: [{text: a, label: b}]}", "LMP101"),
        ("{nearest: 2}", "LMP101"),
        ("{nearest: 2, of: [{txt: a, label: b}]}", "LMP203"),
        ("{nearest: 2, of: [{text: a, label: '{{ b }}'}]}", "LMP803"),
    ],
)
def test_what_is_wrong_with_demos_is_found_in_both_forms(plan, written: str, code: str) -> None:
    assert code in {finding.code for finding in plan(written).findings}


def test_the_context_must_hold_the_demos_that_are_shown_not_all(plan) -> None:
    many = demos(*({"text": f"word{n} " * 40, "label": "l"} for n in range(100)))
    assert "LMP501" in {finding.code for finding in plan(many, context=2000).findings}
    found = plan(f"{{nearest: 2, of: {many}}}", context=2000)
    assert "LMP501" not in {finding.code for finding in found.findings}
    assert static_characters(found.plan.modules["classify"]) < 1000


def test_an_overlay_holds_the_pool_and_a_list_of_demos_takes_its_place(plan, tmp_path: Path) -> None:
    assert plan("[]").plan is not None
    change = Candidate(demos={"classify": POOL}, nearest={"classify": 2})
    write_overlay(tmp_path / "tuned.yaml", tmp_path / "desk.yaml", change.as_overlay(), {})
    tuned = compile_file(tmp_path / "tuned.yaml").plan.modules["classify"]
    assert (tuned.nearest, list(tuned.demos)) == (2, POOL)
    write_overlay(
        tmp_path / "again.yaml", tmp_path / "tuned.yaml", Candidate(demos={"classify": POOL[:1]}).as_overlay(), {}
    )
    again = compile_file(tmp_path / "again.yaml").plan.modules["classify"]
    assert (again.nearest, list(again.demos)) == (None, POOL[:1])


def test_a_later_change_of_the_demos_takes_the_number_with_it() -> None:
    pool = Candidate(demos={"a": POOL, "b": POOL}, nearest={"a": 2, "b": 4})
    assert pool.then(Candidate(demos={"a": POOL[:1]})).nearest == {"b": 4}
    assert pool.then(Candidate(instructions={"a": "x"})).nearest == {"a": 2, "b": 4}
    assert Candidate.from_json(pool.as_json()) == pool


def test_a_check_loads_no_search(tmp_path: Path, plan) -> None:
    plan(f"{{nearest: 2, of: {demos(*POOL)}}}")
    spec = str(tmp_path / "desk.yaml")
    code = f"import sys, lmprog.compiler as c; c.compile_file({spec!r}); print('bm25s' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
