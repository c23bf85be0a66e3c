"""The comparison of the mmGRPO paper (arXiv 2508.04660) on small public tasks and the embedded model, in several days.

    python benchmarks/paper.py --data ../shared/data                 # 3 tasks, 7 runs, 3 seeds; goes on where it was cut
    python benchmarks/paper.py --write docs/results.md               # measures nothing: the page of what is finished
    python benchmarks/paper.py --tasks banking77 --runs search-grpo --data ../shared/data
    python benchmarks/paper.py --student Qwen2.5-0.5B=hf/FOLDER --runs search-sft-grpo grpo-search --data ../shared/data
    python benchmarks/paper.py --quick --data ../shared/data         # minutes, and nothing of it is kept

Each run is one `lmprog optimize` of specs/<task>.yaml with stages of its own, and its report says what the program scores on
the test rows before and after each stage:

    search-grpo   base program, prompt search, prompt search then GRPO; the overlay once more by `lmprog eval`
    grpo-search   base program, GRPO, GRPO then prompt search
    fast-slow     base program, fast_slow with two thirds of GRPO's steps
    trajectory    as search-grpo, with GRPO at the level of whole trajectories
    search-sft-grpo   base program, prompt search, then sft on its own best runs, then GRPO
    sft-grpo      base program, sft on the best of 8 runs of its own on each train row, sft then GRPO
    labels-grpo   as sft-grpo, with sft on the labels of the train rows (for banking77, whose rows have them)

A finished run is a line of --ledger and is not done again; one that was cut goes on in --work. All seeds have the same rows.
A run with other rows or stages (--intents, a spec whose stages were edited) is another run, and --write shows those of its own
options only. Plots want the extra `bench`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from ledger import Ledger, read_lines
from paper_page import write_page
from paper_runs import Measured, Version
from paper_tasks import QUICK, RUNS, SMALL, TASKS, Sizes, Student, Task, optimize_of, planned, settings_of

import lmprog
from lmprog.cli.progress import OptimizeProgress
from lmprog.optimizers.grpo.config import Config as Training
from lmprog.optimizers.sft.config import Config as Replies
from lmprog.reports.page.run_report import read
from lmprog.state.json_lines import cut_torn_line

ROOT = Path(__file__).resolve().parent.parent
COMPUTING = ("torch", "transformers", "trl", "peft")
"""Packages on whose versions the figures may depend."""


@dataclass
class Curve:
    """Listens to a run: its dev scorings in training and the LM calls before them, kept in `path` for when it is cut."""

    path: Path
    calls: int = 0
    stage: int = 0
    points: dict[tuple[int, int], tuple[int, float]] = field(default_factory=dict)
    """By stage and step: a step that is done again stands once."""

    def __post_init__(self) -> None:
        cut_torn_line(self.path)
        for stage, step, calls, dev in read_lines(self.path) if self.path.exists() else ():
            self.points[stage, step] = calls, dev

    def listen(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "stage_started":
            self.stage = event["number"]
        elif event["event"] == "spending":
            self.calls = event["spent"]["lm_calls"]
        elif event["event"] == "dev":
            self.points[self.stage, event["step"]] = self.calls, event["score"]["mean"]
            with self.path.open("a") as file:
                file.write(json.dumps([self.stage, event["step"], *self.points[self.stage, event["step"]]]) + "\n")


def measured(
    task: Task, run: str, seed: int, sizes: Sizes, data: Path, work: Path, student: Student = SMALL
) -> Measured:
    """One run, or the rest of it. Its folder in `work` has the rows, the journal, the adapters and the overlay."""
    settings = settings_of(task, run, sizes, student.name)
    named = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = work / f"{task.name}-{run}-{seed}-{named}"
    model = {f"lms.{task.lm}.model": student.model} if student.model is not None else {}
    overrides = {**task.overrides(data, sizes, folder / "rows"), **model}
    overlay, curve, shown = folder / "tuned.yaml", Curve(folder / "curve.jsonl"), OptimizeProgress()

    def listen(event: dict[str, Any]) -> None:
        shown.listen(event)
        curve.listen(event)

    made = made_by(task)  # before the run: the checkout may move while it lasts
    tuned = lmprog.optimize(
        task.spec,
        seed=seed,
        run_dir=folder / "run",
        out=overlay,
        resume=(folder / "run" / "run.json").exists(),
        overrides={**overrides, **optimize_of(task, run, sizes)},
        listen=listen,
    )
    train = len((folder / "rows" / "train.jsonl").read_text(encoding="utf-8").splitlines())
    return Measured(
        task.name,
        run,
        seed,
        settings,
        hashlib.sha256((folder / "rows" / "test.jsonl").read_bytes()).hexdigest(),
        list(versions(Path(tuned.report["run_dir"]), RUNS[run], settings["stages"], train)),
        list(dict(sorted(curve.points.items())).values()),
        evaluated(overlay, overrides) if run == "search-grpo" else None,
        made,
        machine(),
    )


def versions(run_dir: Path, cells: tuple[str, ...], stages: list[dict[str, Any]], train: int) -> Iterator[Version]:
    """The program at each point of a finished run on so many train rows, as its journal has it."""
    account = read(run_dir)
    calls, rollouts, minutes = 0, 0, 0.0
    for place, (cell, found) in enumerate(zip(cells, account.versions, strict=True)):
        if place:
            stage = account.stages[place - 1]
            assert stage.spent is not None
            calls += stage.spent.lm_calls
            minutes += stage.spent.minutes
            ((name, options),) = stages[place - 1].items()
            if name == "sft":
                learnt = Replies.model_validate(options)
                rollouts += min(learnt.rows, train) * learnt.samples
            else:
                # Those of examples without a signal too: they were run.
                drawn = sum(step["examples"] for step in stage.steps)
                rollouts += drawn * options.get("rollouts", Training().rollouts)
        dev = found.dev.mean if found.dev is not None else None
        yield Version(cell, calls, rollouts, minutes, dev, list(found.values))


def evaluated(overlay: Path, overrides: Mapping[str, Any]) -> float:
    """The test score of a tuned program as a process of its own finds it: its adapter is loaded from the disk."""
    sets = [part for name, value in overrides.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    command = [str(Path(sys.executable).with_name("lmprog")), "eval", str(overlay), *sets, "--format", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    mean: float = json.loads(done.stdout)["mean"]
    return mean


def made_by(task: Task) -> dict[str, str]:
    """What the figures come from: `commit` ends with + where files were changed since."""
    return {
        "commit": _git("rev-parse", "--short=10", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else ""),
        "program": planned(task).digest,
        "lmprog": lmprog.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in COMPUTING},
    }


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""  # no repository: an unpacked archive
    return done.stdout.strip()


def machine() -> str:
    """The processor, as far as the system tells; no name of the host."""
    info = Path("/proc/cpuinfo")
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line] if info.exists() else []
    said = {name.strip(): value.strip() for name, value in lines}
    model = said.get("model name") or platform.processor() or platform.machine()
    bf16 = " with AVX-512 bf16" if "avx512_bf16" in said.get("flags", "").split() else ""
    return f"{os.cpu_count()} cores of {model}{bf16}, {platform.system()}"


def measure(options: argparse.Namespace, sizes: Sizes, ledger: Ledger[Measured], work: Path) -> int:
    """All runs that are not in the ledger, seed by seed, so that a table stands early; gives how many failed."""
    failed = 0
    every = list(product(range(options.seeds), options.tasks, options.runs))
    for number, (seed, name, run) in enumerate(every, 1):
        place = f"[{number}/{len(every)}]"
        try:
            kept = ledger.find(name, run, seed, settings_of(TASKS[name], run, sizes, options.student.name))
            if kept is not None:
                print(f"{place} {kept} (in the ledger)", flush=True)
                continue
            print(f"{place} {name}, {run}, seed {seed}: begins", flush=True)
            made = measured(TASKS[name], run, seed, sizes, options.data, work, options.student)
            ledger.add(made)
            print(f"{place} {made}", flush=True)
        except Exception as error:  # whatever it is, the runs of days that follow are not lost to it
            failed += 1
            if not isinstance(error, lmprog.LmprogError | lmprog.SpecError | subprocess.CalledProcessError):
                traceback.print_exc()
            print(f"{place} {name}, {run}, seed {seed}: failed, others go on: {error}", file=sys.stderr, flush=True)
    return failed


def wanted(ledger: Ledger[Measured], sizes: Sizes) -> list[Measured]:
    """The lines of these sizes and of the stages of now, of whichever student."""
    settings: dict[tuple[str, str], Any] = {}
    for name, task in TASKS.items():
        for run in RUNS if task.spec.is_file() else ():
            settings[name, run] = settings_of(task, run, sizes)

    def without_student(made: Measured) -> dict[str, Any]:
        return {name: value for name, value in made.settings.items() if name != "student"}

    return [made for made in ledger.read() if settings.get((made.task, made.run)) == without_student(made)]


def named(text: str) -> Student:
    """Read NAME=MODEL of the command line."""
    name, parted, model = text.partition("=")
    if not parted or not name or not model:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=MODEL, as Qwen2.5-0.5B=hf/FOLDER")
    if name == SMALL.name:
        raise argparse.ArgumentTypeError(f"{name} is the name of the embedded model; leave --student out to tune that")
    return Student(name, model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="the folder of banking77/, multihop/ and pupa/ (%(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which tasks (all)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="which runs (all)")
    parser.add_argument(
        "--student",
        type=named,
        default=SMALL,
        metavar="NAME=MODEL",
        help="tune another model than the embedded one; the page calls it NAME",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="runs of each, with the seeds 0 to N-1 (3)")
    parser.add_argument("--intents", type=int, metavar="N", help="of Banking77, the first by name (12)")
    parser.add_argument("--ledger", type=Path, help="the finished runs (docs/results.jsonl)")
    parser.add_argument(
        "--work", type=Path, help="journals, adapters and overlays, also of runs that were cut (runs/paper)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few rows and steps, one seed, all in a temporary folder"
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="measure nothing; write the page from the ledger alone"
    )
    options = parser.parse_args()
    if options.quick and (options.write or options.ledger):
        parser.error("--quick keeps nothing: leave --write and --ledger out")
    sizes = QUICK if options.quick else Sizes()
    if options.intents is not None:
        sizes = replace(sizes, intents=options.intents)
    options.seeds = options.seeds if options.seeds is not None else 1 if options.quick else 3
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder)
            ledger = Ledger(own / "results.jsonl", Measured.from_json)
            failed = measure(options, sizes, ledger, options.work or own / "runs")
            write_page(own / "results.md", wanted(ledger, sizes), sizes)
            print("\n" + (own / "results.md").read_text(encoding="utf-8"))
    else:
        ledger = Ledger(options.ledger or ROOT / "docs" / "results.jsonl", Measured.from_json)
        failed = 0
        if options.write is not None:
            write_page(options.write, wanted(ledger, sizes), sizes)
        else:
            failed = measure(options, sizes, ledger, options.work or ROOT / "runs" / "paper")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except (lmprog.LmprogError, lmprog.SpecError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("what is finished is kept; the same command goes on from there", file=sys.stderr)
        sys.exit(130)
