"""Why a reply ended is part of it: what each end is called, what is asked for again, and how."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lmprog
from lmprog.lms.lm import Completion, Request
from lmprog.optimizers.strategies.proposers import LMProposer
from lmprog.runtime.replies import Unreadable, free_text, section

SPEC = """
lmprog: 1
inputs: {text: str}
lms: {m: {model: openai/none}}
modules:
  ask: {retry: 1, inputs: {text: str}, outputs: {label: {type: {enum: [refund, other]}}}, instructions: Say.}
"""


class Says:
    def __init__(self, *replies: Completion) -> None:
        self.replies = list(replies)
        self.asked: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return self.replies[min(len(self.asked), len(self.replies)) - 1]


def failure(write: Any, *replies: Completion) -> tuple[str, Says]:
    lm = Says(*replies)
    with pytest.raises(lmprog.RunError) as caught:
        lmprog.load(write(SPEC), lms={"m": lm})(text="x")
    return str(caught.value), lm


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        (Completion("", finish_reason="content_filter"), "content filter withheld the reply"),
        (Completion("refund", finish_reason="SAFETY"), "content filter withheld the reply"),
        (Completion("", message={"refusal": "I will not"}), "the model refused to reply: 'I will not'"),
        (Completion("", message={"reasoning_content": "refund"}), "thinking and no answer"),
        (Completion("", finish_reason="length", message={"reasoning": "refund"}), "while the model was still thinking"),
        (Completion("", finish_reason="max_tokens"), "before it held an answer; raise max_tokens"),
        (Completion("ref", finish_reason="length"), "cut at its limit of tokens"),
        (Completion("<think>refund", finish_reason="length"), "does not end"),
        (Completion("refund", finish_reason="error"), "failed within its reply (error)"),
    ],
)
def test_each_end_without_an_answer_has_its_own_words(write, completion: Completion, said: str) -> None:
    assert said in failure(write, completion)[0]


@pytest.mark.parametrize("text", ["", "  \n", "<think>refund"])
def test_a_retry_sends_no_empty_turn(write, text: str) -> None:
    lm = Says(Completion(text), Completion("refund"))
    assert lmprog.load(write(SPEC), lms={"m": lm})(text="x").outputs == {"label": "refund"}
    first, second = lm.asked
    assert list(second.messages) == list(first.messages)
    assert first.seed != second.seed


def test_a_retry_shows_a_reply_that_says_something(write) -> None:
    lm = Says(Completion("perhaps a refund"), Completion("refund"))
    lmprog.load(write(SPEC), lms={"m": lm})(text="x")
    assert [turn["role"] for turn in lm.asked[1].messages][-2:] == ["assistant", "user"]


def test_a_proposal_is_read_as_a_reply_is() -> None:
    def read(text: str, **more: Any) -> str | None:
        try:
            return section("instructions", Completion(text, **more))
        except Unreadable:
            return None

    assert read("<think><instructions>draft</instructions></think><instructions>Sort.</instructions>") == "Sort."
    assert read("Sort the text.") == "Sort the text."
    assert read("<instructions>Sort.") == "Sort."
    for text, more in (
        ("<think><instructions>draft</instructions>", {}),
        ("I'm sorry, but I can't help with that.", {}),
        ("<instructions>Sort the", {"finish_reason": "length"}),
        ("", {}),
    ):
        assert read(text, **more) is None
    with pytest.raises(Unreadable):
        free_text(Completion("<think>x"))
    assert free_text(Completion("<think>x</think>```\nSort.\n```")) == "```\nSort.\n```"


def test_a_draft_within_thinking_is_not_proposed(write) -> None:
    plan = lmprog.load(write(SPEC), lms={"m": Says()}).plan
    lm = Says(
        Completion("<think><instructions>A draft.</instructions>"), Completion("<instructions>Sort.</instructions>")
    )
    found = asyncio.run(LMProposer(lm, {}, 0).propose(plan, plan.modules["ask"], [{"text": "x"}], 2))
    assert found == ["Sort."]
