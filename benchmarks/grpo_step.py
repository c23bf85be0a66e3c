"""One GRPO step: lmprog's `grpo` stage against TRL's stock GRPOTrainer, in one run, on two programs.

`few-shot` is the quickstart, one module; `search` is the program of two modules and two searches of
benchmarks/prompt_search.py, where the peer is the stock trainer run on the prompts of each module in turn. Both have demos in
their prompts, as a program has that a prompt search was at before; with `--demos 0` there are none, and little is shared.

Same model, number format, prompts, group size, reply limit, LoRA, loss and optimizer on both sides. The stock trainer gets
the rendered prompts of the same examples; what it spends is what its own loop takes for a step, loading left out. The
arithmetic limit is what the step's multiplications and the reading of the weights take at rates that are measured here: a
large product of matrices, a large copy.

    python benchmarks/grpo_step.py                        # few-shot: 3 of our steps, 1 stock step
    python benchmarks/grpo_step.py --program search --data ../shared/data
    python benchmarks/grpo_step.py --program search --data ../shared/data --demos 0
    python benchmarks/grpo_step.py --stock-steps 3 --steps 9
    python benchmarks/grpo_step.py --model hf/FOLDER    # a bigger model than the embedded one, as a folder
"""

from __future__ import annotations

import argparse
import atexit
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "quickstart.yaml"
RANK, ALPHA, LEARNING_RATE = 16, 32, 2e-4
DEMOS = {"few-shot": 8, "search": 4}
QUERY_TOKENS = 24
"""The longest reply of the search program."""


@dataclass(frozen=True)
class Case:
    """A program to train, its rows, and what a reply of a module is worth to the stock trainer, given the row."""

    program: Any
    options: argparse.Namespace
    rows: Sequence[dict[str, Any]]
    metric: str
    worth: Callable[[str, dict[str, Any]], float]

    @property
    def examples(self) -> int:
        return self.options.examples

    @property
    def rollouts(self) -> int:
        return self.options.rollouts

    @property
    def reply_tokens(self) -> int:
        (limit,) = {self.program.plan.lms[m.lm].params["max_tokens"] for m in self.program.plan.modules.values()}
        return limit


def few_shot(options: argparse.Namespace) -> Case:
    """The quickstart with demos of its train rows, and the rows that are left."""
    import lmprog
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.strategies.demo_sources import draw_set
    from lmprog.scoring.data import rows_of

    program = lmprog.load(SPEC, overrides={"lms.student.model": options.model})
    rows = rows_of(program.plan, "train")
    drawn = draw_set(program.plan.modules["classify"], rows, options.demos, seed=0)
    program = program.with_candidate(Candidate(demos={"classify": drawn}))
    left = [row for row in rows if row not in drawn]
    return Case(program, options, left, "accuracy", lambda reply, row: float(reply.strip() == row["label"]))


def search(options: argparse.Namespace) -> Case:
    """Two modules that write queries, two searches; the reward is the share of the wanted pages that were found.

    The demos are what the modules wrote on dev rows where half of the pages were found.
    """
    import prompt_search_tasks as tasks

    import lmprog
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.strategies.demo_sources import bootstrapped, draw_set
    from lmprog.tools.search import index_of

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)  # the program is compiled anew where its weights change
    task = tasks.multihop(options.data, tasks.Sizes(), 0, folder)
    trained = {
        "optimize.tune": {"first": ["weights"], "second": ["weights"]},
        "optimize.stages": ["grpo"],
        "lms.student.params.max_tokens": QUERY_TOKENS,
        "lms.student.model": options.model,
    }
    program = lmprog.load(task.spec, overrides=trained)
    if options.demos:
        solved = lmprog.evaluate(program, task.dev, task.metric).rows
        program = program.with_candidate(
            Candidate(
                demos={
                    module.id: draw_set(module, bootstrapped(module, solved, 0.5, 0.0), options.demos, seed=0)
                    for module in program.plan.modules.values()
                }
            )
        )
    pages = index_of(task.corpus, ("title", "text"), "title")
    return Case(
        program,
        options,
        task.train,
        task.metric,
        lambda reply, row: tasks.title_recall(pages.search(reply, tasks.HITS), row["titles"]),
    )


PROGRAMS = {"few-shot": few_shot, "search": search}


def ours(case: Case, steps: int) -> dict[str, Any]:
    """The stage itself, as `lmprog optimize` runs it; a step's seconds are those of its journal."""
    from lmprog.optimizers.grpo.config import Config
    from lmprog.optimizers.grpo.policy import Policy
    from lmprog.optimizers.grpo.prompts import OwnPrompts
    from lmprog.optimizers.grpo.row_source import StepRows
    from lmprog.optimizers.grpo.sampler import Sampler
    from lmprog.optimizers.grpo.stage import WeightStage
    from lmprog.optimizers.grpo.stopwatch import Stopwatch
    from lmprog.optimizers.journal.files import Journal
    from lmprog.optimizers.optimizer import Task
    from lmprog.spending.budget import Budget

    sampled: list[list[Any]] = []
    trained: list[list[Any]] = []

    class Watched(Sampler):
        """The sampler, which keeps what its steps sampled and what they trained on."""

        async def rows(self, step: int) -> StepRows:
            sampled.append([])
            found = await super().rows(step)
            trained.append(found.rows)
            return found

        async def _waves(self, step: int, program: Any) -> list[Any]:
            waves = await super()._waves(step, program)
            sampled[-1] += [made for wave in waves for run in wave.rollouts for made in run.invocations]
            return waves

    config = Config(
        # The first warms the caches of the process, as the stock side's generation does before its step.
        steps=steps + 1,
        examples=case.examples,
        rollouts=case.rollouts,
        learning_rate=LEARNING_RATE,
        no_signal="drop",  # as many rollouts as the stock trainer makes
        evaluate_every=steps + 1,
        lora={"rank": RANK, "alpha": ALPHA},
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        task = Task(case.program, case.rows, case.rows[:8], case.metric, Budget({}), journal, 0)
        policy, prompts = Policy(task.program, journal.folder, journal.note), OwnPrompts()
        sampler = Watched(task, config, policy, prompts, Stopwatch())
        WeightStage("grpo", task, policy, sampler, prompts).run()
        timed = [event for event in journal.events if event["event"] == "step"][1:]
    (weights,) = set(policy.weights.values())
    parameters = sum(weight.numel() for name, weight in weights.model.named_parameters() if "lora_" not in name)
    rates = Rates.measured(weights.model.dtype)
    limits = [rates.limit(parameters, *both) for both in zip(sampled[1:], trained[1:], strict=True)]
    return {
        "seconds": [event["seconds"] for event in timed],
        "splits": [event["split"] for event in timed],
        "rows": [event["rows"] for event in timed],
        "limits": limits,
        "rates": [rates.flops, rates.bytes],
    }


@dataclass(frozen=True)
class Rates:
    """What this machine does in a second: floating point operations in products of matrices, bytes in a copy."""

    flops: float
    bytes: float
    width: int
    """Bytes of a weight."""

    @staticmethod
    def measured(dtype: Any) -> Rates:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        left, right = torch.randn(2, 2048, 2048, device=device).to(dtype)
        source = torch.ones(2**28, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        product = min(_seconds(lambda: left @ right) for _ in range(9))
        copy = min(_seconds(lambda: target.copy_(source)) for _ in range(9))
        return Rates(2 * 2048**3 / product, len(source) / copy, dtype.itemsize)

    def limit(self, parameters: int, sampled: Sequence[Any], trained: Sequence[Any]) -> float:
        """Seconds of a step: of its forward and backward pass, of reading prompts and decoding, of reading the weights.

        Each token that sequences share is counted once. Weights are frozen, so that the backward pass costs what the
        forward pass does; decoding reads the weights once for each token of the longest reply of a module.
        """
        prompts = _nodes([made.prompt_token_ids for made in sampled])
        decoded = sum(len(made.token_ids) for made in sampled)
        longest = {made.module: max(len(m.token_ids) for m in sampled if m.module == made.module) for made in sampled}
        tree = _nodes([[*row.prompt_ids, *row.reply_ids] for row in trained])
        work = tree * 4 * parameters + (prompts + decoded) * 2 * parameters
        return work / self.flops + sum(longest.values()) * parameters * self.width / self.bytes


def _seconds(work: Callable[[], object]) -> float:
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else bool
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def _nodes(sequences: Sequence[Sequence[int]]) -> int:
    """The tokens of all sequences, those of common beginnings counted once."""
    return len({tuple(sequence[: end + 1]) for sequence in sequences for end in range(len(sequence))})


def stock(case: Case, steps: int) -> dict[str, Any]:
    """TRL's own trainer on the prompts of each module in turn; a step's seconds are the sum over modules."""
    import lmprog

    results = lmprog.evaluate(case.program, case.rows[: case.examples], case.metric).rows
    by_module = []
    for module in case.program.plan.modules:
        calls = [
            (made.messages, case.rows[row.row]) for row in results for made in row.result.trace if made.module == module
        ]
        by_module.append(_stock_steps(case, calls, steps))
    return {"seconds": [sum(of_step) for of_step in zip(*by_module, strict=True)]}


def _stock_steps(case: Case, calls: Sequence[tuple[Any, dict[str, Any]]], steps: int) -> list[float]:
    """In micro-batches of 8 rows on a CPU, since 64 at once do not fit a laptop's memory; all at once on a GPU."""
    import peft
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from lmprog.lms.local.weights import fast_in_bfloat16, folder_of

    data = Dataset.from_list([{"prompt": list(messages), "row": json.dumps(row)} for messages, row in calls])
    seconds: list[float] = []
    on_gpu, source = torch.cuda.is_available(), folder_of(case.options.model)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            seconds.append(time.perf_counter() - self.started)

    def reward(completions, row, **kwargs):
        return [case.worth(reply[0]["content"], json.loads(of)) for reply, of in zip(completions, row, strict=True)]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(source, dtype="bfloat16" if fast_in_bfloat16() else "float32"),
            processing_class=AutoTokenizer.from_pretrained(source, padding_side="left"),
            reward_funcs=[reward],
            train_dataset=data,
            peft_config=peft.LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
            ),
            callbacks=[Clock()],
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=case.rollouts * (case.examples if on_gpu else 1),
                gradient_accumulation_steps=1 if on_gpu else case.examples,
                num_generations=case.rollouts,
                max_completion_length=case.reply_tokens,
                max_steps=steps,
                learning_rate=LEARNING_RATE,
                temperature=1.0,
                beta=0.0,
                use_cpu=not on_gpu,
                bf16=False,
                gradient_checkpointing=False,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
        )
        trainer.train()
    return seconds


def _peak_mb() -> float:
    """The largest memory of this process: of the GPU where there is one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own, so that its peak memory is its own and neither warms the other."""
    done = subprocess.run([sys.executable, *sys.argv, "--side", side], stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", choices=PROGRAMS, default="few-shot")
    parser.add_argument("--data", type=Path, help="for search: the folder that holds multihop/")
    parser.add_argument("--steps", type=int, default=3, help="steps of ours that are timed")
    parser.add_argument("--stock-steps", type=int, default=1, help="steps of the stock trainer that are timed")
    parser.add_argument("--model", default="embedded/smollm2-135m", help="a model that lmprog loads, as hf/FOLDER")
    parser.add_argument("--examples", type=int, default=8, help="of a step")
    parser.add_argument("--rollouts", type=int, default=8, help="of an example")
    parser.add_argument("--demos", type=int, help="in the prompt of each module (few-shot 8, search 4)")
    parser.add_argument("--side", choices=("ours", "stock"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.demos is None:
        options.demos = DEMOS[options.program]
    if options.program == "search" and options.data is None:
        parser.error("--program search wants --data, the folder that holds multihop/")
    if options.side:
        case = PROGRAMS[options.program](options)
        found = ours(case, options.steps) if options.side == "ours" else stock(case, options.stock_steps)
        found["peak_mb"] = _peak_mb()
        print(json.dumps(found))
        return
    mine, theirs = measured("ours", options), measured("stock", options)
    for name, side in (("lmprog", mine), ("stock TRL", theirs)):
        shown = ", ".join(f"{second:.1f}" for second in side["seconds"])
        print(
            f"{name:<10} {statistics.median(side['seconds']):7.1f} s a step ({shown}), peak {side['peak_mb']:,.0f} MB"
        )
    ratios = [theirs_ / mine_ for theirs_ in theirs["seconds"] for mine_ in mine["seconds"]]
    print(
        f"ratio      {statistics.median(theirs['seconds']) / statistics.median(mine['seconds']):7.1f} times faster "
        f"(each step against each: {min(ratios):.1f} to {max(ratios):.1f})"
    )
    over = [seconds / limit for seconds, limit in zip(mine["seconds"], mine["limits"], strict=True)]
    flops, copied = mine["rates"]
    print(
        f"limit      {statistics.median(mine['limits']):7.1f} s at {flops / 1e9:.0f} GFLOP/s and {copied / 1e9:.1f} GB/s "
        f"copied; ours takes {statistics.median(over):.1f} times that ({min(over):.1f} to {max(over):.1f})"
    )
    for split, rows in zip(mine["splits"], mine["rows"], strict=True):
        print(f"of ours    {', '.join(f'{part} {second:.1f} s' for part, second in split.items())}; {rows} rows")


if __name__ == "__main__":
    main()
