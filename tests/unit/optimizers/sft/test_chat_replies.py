"""Replies to learn as turns of a chat, for a provider that trains."""

from __future__ import annotations

import lmprog
from lmprog.optimizers.sft.chat_replies import ChatReplies
from lmprog.traces.record import Invocation


def test_outputs_that_the_prompt_cannot_write_give_no_reply_to_learn(write_spec) -> None:
    prompt = 'prompt: {user: "{{ instructions }} {{ number }}", assistant: "{{ 10 // number }} {{ parity }}"}'
    spec = write_spec(("instructions: Say something.", f"instructions: Say something.\n    {prompt}"))
    gathering = object.__new__(ChatReplies)  # of what it is made with only the program counts here
    gathering.program = lmprog.load(spec)

    def reply_of(number: int) -> str | None:
        inputs, outputs = {"number": number}, {"parity": "odd"}
        # As of a reply that had to be repaired: the text itself is not learnt.
        place = {"program": "parity", "module": "judge", "path": "judge", "call": 0, "example": 0, "rollout": 0}
        made = Invocation(**place, inputs=inputs, messages=(), text=None, outputs=outputs)  # type: ignore[arg-type]
        found = gathering.reply_of(made)
        return None if found is None else found.text

    assert reply_of(5) == "2 odd"
    assert reply_of(0) is None
