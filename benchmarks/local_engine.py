"""Evaluating a module on the embedded model: lmprog's engine against batched `transformers.generate`.

Both answer the same prompts greedily in the same number format. In the case `few-shot` they are of 8 intents of Banking77 with
a demo each, about 370 tokens, and a reply has at most 8 tokens; in the case `long` there are no demos, and a reply is a text
of at most 32 tokens. lmprog evaluates all rows through `lmprog.evaluate`; the peer pads batches of 32 on the left and
runs on the first `--peer-rows` of them, which takes long enough. The two take turns; the ratio is of neighbours. Where an
answer differs, the tokens that part them are compared in one plain forward pass: a tie of bf16 is no error of either.

    python benchmarks/local_engine.py --data ../shared/data/banking77
    python benchmarks/local_engine.py --data ../shared/data/banking77 --case long
    python benchmarks/local_engine.py --data ../shared/data/banking77 --model hf/FOLDER
    python benchmarks/local_engine.py --data ../shared/data/banking77 --llama-server BINARY --gguf FILE

The last also asks llama.cpp's server (llama_server.py), with its continuous batching, all rows in the same turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from llama_server import LlamaServer

import lmprog
from lmprog.compiler.prompts.messages import PromptBuilder
from lmprog.lms.local import shared

MODEL = "embedded/smollm2-135m"
DEMOS = 1
"""For each intent."""
TOKENS = {"few-shot": 8, "long": 32}
"""The most of a reply, by case."""
BATCH = 32
TIE = 2**-7
"""Relative: two logits that are closer than this are one number in bf16."""

SPEC = """
lmprog: 1
name: intents
lms: {{student: {{model: {model}, params: {{max_tokens: {tokens}}}}}}}
modules:
  classify:
    lm: student
    inputs: {{text: str}}
    outputs: {{label: {kind}}}
    instructions: {instructions}
    demos: {demos}
data: {{test: rows.jsonl}}
metrics:
  accuracy:
    python: ./metric.py:same
    with: {{label: "${{{{ outputs.label }}}}", wanted: "${{{{ row.label }}}}"}}
"""
INSTRUCTIONS = {
    "few-shot": "Say what the customer's message is about.",
    "long": "Say in one long sentence what the customer's message is about and what the bank should do next.",
}
METRIC = "def same(label: str, wanted: str) -> bool:\n    return label == wanted\n"


def program_and_rows(
    data: Path, count: int, folder: Path, case: str, model: str
) -> tuple[lmprog.Program, list[dict[str, str]]]:
    """The program, and `count` rows of the 8 most frequent intents."""

    def read(name: str) -> list[dict[str, str]]:
        lines = (data / name).read_text().splitlines()
        return [{"text": row["text"], "label": row["intent"]} for row in map(json.loads, lines)]

    train = read("train.jsonl")
    counts = Counter(row["label"] for row in train)
    labels = sorted(counts, key=lambda label: (-counts[label], label))[:8]
    of_label = {label: [row for row in train if row["label"] == label] for label in labels}
    demos = [of_label[label][place] for place in range(DEMOS) for label in labels]
    rows = [row for row in train if row["label"] in labels and row not in demos][:count]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "metric.py").write_text(METRIC)
    path = folder / "intents.yaml"
    few_shot = case == "few-shot"
    path.write_text(
        SPEC.format(
            model=model,
            tokens=TOKENS[case],
            kind=f"{{enum: {json.dumps(labels)}}}" if few_shot else "str",
            instructions=INSTRUCTIONS[case],
            demos=json.dumps(demos if few_shot else [], ensure_ascii=True),
        )
    )
    return lmprog.load(path), rows


def ours(program: lmprog.Program, rows: Sequence[dict[str, str]]) -> tuple[float, list[tuple[int, ...]], float]:
    """Seconds, the token ids of each reply, and the accuracy."""
    started = time.perf_counter()
    scores = lmprog.evaluate(program, rows, "accuracy")
    seconds = time.perf_counter() - started
    return seconds, [tuple(row.result.trace[0].token_ids or ()) for row in scores.rows], scores.mean


def theirs(
    model: Any, tokenizer: Any, texts: Sequence[str], end_ids: frozenset[int], tokens: int
) -> tuple[float, list[Any]]:
    """Seconds, and the token ids of each reply, the end token included."""
    started = time.perf_counter()
    replies: list[Any] = []
    for first in range(0, len(texts), BATCH):
        batch = tokenizer(
            list(texts[first : first + BATCH]), return_tensors="pt", padding=True, padding_side="left",
            add_special_tokens=False,
        ).to(model.device)  # fmt: skip
        with torch.no_grad():
            out = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
        for row in out[:, batch["input_ids"].shape[1] :].tolist():
            end = next((place for place, token in enumerate(row) if token in end_ids), len(row) - 1)
            replies.append(tuple(row[: end + 1]))
    return time.perf_counter() - started, replies


def is_tie(model: Any, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the first tokens that differ have logits that are one number in bf16."""
    place = next(place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *one[:place]]], device=model.device)).logits[0, -1].float()
    first, second = float(logits[one[place]]), float(logits[other[place]])
    return abs(first - second) <= 2 * TIE * max(abs(first), abs(second))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77"))
    parser.add_argument("--model", default=MODEL, help="a model that lmprog loads, as hf/FOLDER")
    parser.add_argument("--llama-server", type=Path, help="the binary of llama.cpp's server, to be a second peer")
    parser.add_argument("--gguf", type=Path, help="the same model for it, in bf16")
    parser.add_argument("--case", choices=TOKENS, default="few-shot")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--peer-rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if (args.llama_server is None) != (args.gguf is None):
        parser.error("--llama-server and --gguf go together")
    from transformers import AutoModelForCausalLM

    from lmprog.lms.local.weights import folder_of

    with tempfile.TemporaryDirectory() as folder:
        program, rows = program_and_rows(args.data, args.rows, Path(folder), args.case, args.model)
    lm = shared(args.model)
    tokenizer, end_ids = lm.weights.tokenizer, lm.weights.end_ids
    stock = AutoModelForCausalLM.from_pretrained(folder_of(args.model), dtype=lm.weights.base.dtype)
    stock.to(lm.weights.base.device).eval()
    builder = PromptBuilder(program.plan.modules["classify"], program.plan.vars)
    prompts = [list(builder.build({"text": row["text"]}).messages) for row in rows]
    texts = [tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    print(f"{len(rows)} rows, prompts of {statistics.fmean(map(len, ids)):.0f} tokens, {lm.weights.base.dtype}")
    ours(program, rows[:8])
    theirs(stock, tokenizer, texts[:8], end_ids, TOKENS[args.case])
    peer_rows = min(args.peer_rows, len(rows))
    ratios, beside = [], []
    for _ in range(args.repeats):
        seconds, replies, accuracy = ours(program, rows)
        peer_seconds, peer_replies = theirs(stock, tokenizer, texts[:peer_rows], end_ids, TOKENS[args.case])
        rate, peer_rate = len(rows) / seconds, peer_rows / peer_seconds
        ratios.append(rate / peer_rate)
        print(f"lmprog {rate:6.1f} rows/s, transformers.generate {peer_rate:5.1f} rows/s: {ratios[-1]:.1f} times")
        if args.llama_server is not None:
            with LlamaServer(args.llama_server, args.gguf, max(map(len, ids)) + TOKENS[args.case]) as llama:
                llama.answer(ids[:8], TOKENS[args.case])
                llama_seconds, llama_replies = llama.answer(ids, TOKENS[args.case])
            beside.append(rate / (len(rows) / llama_seconds))
            same = sum(tuple(one) == tuple(other) for one, other in zip(replies, llama_replies, strict=True))
            print(
                f"llama.cpp's server {len(rows) / llama_seconds:6.1f} rows/s: lmprog has {beside[-1]:.1f} times as many; "
                f"{same} of {len(rows)} answers are equal"
            )
    differ = [row for row in range(peer_rows) if replies[row] != peer_replies[row]]
    ties = [row for row in differ if is_tie(stock, ids[row], replies[row], peer_replies[row])]
    print(f"accuracy {accuracy:.3f}; of {peer_rows} answers {len(differ)} differ, {len(ties)} of them by a tie of bf16")
    print(f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    said = {
        "ratio": statistics.median(ratios),
        "rows_per_second": rate,
        "tokens_per_second": rate * statistics.fmean(map(len, replies)),
        "times_llama": statistics.median(beside) if beside else None,
        "differ": len(differ),
        "ties": len(ties),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
