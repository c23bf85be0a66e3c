"""A desk for letters, as DSPy 3.4.1 has it. Its state stands beside it in desk.json, written by `python desk.py desk.json`."""

import sys
from typing import Literal

import dspy
from pydantic import BaseModel


class Part(BaseModel):
    name: str
    pieces: int


class Sort(dspy.Signature):
    """Sort the letter."""

    letter: str = dspy.InputField(desc="what was written")
    day: int = dspy.InputField()
    kind: Literal["order", "complaint"] = dspy.OutputField()
    parts: list[Part] = dspy.OutputField(desc="what is ordered")


def stock(name: str) -> int:
    """Count the pieces in stock."""
    return len(name)


class Desk(dspy.Module):
    def __init__(self, hops=2):
        super().__init__()
        self.sort = dspy.Predict(Sort)
        self.ask = [dspy.ChainOfThought("letter, notes -> note") for _ in range(hops)]
        self.agent = dspy.ReAct("letter, notes -> answer", tools=[stock], max_iters=3)
        self.hops = hops

    def forward(self, letter: str, day: int):
        found = self.sort(letter=letter, day=day)
        notes = []
        for hop in range(self.hops):
            notes = [*notes, self.ask[hop](letter=letter, notes=notes).note]
        reply = self.agent(letter=letter, notes=notes)
        return dspy.Prediction(kind=found.kind, parts=found.parts, answer=reply.answer)


if __name__ == "__main__":
    desk = Desk()
    desk.sort.demos = [
        dspy.Example(augmented=True, letter="Two lamps!", day=3, kind="order", parts=[Part(name="lamp", pieces=2)]),
        dspy.Example(letter="It broke.", kind="complaint"),
    ]
    desk.sort.lm = dspy.LM(
        "openai/gpt-4.1-mini", temperature=0.3, max_tokens=100, api_key="never written", api_base="http://x"
    )
    desk.ask[1].predict.signature = desk.ask[1].predict.signature.with_instructions("Write what is still missing.")
    desk.ask[1].predict.demos = [dspy.Example(augmented=True, letter="a", notes=["b"], reasoning="c", note="d")]
    desk.save(sys.argv[1])
