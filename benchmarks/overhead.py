"""What a module call costs beside its LM: lmprog against DSPy's `ChainOfThought`, both with an LM that answers at once.

Both write a prompt for {question} -> {reasoning, answer}, read both fields from the reply, and keep their trace: lmprog its
records, DSPy its history. The two take turns in one process; a ratio is of neighbours, and its spread is printed.

    python benchmarks/overhead.py            # needs the extra `bench` (DSPy)
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lmprog

SPEC = """
lmprog: 1
name: overhead
lms: {student: {model: openai/none}}
modules:
  answer:
    lm: student
    inputs: {question: str}
    outputs: {reasoning: str, answer: str}
    instructions: Think step by step, then answer the question.
"""


class AtOnce:
    """A test double: the same good reply to every request."""

    async def complete(self, request: lmprog.Request) -> lmprog.Completion:
        return lmprog.Completion(text="<reasoning>It is the sum.</reasoning>\n<answer>42</answer>")


def ours(calls: int) -> dict[str, Callable[[], None]]:
    """Work of `calls` module calls each, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overhead.yaml"
        path.write_text(SPEC)
        program = lmprog.load(path, lms={"student": AtOnce()})

    def one_by_one() -> None:
        for number in range(calls):
            result = program(question=f"What is {number} + 1?")
            assert result.outputs is not None and result.outputs["answer"] == "42" and len(result.trace) == 1

    def rows() -> None:
        results = program.map([{"question": f"What is {number} + 1?"} for number in range(calls)])
        assert all(result.outputs is not None and len(result.trace) == 1 for result in results)

    return {"one by one": one_by_one, "rows": rows}


def theirs(calls: int) -> Callable[[], None]:
    """Work of `calls` calls of DSPy's ChainOfThought with its DummyLM."""
    import dspy
    from dspy.utils import DummyLM

    answer = {"reasoning": "It is the sum.", "answer": "42"}
    module = dspy.ChainOfThought("question -> answer")

    def one_by_one() -> None:
        with dspy.context(lm=DummyLM([answer] * calls), adapter=dspy.ChatAdapter(), trace=[]):
            for number in range(calls):
                assert module(question=f"What is {number} + 1?").answer == "42"

    return one_by_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500, help="calls in each measurement")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each side")
    args = parser.parse_args()
    sides = {f"lmprog, {name}": work for name, work in ours(args.calls).items()} | {"DSPy": theirs(args.calls)}
    for work in sides.values():
        work()
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.repeats):
        for name, work in sides.items():
            started = time.perf_counter()
            work()
            took[name].append((time.perf_counter() - started) / args.calls)
    report = {}
    for name, seconds in took.items():
        ratios = sorted(peer / own for peer, own in zip(took["DSPy"], seconds, strict=True))
        report[name] = {"ms": 1e3 * statistics.median(seconds), "ratio": statistics.median(ratios)}
        line = f"{name:<22} {1e3 * statistics.median(seconds):7.4f} ms a call"
        if name != "DSPy":
            line += f"   {statistics.median(ratios):5.1f} times less than DSPy ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(line)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
