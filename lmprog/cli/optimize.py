"""`lmprog optimize`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import ALLOW_WRITES, NO_IMPORT, SPEC, limits_of, output_format, overriding, placed
from lmprog.errors import LmprogError

if TYPE_CHECKING:
    from lmprog.runtime.program import Program


@click.command()
@SPEC
@overriding
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The overlay; default: NAME.tuned.yaml beside SPEC.")
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Journal, adapters, report; default: a folder in runs/."
)
@click.option("--seed", type=int, help="Seed of every draw; default: the one in the program, else 0.")
@click.option("--resume", is_flag=True, help="Go on with the run in --run-dir, or with the newest run of SPEC.")
@click.option(
    "--restart-stage",
    metavar="STAGE",
    help="Resume, but begin this stage (its number or name) and all after it again; `test`: only the scores on the test rows.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the most calls, tokens and money, an estimate, and about how long; run nothing.",
)
@click.option(
    "--budget",
    "budget",
    multiple=True,
    metavar="K=V",
    help="A limit of the search: lm_calls, tokens, usd, minutes, ...; the scores before and after it come on top (--dry-run).",
)
@NO_IMPORT
@ALLOW_WRITES
@placed
@click.option(
    "--fsdp",
    is_flag=True,
    help="Of several processes (torchrun) each holds a part of the weights in training; without it each holds them all.",
)
@output_format("text", "json")
@with_environment
def command(
    spec: Path,
    lms: dict[str, str],
    overrides: dict[str, Any],
    out: Path | None,
    run_dir: Path | None,
    seed: int | None,
    resume: bool,
    restart_stage: str | None,
    dry_run: bool,
    budget: tuple[str, ...],
    no_import: bool,
    allow_writes: bool,
    on: str | None,
    workers: int | None,
    fsdp: bool,
    style: str,
) -> None:
    """Improve the program in SPEC as its `optimize:` says, and write what changed as an overlay.

    \b
    lmprog optimize program.yaml
    lmprog optimize program.yaml --resume                # after Ctrl-C or a crash: nothing finished is done again
    lmprog optimize program.yaml --restart-stage grpo    # other rows or code: that stage and all after it again
    lmprog optimize program.yaml --dry-run

    The stages see the train and dev rows. The test rows are read once, at the end, to compare the program before with the
    program after each stage.
    """
    from lmprog.cli.check import report_findings
    from lmprog.cli.progress import OptimizeProgress, print_candidates, table
    from lmprog.optimizers.journal.lineage import read_trees
    from lmprog.optimizers.processes import first
    from lmprog.optimizers.run import optimize, settings_of_run
    from lmprog.runtime.program import load
    from lmprog.state.origin import Settings

    limits = limits_of(budget)
    if no_import and not dry_run:
        raise click.UsageError("--no-import stands with --dry-run alone: an optimization runs the program's own code")
    given = Settings(lms, overrides, limits, str(out) if out is not None else None)
    going_on = (resume or restart_stage is not None) and not dry_run
    settings = settings_of_run(spec, run_dir, given) if going_on else given
    report_findings(spec, dict(settings.overrides), dict(settings.lms), not no_import)
    if dry_run:
        _dry_run(spec, run_dir, lms, overrides, limits, style, not no_import)
        return
    progress = OptimizeProgress()
    try:
        tuned = optimize(
            spec,
            seed=seed,
            run_dir=run_dir,
            out=out,
            resume=resume,
            restart_stage=restart_stage,
            budget=limits,
            lms=lms,
            overrides=overrides,
            listen=progress.listen,
            allow_writes=allow_writes,
            on=on,
            workers=workers,
            fsdp=fsdp,
        )
    except KeyboardInterrupt:
        if progress.jobs:
            _leave(progress.jobs, lambda: load(spec, lms=dict(settings.lms), overrides=dict(settings.overrides)))
        if progress.run_dir is not None:
            click.echo(f"what is finished is kept; add --run-dir {progress.run_dir} --resume to go on", err=True)
        raise
    if not first():
        return
    if style == "json":
        click.echo(json.dumps(tuned.report))
    else:
        print_candidates(read_trees(Path(tuned.report["run_dir"])))
        table(tuned.report)


def _leave(jobs: Mapping[str, str], program: Callable[[], Program]) -> None:
    """Say on standard error that each fine-tuning job (`jobs`: its id by LM) goes on at its provider, and ask on a terminal
    whether to cancel it. `program` loads the program, for the LM of a job to cancel; where a job cannot be cancelled, that
    is said too.
    """
    from lmprog.optimizers.sft.job import cancelled

    for lm, job in jobs.items():
        click.echo(f"the fine-tuning job {job} of {lm} goes on at its provider, and is paid for", err=True)
        try:
            if sys.stdin.isatty() and click.confirm("cancel it there?", err=True):
                state = cancelled(program().plan.lms[lm], job)
                click.echo(f"the fine-tuning job {job} is {state}", err=True)
        except click.Abort:
            click.echo("it is not cancelled", err=True)
        except LmprogError as error:
            click.echo(f"it is not cancelled: {error}", err=True)


def _dry_run(
    spec: Path,
    run_dir: Path | None,
    lms: dict[str, str],
    overrides: dict[str, Any],
    limits: dict[str, float],
    style: str,
    imports: bool,
) -> None:
    """Print what the optimization may cost in the form `style`. Speeds and lengths are those of the run in `run_dir` (None: of
    earlier runs of the program); `limits` are laid over the budget of the program.
    """
    from lmprog.optimizers.dry_run import forecast
    from lmprog.optimizers.run import earlier_runs
    from lmprog.reports.forecast import document, text
    from lmprog.runtime.program import load

    program = load(spec, lms=lms, overrides=overrides, imports=imports)
    found = forecast(program, [run_dir] if run_dir is not None else earlier_runs(spec))
    assert program.plan.optimize is not None
    budget = {**program.plan.optimize.budget, **limits}
    if style == "json":
        click.echo(json.dumps(document(program.plan.name, found, budget)))
    else:
        text(program.plan.name, found, budget)
