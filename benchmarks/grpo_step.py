"""One GRPO step on few-shot prompts: lmprog's `grpo` stage against TRL's stock GRPOTrainer, in one run.

Same model, number format, prompts, group size, reply limit, LoRA, loss and optimizer on both sides. The stock trainer gets
the rendered prompts of the same examples; what it spends is what its own loop takes for a step, loading left out.

    python benchmarks/grpo_step.py                        # 3 of our steps, 1 stock step
    python benchmarks/grpo_step.py --stock-steps 3 --steps 9
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "specs" / "quickstart.yaml"
EXAMPLES, ROLLOUTS, REPLY_TOKENS, RANK, ALPHA, LEARNING_RATE = 8, 8, 8, 16, 32, 2e-4


def few_shot(demos: int):
    """The quickstart with `demos` demos of its train rows, and the rows that are left."""
    import lmprog
    from lmprog.data import rows_of
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.strategies.demo_sources import draw_set

    program = lmprog.load(SPEC)
    rows = rows_of(program.plan, "train")
    drawn = draw_set(program.plan.modules["classify"], rows, demos, seed=0)
    return program.with_candidate(Candidate(demos={"classify": drawn})), [row for row in rows if row not in drawn]


def ours(demos: int, steps: int) -> dict:
    """The stage itself, as `lmprog optimize` runs it; a step's seconds are those of its journal."""
    from lmprog.budget import Budget
    from lmprog.optimizers.grpo.config import Config
    from lmprog.optimizers.grpo.stage import WeightStage
    from lmprog.optimizers.journal import Journal
    from lmprog.optimizers.optimizer import Task

    program, rows = few_shot(demos)
    config = Config(
        steps=steps
        + 1,  # the first warms the caches of the process, as the stock side's generation does before its step
        examples=EXAMPLES,
        rollouts=ROLLOUTS,
        learning_rate=LEARNING_RATE,
        no_signal="drop",  # as many rollouts as the stock trainer makes
        evaluate_every=steps + 1,
        lora={"rank": RANK, "alpha": ALPHA},
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        WeightStage(Task(program, rows, rows[:8], "accuracy", Budget({}), journal, 0), config).run()
        timed = [event for event in journal.events if event["event"] == "step"][1:]
    return {
        "seconds": [event["seconds"] for event in timed],
        "rollout_seconds": [event["split"]["rollout"] + event["split"].get("score", 0.0) for event in timed],
        "rows": [event["rows"] for event in timed],
    }


def stock(demos: int, steps: int) -> dict:
    """TRL's own trainer on the same prompts, in micro-batches of 8 rows (64 at once do not fit a laptop's memory)."""
    import peft
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from lmprog.compiler.prompts import PromptBuilder
    from lmprog.lms.embedded import model_folder
    from lmprog.lms.local.weights import fast_in_bfloat16

    program, rows = few_shot(demos)
    builder = PromptBuilder(program.plan.modules["classify"], program.plan.vars)
    data = Dataset.from_list(
        [{"prompt": list(builder.build({"text": row["text"]}).messages), "label": row["label"]} for row in rows]
    )
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            seconds.append(time.perf_counter() - self.started)

    def reward(completions, label, **kwargs):
        return [float(reply[0]["content"].strip() == wanted) for reply, wanted in zip(completions, label, strict=True)]

    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                model_folder(), dtype="bfloat16" if fast_in_bfloat16() else "float32"
            ),
            processing_class=AutoTokenizer.from_pretrained(model_folder(), padding_side="left"),
            reward_funcs=[reward],
            train_dataset=data,
            peft_config=peft.LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0
            ),
            callbacks=[Clock()],
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=ROLLOUTS,
                gradient_accumulation_steps=EXAMPLES,
                num_generations=ROLLOUTS,
                max_completion_length=REPLY_TOKENS,
                max_steps=steps,
                learning_rate=LEARNING_RATE,
                temperature=1.0,
                beta=0.0,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
        )
        trainer.train()
    return {"seconds": seconds}


def measured(side: str, demos: int, steps: int) -> dict:
    """One side in a process of its own, so that its peak memory is its own and neither warms the other."""
    command = [sys.executable, __file__, "--side", side, "--demos", str(demos), "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="steps of ours that are timed")
    parser.add_argument("--stock-steps", type=int, default=1, help="steps of the stock trainer that are timed")
    parser.add_argument("--demos", type=int, default=8, help="demos in the prompt; 8 make about 330 tokens")
    parser.add_argument("--side", choices=("ours", "stock"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        found = {"ours": ours, "stock": stock}[options.side](options.demos, options.steps)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    mine = measured("ours", options.demos, options.steps)
    theirs = measured("stock", options.demos, options.stock_steps)
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
    print(
        f"of ours    {statistics.median(mine['rollout_seconds']):7.1f} s are rollouts; rows with signal {mine['rows']}"
    )


if __name__ == "__main__":
    main()
