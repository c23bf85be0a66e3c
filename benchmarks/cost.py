"""The cost of a large training of the HoVer program of four hops (specs/full/hover.yaml): calls, tokens, traffic and servers.

    python benchmarks/cost.py --rows 10000 --rollouts 32 --steps 500

Calls and tokens are those of `lmprog optimize --dry-run`: at most, and as estimated. The estimate takes one turn of each
`repeat`; here its calls of a run are scaled to all seven, which this program always makes. Its prompts are then those of the
first turn, with no notes yet. Bytes are those of messages that are made and measured here. Rows and pages are stand-ins of
usual length: no row is run, and no model asked.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLAIM = (
    "The film whose lead actress was born in the town of the festival that the director of a drama of 1987 founded was shot "
    "in the country of its composer."
)
SCALE = {"processor ms of a call here": 0.47, "at the driver": 0.14, "at a worker": 0.61}
"""Processor time of a call of one module, by `benchmarks/scale.py --case processor`, in milliseconds."""


def program_of(folder: Path, rows: int, steps: int, rollouts: int) -> Any:
    """Return the program with `rows` stand-in train rows, whose one stage trains on each row once in `steps` steps."""
    import lmprog

    sets: dict[str, Any] = {}
    for split, count in (("train", rows), ("dev", 200), ("test", 300)):
        path = folder / f"{split}.jsonl"
        lines = ({"claim": f"{CLAIM} ({split} {n})", "supporting_facts": ["A", "B"]} for n in range(count))
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        sets[f"data.{split}"] = str(path)
    pages = folder / "pages.jsonl"
    pages.write_text("".join(json.dumps({"title": f"Page {n}", "text": "word " * 80}) + "\n" for n in range(20)))
    for tool in ("search", "read"):
        sets[f"tools.{tool}.search.corpus"] = str(pages)
    grpo = {"steps": steps, "examples": rows // steps, "rollouts": rollouts, "temperature": 0.6, "no_signal": "drop"}
    sets["optimize.stages"] = [{"grpo": {**grpo, "evaluate_every": 50}}]
    return lmprog.load(ROOT / "specs/full/hover.yaml", overrides=sets)


def traffic(program: Any, prompt: float, reply: float) -> Mapping[str, float]:
    """Return the bytes of one call with so many tokens: to and from a server of vLLM, and of a worker's messages."""
    from lmprog.compiler.tokens import CHARACTERS_PER_TOKEN
    from lmprog.lms.lm import Usage
    from lmprog.traces.record import Invocation

    words, said = "x" * round(prompt * CHARACTERS_PER_TOKEN), "x" * round(reply * CHARACTERS_PER_TOKEN)
    messages = [{"role": "user", "content": words}]
    ids, logprobs = (
        [100_000 + n for n in range(round(reply))],
        [-1.2345678901234567 + n / 1e6 for n in range(round(reply))],
    )
    asked = {"model": "lmprog-0123456789abcdef", "messages": messages, "max_tokens": 1024, "seed": 1, "logprobs": True}
    content = [
        {"token": f"token_id:{id}", "logprob": value, "bytes": None, "top_logprobs": []}
        for id, value in zip(ids, logprobs, strict=True)
    ]
    choice = {"message": {"role": "assistant", "content": said}, "logprobs": {"content": content}, "token_ids": ids}
    answered = {"choices": [choice], "prompt_token_ids": [100_000 + n for n in range(round(prompt))]}
    made = Invocation(
        program="hover_full", module="generate_query", path="research[0].query", call=0, example=0, rollout=0,
        inputs={"claim": CLAIM, "notes": []}, messages=messages, text=said, outputs={"query": said}, token_ids=ids,
        prompt_token_ids=answered["prompt_token_ids"], logprobs=logprobs, usage=Usage(round(prompt), round(reply)),
    )  # fmt: skip
    return {
        "to a server": len(json.dumps(asked)),
        "from a server": len(json.dumps(answered)),
        "from a worker": len(pickle.dumps(made)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rollouts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--days", type=float, default=1.0, help="in which the rollouts are to be sampled")
    options = parser.parse_args()
    if options.rows % options.steps:
        parser.error("--steps must divide --rows: each row is trained on once")
    from lmprog.optimizers.dry_run import forecast

    with tempfile.TemporaryDirectory() as name:
        program = program_of(Path(name), options.rows, options.steps, options.rollouts)
        found = forecast(program)
        runs = options.rows * options.rollouts
        most, usual = found.parts[0], found.estimated[0]
        calls_of_a_run = 7  # four queries, and notes after the first three
        scale = runs * calls_of_a_run / usual.lm_calls
        prompt, reply = usual.prompt_tokens / usual.lm_calls, usual.completion_tokens / usual.lm_calls
        speed = program.plan.lms["student"].speed
        bytes_of = traffic(program, prompt, reply)
    calls = runs * calls_of_a_run
    seconds = usual.prompt_tokens * scale / speed["input"] + usual.completion_tokens * scale / speed["output"]
    print(f"| runs of the program ({options.rows:,} rows x {options.rollouts}, in {options.steps} steps) | {runs:,} |")
    print(f"| calls: at most; as estimated | {most.lm_calls:,.0f}; {calls:,.0f} |")
    print(f"| prompt tokens: at most; as estimated | {most.prompt_tokens:,.0f}; {usual.prompt_tokens * scale:,.0f} |")
    print(
        f"| reply tokens: at most; as estimated | {most.completion_tokens:,.0f}; {usual.completion_tokens * scale:,.0f} |"
    )
    for way, size in bytes_of.items():
        print(f"| bytes {way}: of a call; in all | {size / 1e3:,.1f} kB; {size * calls / 1e9:,.0f} GB |")
    for way, spent in SCALE.items():
        print(f"| {way}: in all | {spent:g}; {spent * calls / 3.6e6:.1f} h of a core |")
    print(f"| hours of one server at the `speed` of the program | {seconds / 3600:,.0f} |")
    print(f"| servers to sample it in {options.days:g} days | {seconds / 86400 / options.days:,.1f} |")


if __name__ == "__main__":
    main()
