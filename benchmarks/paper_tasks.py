"""What benchmarks/paper.py measures: the tasks with their rows, and the runs with their stages.

A task is a program of specs/, taken as it is but for its data and its stages; the options of `prompt_search` and `grpo`
are those that the spec names. A run puts these two stages in an order of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmprog import SpecError, UsageError
from lmprog.compiler import compile_file
from lmprog.compiler.plan import Plan
from lmprog.compiler.yaml.whole_file import write_whole

SPECS = Path(__file__).resolve().parent.parent / "specs"
Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""By split: train, dev and test. They are the same for all seeds, and no row stands in two splits."""


@dataclass(frozen=True)
class Split:
    """How many rows."""

    train: int
    dev: int
    test: int

    def __str__(self) -> str:
        return f"{self.train} train, {self.dev} dev and {self.test} test rows"


@dataclass(frozen=True)
class Sizes:
    """Rows of the tasks at most; `banking77` says how many of each intent. `quick` makes the stages tiny too."""

    intents: int = 12
    banking77: Split = Split(24, 12, 15)
    multihop: Split = Split(240, 130, 160)
    papillon: Split = Split(110, 126, 200)
    quick: bool = False


QUICK = Sizes(3, Split(4, 3, 3), Split(8, 6, 6), Split(6, 4, 4), quick=True)
TINY = {
    "prompt_search": {"trials": 2, "minibatch": 3, "demos": [2], "demo_sets": 2, "bootstrap_rows": 4, "finalists": 1},
    "grpo": {"steps": 2, "examples": 2, "rollouts": 4, "evaluate_every": 1},
    "sft": {"rows": 4, "samples": 2, "steps": 2, "evaluate_every": 1},
    "fast_slow": {"every": 1, "population": 2, "trials": 1, "rows": 3, "demo_sets": 2, "bootstrap_rows": 4},
}


@dataclass(frozen=True)
class Student:
    """The model that is tuned: its name on the page, and how a spec names it (None: the model that stands there)."""

    name: str
    model: str | None = None


SMALL = Student("SmolLM2-135M")


@dataclass(frozen=True)
class Task:
    """`cut` reads the rows from the folder of all data; `more` says what else of the spec lies there, as overrides. `lm` is the
    student's name in the spec.
    """

    name: str
    cut: Callable[[Path, Sizes], Rows]
    more: Callable[[Path, Rows], dict[str, Any]] = lambda data, rows: {}
    lm: str = "student"

    @property
    def spec(self) -> Path:
        return SPECS / f"{self.name}.yaml"

    def overrides(self, data: Path, sizes: Sizes, folder: Path) -> dict[str, Any]:
        """What makes the spec read these rows, which are written into `folder`."""
        rows = self.cut(data, sizes)
        for split, found in rows.items():
            write_whole(folder / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in found))
        declared = planned(self).data
        files: dict[str, Any] = {}
        for split in rows:
            path, private = str((folder / f"{split}.jsonl").resolve()), sorted(declared[split].private)
            files[f"data.{split}"] = {"path": path, "private": private} if private else path
        return {**files, **self.more(data.resolve(), rows)}


def _banking77(data: Path, sizes: Sizes) -> Rows:
    """The first intents by name; train and dev rows are of the train file."""
    read = {name: _read(data / "banking77" / f"{name}.jsonl") for name in ("train", "test")}
    # Some texts stand in both files, and some twice: each is used once, and never on both sides.
    tested = {row["text"]: row for row in read["test"]}
    kept = {row["text"]: row for row in read["train"] if row["text"] not in tested}
    pools = {"train": list(kept.values()), "test": list(tested.values())}
    for pool in pools.values():
        random.Random(0).shuffle(pool)
    labels, (train, dev, test) = sorted({row["intent"] for row in read["train"]}), asdict(sizes.banking77).values()
    rows: Rows = {"train": [], "dev": [], "test": []}
    for label in labels[: sizes.intents]:
        learnt, held = ([row for row in pools[name] if row["intent"] == label] for name in ("train", "test"))
        rows["train"] += learnt[:train]
        rows["dev"] += learnt[train : train + dev]
        rows["test"] += held[:test]
    for found in rows.values():
        random.Random(1).shuffle(found)
    return rows


def _labels(data: Path, rows: Rows) -> dict[str, Any]:
    return {"vars.labels": sorted({row["intent"] for row in rows["train"]})}


def _multihop(data: Path, sizes: Sizes) -> Rows:
    """The splits as they are."""
    most = asdict(sizes.multihop)
    return {split: _read(data / "multihop" / f"{split}.jsonl")[:count] for split, count in most.items()}


def _corpus(data: Path, rows: Rows) -> dict[str, Any]:
    return {"tools.search.search.corpus": str(data / "multihop" / "corpus.jsonl")}


def _papillon(data: Path, sizes: Sizes) -> Rows:
    """Every query once, in the split that it was in when the data had fewer rows.

    Then the test rows were the first 50 of the dev file, and 36 of the first 100 of the train file the dev rows. What came
    later is split as its files say, after the earlier rows.
    """
    files = {name: _read(data / "pupa" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    first_dev, first_train = files["dev"][:50], files["train"][:100]
    tested = _by_query([*first_dev, *files["test"]])
    earlier = [row for query, row in _by_query(first_train).items() if query not in _by_query(first_dev)]
    random.Random(0).shuffle(earlier)
    held = {query: row for query, row in _by_query([*earlier[:36], *files["dev"][50:]]).items() if query not in tested}
    learnt = _by_query([*earlier[36:], *files["train"][100:]])
    pools = {
        "train": [row for query, row in learnt.items() if query not in tested and query not in held],
        "dev": list(held.values()),
        "test": list(tested.values()),
    }
    return {split: pools[split][:count] for split, count in asdict(sizes.papillon).items()}


def _by_query(rows: list[Row]) -> dict[str, Row]:
    """The rows by their query, the first of each."""
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(row["user_query"], row)
    return found


TASKS = {
    task.name: task
    for task in (
        Task("banking77", _banking77, _labels),
        Task("multihop", _multihop, _corpus),
        Task("papillon", _papillon, lm="local"),
    )
}
RUNS = {
    "search-grpo": ("base", "search", "search-grpo"),
    "grpo-search": ("base", "grpo", "grpo-search"),
    "fast-slow": ("base", "fast-slow"),
    "trajectory": ("base", "search", "trajectory"),
    "search-sft-grpo": ("base", "search", "search-sft", "search-sft-grpo"),
    "sft-grpo": ("base", "sft", "sft-grpo"),
    "labels-grpo": ("base", "labels", "labels-grpo"),
}
"""What the program is at the start of a run and after each of its stages."""
LABELS = {"samples": 0, "labelled": 512}
"""Options of `sft` that learns the train rows as they stand, in place of the program's own best runs."""
FEWER = 2 / 3
"""Weight steps of `fast_slow` for one of `grpo`: it is to get there with fewer rollouts."""


def planned(task: Task) -> Plan:
    """The task's program as written. Raises UsageError where its spec is absent, SpecError where it is wrong."""
    if not task.spec.is_file():
        raise UsageError(
            f"there is no specs/{task.spec.name} yet, so {task.name} cannot be run; leave it out of --tasks"
        )
    found = compile_file(task.spec, data=False)
    if found.plan is None:
        raise SpecError(found.findings)
    return found.plan


def stages_of(task: Task, run: str, sizes: Sizes) -> list[dict[str, dict[str, Any]]]:
    """The stages of a run as they stand in a spec. Raises UsageError where the task's spec is absent or names other stages."""
    block = planned(task).optimize
    said: dict[str, Mapping[str, Any]] = {}
    for stage in block.stages if block is not None else ():
        said.setdefault(stage.optimizer, stage.options)
    missing = [name for name in ("prompt_search", "grpo") if name not in said]
    if missing:
        raise UsageError(f"specs/{task.spec.name} has no stage {missing[0]}; its options are taken from there")
    tiny = TINY if sizes.quick else {name: {} for name in TINY}
    search = {**said["prompt_search"], **tiny["prompt_search"]}
    # The credit report changes nothing, and its runs would count as calls of the training.
    grpo = {"steps": 40, **said["grpo"], "credit": 0, **tiny["grpo"]}
    if run == "fast-slow":
        sources = {name: search[name] for name in ("demos", "bootstrap_rows", "proposals") if name in search}
        steps = max(1, round(FEWER * grpo["steps"]))
        return [{"fast_slow": {**sources, **grpo, "steps": steps, **tiny["fast_slow"]}}]
    if run in ("sft-grpo", "labels-grpo"):
        sft = {
            "rows": 512,
            "evaluate_every": 20,
            "credit": 0,
            **tiny["sft"],
            **(LABELS if run == "labels-grpo" else {}),
        }
        return [{"sft": sft}, {"grpo": grpo}]
    if run == "search-sft-grpo":
        return [{"prompt_search": search}, {"sft": {"credit": 0, **said.get("sft", {}), **tiny["sft"]}}, {"grpo": grpo}]
    if run == "grpo-search":
        return [{"grpo": grpo}, {"prompt_search": search}]
    return [{"prompt_search": search}, {"grpo": {**grpo, "level": "trajectory"} if run == "trajectory" else grpo}]


def optimize_of(task: Task, run: str, sizes: Sizes) -> dict[str, Any]:
    """Return the overrides of the spec's `optimize` for a run. Whole trajectories follow the one metric of the program."""
    block = planned(task).optimize
    by_module = run == "trajectory" and block is not None and bool(block.rewards)
    reward = {"optimize.reward": block.metric} if by_module and block is not None else {}
    return {"optimize.stages": stages_of(task, run, sizes), **reward}


def settings_of(task: Task, run: str, sizes: Sizes, student: str = SMALL.name) -> dict[str, Any]:
    """Return what a cell was measured with; one of other settings is another cell. The model is its name: folders move."""
    intents = {"intents": sizes.intents} if task.name == "banking77" else {}
    named = {"student": student} if student != SMALL.name else {}
    rows: Split = getattr(sizes, task.name)
    return {**named, **intents, "rows": asdict(rows), "stages": stages_of(task, run, sizes)}


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise UsageError(f"there is no {path}; --data names the folder that holds {path.parent.name}/{path.name}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
