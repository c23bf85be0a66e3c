"""Numbers of LM calls that the built-in stages make at most, for a program's plan and the stage's options.

Each stage declares its count as `lm_calls`. `lmprog check` (LMP502) and `--dry-run` take the same one. As in `run_counts`,
options may be left out or of a wrong type, and nothing here needs pydantic.
"""

from __future__ import annotations

from collections.abc import Mapping

from lmprog.compiler.bounds import bounds
from lmprog.compiler.bounds import calls as calls_of_run
from lmprog.compiler.fine_tuning import trained_by_providers
from lmprog.compiler.plan import Plan
from lmprog.credit.order import Order
from lmprog.optimizers import run_counts
from lmprog.optimizers.run_counts import Options, number

CREDIT_RUNS = 4
"""Runs of each row of the credit report that ends a stage of weights."""


def bootstrap(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of a `bootstrap` stage with `train` train rows and `dev` choosing rows: of its runs and its
    teachers'. `options` are those of the stage."""
    runs = run_counts.bootstrap(options, train, dev) * calls_of_run(plan)
    return runs + _taught(plan, options, min(train, number(options, "rows", 0)))


def prompt_search(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of a `prompt_search` stage with `train` train rows and `dev` choosing rows: of its runs, its
    teachers' and the proposer. `options` are those of the stage."""
    runs = run_counts.prompt_search(options, train, dev) * calls_of_run(plan)
    return runs + _taught(plan, options, min(train, number(options, "bootstrap_rows", 0))) + searched(plan, options)


def gepa(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of a `gepa` stage with `train` train rows and `dev` choosing rows: of its runs and its
    reflections. `options` are those of the stage."""
    return run_counts.gepa(options, train, dev) * calls_of_run(plan) + reflections(options, train)


def ensemble(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of an `ensemble` stage with `dev` choosing rows: of each program alone, and of all members and
    the judge in each ensemble. `options` are those of the stage; nothing depends on `train`."""
    members, judged = number(options, "members", 3), options.get("judge") is not None
    alone, scored = calls_of_run(plan), calls_of_run(plan) - bounds(plan).total_calls
    together = sum(size * bounds(plan).total_calls + judged + scored for size in run_counts.ensemble_sizes(members))
    return dev * (members * alone + together)


def sft(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of an `sft` stage with `train` train rows and `dev` choosing rows: of its runs, its teachers'
    and the credit report. `options` are those of the stage."""
    if trained_by_providers(plan):
        options = {**options, "steps": 1, "evaluate_every": 1}  # what a provider's job comes to is scored once
    runs = run_counts.sft(options, train, dev) + credit_runs(plan, min(number(options, "credit", 0), dev))
    return runs * calls_of_run(plan) + _taught(plan, options, min(train, number(options, "rows", 0)))


def grpo(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of a `grpo` stage with `train` train rows and `dev` choosing rows: of its runs, its teachers'
    and the credit report. `options` are those of the stage."""
    runs = run_counts.grpo(options, train, dev) + credit_runs(plan, min(number(options, "credit", 0), dev))
    return runs * calls_of_run(plan) + _taught(plan, options, run_counts.examples(options))


def fast_slow(plan: Plan, options: Options, train: int, dev: int) -> int:
    """Return the most LM calls of a `fast_slow` stage with `train` train rows and `dev` choosing rows: those of `grpo`, of its
    prompt rounds and of the proposer. `options` are those of the stage."""
    more = run_counts.fast_slow(options, train, dev) - run_counts.grpo(options, train, dev)
    return grpo(plan, options, train, dev) + more * calls_of_run(plan) + rounds_searched(plan, options)


# the parts of the counts


def searched(plan: Plan, options: Options) -> int:
    """Return the most calls of the proposer by a `prompt_search` stage with these options; 0 without a proposer."""
    proposer = plan.optimize.proposer if plan.optimize is not None else None
    return number(options, "proposals", 0) * len(plan.modules) if proposer else 0


def rounds_searched(plan: Plan, options: Options) -> int:
    """Return the most calls of the proposer by a `fast_slow` stage with these options; 0 without a proposer."""
    steps, every, updates = (number(options, key, 1, 1) for key in ("steps", "every", "updates"))
    return run_counts.prompt_rounds(steps, every, updates) * searched(plan, options)


def reflections(options: Options, train: int) -> int:
    """Return the most calls of the proposer by a `gepa` stage with these options and `train` train rows."""
    # Each reflection comes after a minibatch of runs, which count.
    return number(options, "max_metric_calls", 0) // min(number(options, "minibatch", 1, 1), max(1, train))


def credit_runs(plan: Plan, rows: int) -> int:
    """Return the most program runs of a credit report on `rows` rows; 0 for a program with one module, whose share is 1.

    A run in which some calls are replayed counts as a whole one.
    """
    return rows * CREDIT_RUNS * (2 + Order(plan).anew()) if len(bounds(plan).calls) > 1 else 0


def _taught(plan: Plan, options: Options, rows: int) -> int:
    """Return the most LM calls of the teachers' runs on `rows` train rows, with their scoring by the program's metric."""
    found = plan.optimize.teachers if plan.optimize is not None else {}
    scored = calls_of_run(plan) - bounds(plan).total_calls
    named = options.get("teachers")
    total = 0
    for entry in named if isinstance(named, list | tuple) else ():
        teacher = found.get(str(entry.get("program"))) if isinstance(entry, Mapping) else None
        if teacher is not None:
            runs = rows * number(entry, "rollouts", run_counts.TEACHER_ROLLOUTS)
            total += runs * (bounds(teacher).total_calls + scored)
    return total
