"""specs/banking77.yaml on the embedded model: before, after prompt search, after prompt search and GRPO, on test rows.

Takes the first intents of the data (in the order of their names), cuts train and dev from its train file, and runs
`lmprog optimize` once for each seed. Then `lmprog eval` scores the tuned program again, in a process of its own. Wants the
folder `banking77` with train.jsonl and test.jsonl (text, intent).

    python benchmarks/banking77.py --data ../shared/data/banking77                          # 8 intents, one seed
    python benchmarks/banking77.py --data ../shared/data/banking77 --intents 12 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmprog

SPEC = Path(__file__).resolve().parent.parent / "specs" / "banking77.yaml"
TRAIN, DEV, TEST = 24, 12, 15
"""Rows an intent."""


def cut(data: Path, intents: int, folder: Path) -> list[str]:
    """Write train.jsonl, dev.jsonl and test.jsonl of the first `intents` intents into `folder`; give their names."""
    read = {name: [json.loads(line) for line in (data / f"{name}.jsonl").open()] for name in ("train", "test")}
    # Some texts stand in both files, and some twice: each is used once, and never on both sides.
    tested = {row["text"] for row in read["test"]}
    kept = {row["text"]: row for row in read["train"] if row["text"] not in tested}
    pools = {"train": list(kept.values()), "test": list({row["text"]: row for row in read["test"]}.values())}
    for pool in pools.values():
        random.Random(0).shuffle(pool)
    labels = sorted({row["intent"] for row in read["train"]})[:intents]
    by_intent = {
        name: {label: [row for row in pool if row["intent"] == label] for label in labels}
        for name, pool in pools.items()
    }
    splits = {
        "train": [row for rows in by_intent["train"].values() for row in rows[:TRAIN]],
        "dev": [row for rows in by_intent["train"].values() for row in rows[TRAIN : TRAIN + DEV]],
        "test": [row for rows in by_intent["test"].values() for row in rows[:TEST]],
    }
    for name, rows in splits.items():
        random.Random(1).shuffle(rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return labels


def evaluated(overlay: Path, overrides: dict[str, object]) -> float:
    """The test score of a tuned program as a process of its own finds it: its adapter is loaded from the disk."""
    sets = [part for name, value in overrides.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    command = [str(Path(sys.executable).with_name("lmprog")), "eval", str(overlay), *sets, "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)["mean"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with train.jsonl and test.jsonl")
    parser.add_argument("--intents", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="runs, with the seeds 0, 1, ...")
    options = parser.parse_args()
    gains = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            labels = cut(options.data, options.intents, folder)
            overrides = {f"data.{split}": str(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}
            overrides["vars.labels"] = labels
            started = time.perf_counter()
            tuned = lmprog.optimize(
                SPEC,
                seed=seed,
                run_dir=folder / "run",
                out=folder / "banking77.tuned.yaml",
                overrides=overrides,
            )
            minutes = (time.perf_counter() - started) / 60
            again = evaluated(folder / "banking77.tuned.yaml", overrides)
        test = tuned.report["test"]
        shown = [("before", test["before"]), *((stage["stage"], stage["test"]) for stage in tuned.report["stages"])]
        print(f"seed {seed}, {options.intents} intents, {test['n']} test rows, {minutes:.1f} minutes")
        for stage, score in shown:
            low, high = score["ci95"]
            print(f"  {stage:<14} {100 * score['mean']:5.1f}%  [{100 * low:.1f}, {100 * high:.1f}]")
        print(f"  {'again':<14} {100 * again:5.1f}%  in a fresh process", flush=True)
        gains.append(shown[-1][1]["mean"] - shown[-2][1]["mean"])
    print(
        f"gain of the last stage over the one before it: {100 * statistics.mean(gains):+.1f} points, mean of {len(gains)}"
    )


if __name__ == "__main__":
    main()
