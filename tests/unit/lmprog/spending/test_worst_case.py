"""The longest prompts: no prompt of a row is longer, tuned or not, and what cannot be known is the context window or None."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmprog.compiler.prompts.messages import PromptBuilder
from lmprog.spending.budget import BYTES_PER_TOKEN, TOKENS_PER_MESSAGE
from lmprog.spending.worst_case import CallBound, Growth, asks

SPEC = """
    name: desk
    inputs: {text: str}
    outputs: {label: "${{ steps.sort.label }}", more: "${{ steps.again.said }}"}
    modules:
      sort: {lm: lm, inputs: {text: str}, outputs: {label: str}, instructions: Say which.}
      again: {lm: lm, inputs: {label: str}, outputs: {said: str}, instructions: Say it again.}
    steps:
      sort: {module: sort, with: {text: "${{ inputs.text }}"}}
      again: {module: again, with: {label: "${{ steps.sort.label }}"}}
"""
TEXTS = st.text(max_size=200)


def found(program, rows, growth=None, known: str = "") -> list[CallBound]:
    plan = program(SPEC).plan
    if known:
        lm = replace(plan.lms["lm"], context=5000, params={"max_tokens": 20})
        plan = replace(plan, lms={"lm": lm})
    return asks(plan, rows, growth or Growth())


def test_a_prompt_that_reads_a_reply_is_as_long_as_the_context(program) -> None:
    rows = [{"text": "a" * 100}]
    first, second = found(program, rows, known="context")
    assert 50 < first.prompt < 150 and second.prompt == 5000
    assert (first.calls, first.reply) == (1, 20)
    first, second = found(program, rows)
    assert second.prompt is None and second.reply is None and second.usd is None


def test_a_judge_whose_rows_are_not_known_is_bounded_by_the_context(program) -> None:
    assert found(program, [], known="context")[0].prompt == 5000


def test_no_prompt_of_a_row_is_longer(program) -> None:
    plan = program(SPEC + """
    data: {train: train.jsonl}
    metrics: {m: {value: "1.0"}}
    optimize: {metric: m, validate: train, tune: {sort: [demos, instructions]}, stages: [bootstrap]}
""", train__jsonl='{"text": "a"}\n').plan  # fmt: skip
    plan = replace(plan, lms={"lm": replace(plan.lms["lm"], context=10**6, params={"max_tokens": 20})})
    module = plan.modules["sort"]

    @given(st.lists(st.fixed_dictionaries({"text": TEXTS, "label": TEXTS}), min_size=1, max_size=4))
    def holds(rows: list) -> None:
        bound = asks(plan, rows, Growth(3, 40))[0].prompt
        demos = tuple((rows * 3)[:3])
        tuned = PromptBuilder(replace(module, demos=demos, instructions="é" * 40), plan.vars)
        for row in rows:
            messages = tuned.build({"text": row["text"]}).messages
            written = sum(len(m["content"].encode(errors="replace")) // BYTES_PER_TOKEN for m in messages)
            assert written + TOKENS_PER_MESSAGE * len(messages) <= bound

    holds()


RAG = """
    name: desk
    inputs: {text: str}
    tools: {look: {search: {corpus: corpus.jsonl, text: text, columns: [title, text]}, result: found}}
    outputs: {answer: "${{ steps.answer.answer }}"}
    modules:
      answer: {lm: lm, inputs: {found: "list[{title: str, text: str}]", text: str}, outputs: {answer: str}}
    steps:
      find: {tool: look, with: {query: "${{ inputs.text }}", k: 3}}
      answer: {module: answer, with: {found: "${{ steps.find.found }}", text: "${{ inputs.text }}"}}
"""
CORPUS = "".join(f'{{"title": "{"t" * size}", "text": "{"x" * (300 - 10 * size)}"}}\n' for size in range(1, 20))


def test_a_prompt_with_passages_is_bounded_by_the_corpus(program) -> None:
    plan = program(RAG, corpus__jsonl=CORPUS).plan
    plan = replace(plan, lms={"lm": replace(plan.lms["lm"], context=10**6, params={"max_tokens": 20})})
    (ask,) = asks(plan, [{"text": "a"}], Growth())
    longest = 3 * (290 + 19) // BYTES_PER_TOKEN
    assert longest < ask.prompt < 2 * longest and not ask.by_context
    assert ask.usual.replies == 0 and 3 * 200 / 4 < ask.usual.written < ask.prompt


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("k: 3", 'k: "${{ len(inputs.text) }}"'),  # an unknown number
        ("k: 3}", "k: 3}, on_error: {found: []}"),  # a value that stands in
        ('found: "${{ steps.find.found }}"', 'found: "${{ unique(steps.find.found) }}"'),  # equal entries stand in
        ('found: "${{ steps.find.found }}"', 'found: "${{ steps.find.found if len(steps.find.found) < 2 else [] }}"'),
    ],
)
def test_passages_of_unknown_length_are_bounded_by_the_context(program, old: str, new: str) -> None:
    plan = program(RAG.replace(old, new), corpus__jsonl=CORPUS).plan
    plan = replace(plan, lms={"lm": replace(plan.lms["lm"], context=10**6, params={"max_tokens": 20})})
    (ask,) = asks(plan, [{"text": "a"}], Growth())
    assert (ask.prompt, ask.by_context) == (10**6, True)
