"""`lmprog.optimize`: run the stages of a program's `optimize` block, write the overlay, and report the gain."""

from __future__ import annotations

import glob
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.boundary.notebook import table
from lmprog.compiler.bounds import calls
from lmprog.compiler.yaml.whole_file import make_private, write_whole
from lmprog.errors import ProviderError, UsageError
from lmprog.optimizers.dry_run import forecast
from lmprog.optimizers.staged.verdict import verdict
from lmprog.runners import opened
from lmprog.runtime.program import Program, load
from lmprog.runtime.writes import refuse_writes, writes
from lmprog.scoring.evaluation import Scores, doubt
from lmprog.scoring.small_samples import few
from lmprog.scoring.statistics import Estimate
from lmprog.spending.budget import Budget
from lmprog.state.origin import RUN, Origin, Settings, read_origin
from lmprog.state.ownership import exclusive_writer

if TYPE_CHECKING:
    from lmprog.lms.lm import LM
    from lmprog.optimizers.candidate import Candidate
    from lmprog.optimizers.staged.stages import Outcome


UNCONFIRMED = "best-estimate.yaml"
"""In the run's folder: the overlay with the changes of all stages, where a test has not confirmed them."""


@dataclass(frozen=True)
class Tuned:
    """The result of `optimize`: the path of the overlay, and the report, the document that `lmprog optimize --format
    json` prints (scores by stage, tests, spending, paths)."""

    overlay: Path
    report: dict[str, Any]

    def __repr__(self) -> str:
        return f"Tuned({str(self.overlay)!r}, {self._test})"

    def _repr_html_(self) -> str:
        stages = self.report.get("stages") or []
        rows = [(stage["stage"], _score(stage.get("validate")), _score(stage.get("test"))) for stage in stages]
        return table(f"{self.overlay}: {self._test}", rows, ("stage", "dev", "test"))

    @property
    def _test(self) -> str:
        test = self.report.get("test")
        if not test:
            return "not scored on test rows"
        return f"{test['metric']} {_score(test['before'])} -> {_score(test['after'])} on {test['n']} test rows"


def _score(found: Mapping[str, Any] | None) -> str:
    return str(Estimate.from_json(found)) if found else "-"


def optimize(
    spec: str | Path,
    *,
    seed: int | None = None,
    run_dir: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    restart_stage: str | None = None,
    budget: Mapping[str, float] | None = None,
    lms: Mapping[str, LM | str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
    allow_writes: bool = False,
    on: str | None = None,
    workers: int | None = None,
    fsdp: bool = False,
) -> Tuned:
    """Optimize the program in `spec` as its `optimize:` block says, and write the result as an overlay; return the
    overlay's path and the report. The overlay is written in place of an older one, also where nothing is accepted: it
    then changes nothing.

    `run_dir` (None: a new folder under `runs/`) gets the journal, adapters and the report; `out` (None:
    `<name>.tuned.yaml` beside the spec) the overlay. `seed` decides all random draws (None: the spec's). `lms` replaces
    LMs by id (None: none), `overrides` are values laid over the spec by dotted path (None: none), and `budget` has
    limits by name (None: the spec's). `listen` is called with every event of the journal (None: nothing is). Tools that
    write are refused unless `allow_writes`. With `on` (`ray` or `ray:ADDRESS`; None: in this process) the runs are made
    there, by `workers` processes (None: as many as fit).

    `resume` continues the run in `run_dir`, or the newest run of this spec; seed, LMs, overrides and budget that are
    not given are those that it was begun with. `restart_stage` (a number, a name, or `test`; None: no stage) also
    continues a run, and does that stage and all after it again. Of several processes (torchrun, accelerate) the first
    does everything but the training of weights, in which the others help, and all return the same result. With `fsdp`
    they share the weights too (FSDP), each a part of them.

    Raises SpecError where the spec is wrong; UsageError where there is no run to continue, where `run_dir` holds one
    that is not to be continued, for a run that was begun with another seed or from another program, rows, code or
    texts, and for refused tools; WriterLocked while another process is running the same optimization; RowsError where
    data cannot be read; MissingExtra for a package that a stage needs; MetricFailed where the metric raises in all runs
    of the program as written; and ProviderError where outages leave nothing to score.
    """
    from lmprog.optimizers import processes
    from lmprog.optimizers.grpo.sampling.adapters import refuse_several
    from lmprog.optimizers.grpo.worker import Finished, follow
    from lmprog.optimizers.journal import resuming
    from lmprog.optimizers.journal.files import Journal
    from lmprog.optimizers.notebook import OptimizationBar
    from lmprog.optimizers.staged.stages import optimize_config, require_packages, run_stages
    from lmprog.optimizers.trackers.reporting import reporting

    spec = Path(spec)
    going_on = resume or restart_stage is not None
    folder = run_folder(spec, run_dir, going_on)
    names = {id: lm for id, lm in (lms or {}).items() if isinstance(lm, str)}
    given = Settings(names, overrides or {}, budget or {}, str(out) if out is not None else None)
    kept = read_origin(folder / RUN) if going_on else None
    settings = given.over(kept.settings) if kept is not None else given
    target = Path(settings.out) if settings.out is not None else spec.with_name(f"{spec.stem}.tuned.yaml")
    _refuse_odd_names(spec, target, folder)
    with processes.together(fsdp):
        program = load(spec, lms={**settings.lms, **(lms or {})}, overrides=settings.overrides)
        block = optimize_config(program)
        _refuse_writes(program, allow_writes)
        require_packages(program)
        if processes.shards():
            refuse_several(program.plan)
        if not processes.first():
            tuned: Tuned = follow(program)
            return tuned
        if seed is None:
            seed = kept.seed if kept is not None else block.seed
        limits = {**block.budget, **settings.budget}
        Budget(limits)  # refuses a limit that there is not
        name, path, saved = program.plan.name, str(spec.resolve()), settings.without_secrets()
        unchanged = resuming.watched(program)
        origin = Origin(name, path, resuming.source_digests(program), seed, settings=saved)
        with opened(on, workers, spec.parent) as runner, _claimed(folder, going_on), ExitStack() as trackers:
            restarting = resuming.claim(folder, origin, block, resume, restart_stage)
            tracked = trackers.enter_context(reporting(block.report_to, program.plan, seed, folder, going_on))
            journal = Journal(folder, (OptimizationBar(), *((listen,) if listen else ()), tracked), unchanged)
            try:
                journal.tell("run_started", run_dir=str(folder), program=name, spec=path, seed=seed)
                journal.begin()
                if restarting is not None:
                    journal.restart(*restarting)
                resuming.keep_source_digests(folder, origin)
                outcome = run_stages(program.with_runner(runner), seed, limits, journal)
                report = _report(program, outcome, seed, target, folder)
                _write_overlay(target, spec, outcome.candidate, report)
                if report["best_estimate"]:
                    _write_overlay(folder / UNCONFIRMED, spec, outcome.best, report)
                write_whole(folder / "report.json", json.dumps(report, indent=2) + "\n", private=True)
                journal.record("run_ended", overlay=str(target))
                tracked.finish(report, target, folder / "report.json")
            finally:
                journal.close()
        tuned = processes.from_first(Finished(Tuned(target, report))).outcome
        return tuned


def _claimed(folder: Path, going_on: bool) -> AbstractContextManager[Any]:
    """Make the folder of a new run, and return a context that keeps other processes out of it while it lasts; one that does
    nothing where a run to go on with has no folder."""
    if not going_on:
        make_private(folder)
    return exclusive_writer(folder) if folder.is_dir() else nullcontext()


def _refuse_writes(program: Program, allowed: bool) -> None:
    """Raise UsageError for tools that write, with how often the stages may call them, unless that is allowed."""
    if not allowed and writes(program.plan):
        each = calls(program.plan)
        runs = forecast(program).in_all.lm_calls // each if each else None
        refuse_writes([(program.plan, runs)], allowed)


def _refuse_odd_names(spec: Path, target: Path, folder: Path) -> None:
    """Refuse, before anything is spent, files whose names the overlay could not hold. Raises UsageError."""
    from lmprog.compiler.yaml.writer import unwritable

    beside = target.resolve().parent
    for name in (os.path.relpath(spec.resolve(), beside), os.path.relpath(folder.resolve(), beside), str(folder)):
        why = unwritable(name)
        if why is not None:
            raise UsageError(f"the overlay would have to name {name!a}, which holds {why}: use another name")


def settings_of_run(spec: Path, run_dir: Path | None, given: Settings) -> Settings:
    """Return the settings that the run in `run_dir` (None: the newest run of the spec) was begun with, those `given` now laid
    over them; `given` alone where `run_dir` holds no run.

    Raises UsageError where `run_dir` is None and there is no run of the spec, and where a secret must be given again.
    """
    kept = read_origin(run_folder(spec, run_dir, True) / RUN)
    return given.over(kept.settings) if kept is not None else given


def earlier_runs(spec: Path) -> list[Path]:
    """Return the folders under `runs/` of the working directory of earlier optimizations of a spec, by their names: those
    that `optimize` has named hold their time, so that the newest is last.

    Where no run was begun from the spec at this path, they are the runs of a spec of the same name, which may have moved.
    """
    of_path, of_name = [], []
    for folder in sorted(path.parent for path in Path("runs").glob(f"{glob.escape(spec.stem)}-*/{RUN}")):
        try:
            origin = read_origin(folder / RUN)
        except UsageError:  # to resume it says why; no other run is meant
            of_name.append(folder)
            continue
        if origin is not None and origin.spec == str(spec.resolve()):
            of_path.append(folder)
        elif origin is not None and (not origin.spec or Path(origin.spec).stem == spec.stem):
            of_name.append(folder)
    return of_path or of_name


def run_folder(spec: Path, given: str | Path | None, resume: bool) -> Path:
    """Return the folder for a run of a spec: `given`, or with None the newest one if `resume`, else the name of a new one with
    the time in it, which is not made here.

    Raises UsageError where there is none to resume.
    """
    if given is not None:
        return Path(given)
    if resume:
        found = earlier_runs(spec)
        if not found:
            raise UsageError(f"there is no run of {spec.name} under runs/ to resume; name it with --run-dir")
        return found[-1]
    return Path("runs") / f"{spec.stem}-{time.strftime('%Y%m%d-%H%M%S')}"


def _report(program: Program, outcome: Outcome, seed: int, target: Path, folder: Path) -> dict[str, Any]:
    kept, names = outcome.accepted["kept"], [stage.stage for stage in outcome.stages]
    versions = _comparable(outcome.test)
    test = _test(outcome.test, versions, kept) if versions else None
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
        confirmed = {"confirmed": stage.test} if stage.test is not None else {}
        spent = {"lm_calls": stage.spent.lm_calls, "seconds": stage.spent.seconds}
        brought = {"validate": stage.validate, "gain": stage.gain, **confirmed}
        stages.append({"stage": stage.stage, **brought, **tested, **spent, **steps, **credit})
    return {
        "program": program.plan.name,
        "seed": seed,
        "overlay": str(target),
        "run_dir": str(folder),
        "test": test,
        "accepted": {**outcome.accepted, "verdict": verdict(outcome.accepted, names)},
        "before": outcome.before,
        "best_estimate": str(folder / UNCONFIRMED) if outcome.best.digest != outcome.candidate.digest else None,
        "stages": stages,
        "spent": outcome.spent.as_json(),
    }


def _comparable(versions: Sequence[Scores]) -> list[Scores]:
    """Return the scores of each version on the rows that all of them could score; empty without versions. Raises
    ProviderError where there is no such row."""
    rows = set.intersection(*(set(scores.by_row) for scores in versions)) if versions else set()
    if versions and not rows:
        raise ProviderError(
            "no test row was scored in every version, so they cannot be compared; add --resume to try again"
        )
    return [scores.on(rows) for scores in versions]


def _test(whole: Sequence[Scores], compared: Sequence[Scores], kept: int) -> dict[str, Any]:
    """Return the test of the program as written and of version `kept`.

    `whole` are the scores of all rows, `compared` those on the rows that are compared.
    """
    difference = compared[kept].against(compared[0])
    sides = {"before": (whole[0], compared[0]), "after": (whole[kept], compared[kept])}
    return {
        "metric": whole[0].metric,
        "n": len(compared[0].by_row),
        **{name: scores.estimate.as_json() for name, (_, scores) in sides.items()},
        "difference": difference.as_json(),
        "few_rows": few(len(compared[0].by_row), difference.ci95),
        "outages": {name: scores.outages.rows for name, (scores, _) in sides.items()},
        "failures": {
            name: {kind: count for kind, (count, _) in scores.failures.items()} for name, (scores, _) in sides.items()
        },
        "recovered": {name: [each.as_json() for each in scores.recovered] for name, (scores, _) in sides.items()},
        "doubt": doubt({name: scores for name, (scores, _) in sides.items()}),
    }


def _write_overlay(target: Path, spec: Path, candidate: Candidate, report: Mapping[str, Any]) -> None:
    from lmprog.compiler.overlay import write_overlay

    change = candidate.as_overlay()
    for changed in [*change.get("lms", {}).values(), *change.get("modules", {}).values()]:
        if "adapter" in changed:
            # As a path from the overlay, so that the two can be moved together.
            changed["adapter"]["path"] = os.path.relpath(changed["adapter"]["path"], target.resolve().parent)
    test = report["test"] and {
        name: value
        for name, value in report["test"].items()
        if name not in ("outages", "failures", "recovered") and value is not None
    }
    tuned = {
        "run": report["run_dir"],
        "seed": report["seed"],
        "stages": [stage["stage"] for stage in report["stages"]],
        "scores": {stage["stage"]: stage["validate"] for stage in report["stages"]},
        "gains": {stage["stage"]: stage["gain"] for stage in report["stages"]},
        "accepted": report["accepted"],
        "test": test,
    }
    write_overlay(target, spec, change, _rounded(tuned))


def _rounded(value: Any) -> Any:
    """Return nested values with numbers rounded to 4 significant digits for a reader; the report keeps every digit."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value
