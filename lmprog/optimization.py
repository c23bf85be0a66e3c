"""`lmprog.optimize`: run the stages that a program names, write the overlay, report what was gained.

Imports `lmprog.optimizers` when it is called: the one arrow that runs back.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.budget import Budget
from lmprog.compiler.whole_file import write_whole
from lmprog.errors import ProviderError, UsageError
from lmprog.evaluation import Scores, doubt
from lmprog.program import Program, load

if TYPE_CHECKING:
    from lmprog.compiler.plan import Optimize
    from lmprog.lms.lm import LM
    from lmprog.optimizers.staged import Outcome


@dataclass(frozen=True)
class Tuned:
    """The overlay file that was written, and the report: the document of `lmprog optimize --format json`."""

    overlay: Path
    report: dict[str, Any]


def optimize(
    spec: str | Path,
    *,
    seed: int | None = None,
    run_dir: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    budget: Mapping[str, float] | None = None,
    lms: Mapping[str, LM | str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
) -> Tuned:
    """Optimize the program in `spec` as its `optimize:` says.

    `run_dir` (default: a new folder under `runs/`) gets the journal, adapters and the report; `out` (default:
    `<name>.tuned.yaml` beside the spec) the overlay. `resume` goes on with the run in `run_dir`, or with the newest run of
    this spec. `listen` is told of every event, as for progress. Of several processes (torchrun, accelerate) the first does all
    that, the others help to train weights, and all get the same result.

    Raises SpecError where the spec is wrong, UsageError for a run directory that is another run's.
    """
    from lmprog.optimizers import processes
    from lmprog.optimizers.grpo.following import Over, follow
    from lmprog.optimizers.journal import Journal
    from lmprog.optimizers.staged import goals_of, run_stages

    spec = Path(spec)
    program = load(spec, lms=lms, overrides=overrides)
    goals = goals_of(program)
    processes.begin()
    if not processes.first():
        tuned: Tuned = follow(program)
        processes.end()
        return tuned
    seed = goals.seed if seed is None else seed
    limits = {**goals.budget, **(budget or {})}
    Budget(limits)  # refuses a limit that there is not
    folder = _run_dir(spec, run_dir, resume)
    identity = {
        "program": program.plan.name,
        "spec": str(spec.resolve()),
        "digest": program.plan.digest,
        "goals": _goals_digest(goals),
        "seed": seed,
    }
    _claim(folder, identity, resume)
    journal = Journal(folder, (listen,) if listen else ())
    try:
        journal.tell("run_started", run_dir=str(folder), **identity)
        outcome = run_stages(program, seed, limits, journal)
        target = Path(out) if out is not None else spec.with_name(f"{spec.stem}.tuned.yaml")
        report = _report(program, outcome, seed, target, folder)
        _write_overlay(target, spec, outcome, report)
        write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n", private=True)
        journal.record("run_ended", overlay=str(target))
    finally:
        journal.close()
    tuned = processes.from_first(Over(Tuned(target, report))).outcome
    processes.end()
    return tuned


def earlier_runs(spec: Path) -> list[Path]:
    """The folders that `optimize` made for runs of a spec, the newest last."""
    return sorted(path.parent for path in Path("runs").glob(f"{spec.stem}-*/run.json"))


def _run_dir(spec: Path, given: str | Path | None, resume: bool) -> Path:
    if given is not None:
        return Path(given)
    if resume:
        found = earlier_runs(spec)
        if not found:
            raise UsageError(f"there is no run of {spec.name} under runs/ to resume; name it with --run-dir")
        return found[-1]
    return Path("runs") / f"{spec.stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _claim(folder: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Make the folder this run's. Raises UsageError where it holds a run and `resume` is not said, or another run."""
    marker = folder / "run.json"
    if not marker.exists():
        if resume:
            raise UsageError(f"there is no run in {folder} to resume; leave --resume out to start one there")
        write_whole(marker, json.dumps(identity, indent=2) + "\n", private=True)
        return
    if not resume:
        raise UsageError(f"{folder} holds a run already; add --resume to go on with it, or name another folder")
    kept = json.loads(marker.read_text())
    for name, value in identity.items():
        if kept.get(name) != value:
            raise UsageError(
                f"the run in {folder} was started with another {name} ({kept.get(name)}, now {value}); "
                "start a new run in another folder"
            )


def _goals_digest(goals: Optimize) -> str:
    """Names what a run is to do. The budget is left out: a run that spent it may be resumed with a larger one."""
    plain = asdict(replace(goals, teachers={}))
    said = {name: value for name, value in plain.items() if name not in ("budget", "seed", "teachers")}
    said |= {f"teacher {path}": plan.digest for path, plan in goals.teachers.items()}
    written = json.dumps(said, sort_keys=True, default=lambda value: sorted(value))
    return hashlib.sha256(written.encode()).hexdigest()


def _report(program: Program, outcome: Outcome, seed: int, target: Path, folder: Path) -> dict[str, Any]:
    versions = _comparable(outcome.test)
    test = _test(outcome.test, versions) if versions else None
    stages = []
    for place, stage in enumerate(outcome.stages, 1):
        tested = {}
        if versions:
            tested = {
                "test": versions[place].estimate.as_json(),
                "difference": versions[place].against(versions[0]).as_json(),
            }
        steps = {"steps": stage.steps, "step_seconds": stage.step_seconds} if stage.steps else {}
        credit = {"credit": stage.credit} if stage.credit is not None else {}
        spent = {"lm_calls": stage.spent.lm_calls, "seconds": stage.spent.seconds}
        stages.append({"stage": stage.stage, "validate": stage.validate, **tested, **spent, **steps, **credit})
    return {
        "program": program.plan.name,
        "seed": seed,
        "overlay": str(target),
        "run_dir": str(folder),
        "test": test,
        "stages": stages,
        "spent": outcome.spent.as_json(),
    }


def _comparable(versions: Sequence[Scores]) -> list[Scores]:
    """The scores of the versions on the rows that all of them could score. Raises ProviderError where there is none."""
    rows = set.intersection(*(set(scores.by_row) for scores in versions)) if versions else set()
    if versions and not rows:
        raise ProviderError(
            "no test row was scored in every version, so they cannot be compared; add --resume to try again"
        )
    return [scores.on(rows) for scores in versions]


def _test(whole: Sequence[Scores], compared: Sequence[Scores]) -> dict[str, Any]:
    """The test before and after: `whole` are the scores of all rows, `compared` those on the rows that are compared."""
    sides = {"before": (whole[0], compared[0]), "after": (whole[-1], compared[-1])}
    return {
        "metric": whole[0].metric,
        "n": len(compared[0].by_row),
        **{name: scores.estimate.as_json() for name, (_, scores) in sides.items()},
        "difference": compared[-1].against(compared[0]).as_json(),
        "outages": {name: scores.outages.rows for name, (scores, _) in sides.items()},
        "failures": {
            name: {kind: count for kind, (count, _) in scores.failures.items()} for name, (scores, _) in sides.items()
        },
        "doubt": doubt({name: scores for name, (scores, _) in sides.items()}),
    }


def _write_overlay(target: Path, spec: Path, outcome: Outcome, report: Mapping[str, Any]) -> None:
    from lmprog.compiler.overlay import write_overlay

    change = outcome.candidate.as_overlay()
    for changed in [*change.get("lms", {}).values(), *change.get("modules", {}).values()]:
        if "adapter" in changed:
            # As a path from the overlay, so that the two can be moved together.
            changed["adapter"]["path"] = os.path.relpath(changed["adapter"]["path"], target.resolve().parent)
    test = report["test"] and {
        name: value
        for name, value in report["test"].items()
        if name not in ("outages", "failures") and value is not None
    }
    tuned = {
        "run": report["run_dir"],
        "seed": report["seed"],
        "stages": [stage["stage"] for stage in report["stages"]],
        "scores": {stage["stage"]: stage["validate"] for stage in report["stages"]},
        "test": test,
    }
    write_overlay(target, spec, change, _rounded(tuned))


def _rounded(value: Any) -> Any:
    """Scores as a reviewer reads them; the report keeps every digit."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value
