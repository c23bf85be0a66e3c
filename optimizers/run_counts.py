"""Numbers of program runs that the built-in stages make at most, from their options.

Each stage declares its count as `runs`. `lmprog check` calls it with the options as they stand in a spec, some of them left out
or of a wrong type; so nothing here needs pydantic, and a missing option counts as the least that the stage would do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Options = Mapping[str, Any]

TEMPERATURES = (1.0, 0.8, 0.6, 0.4)
"""The temperatures that the probe of a training tries where `temperature` is auto, the highest first."""

TEACHER_ROLLOUTS = 2
"""The runs of a teacher on each row where its entry sets none."""


def bootstrap(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of a `bootstrap` stage with `train` train rows and `dev` choosing rows: on train
    rows, of each demo set on dev rows, and of the finalists again. `options` are those of the stage."""
    scored = dev * (1 + number(options, "sets", 1))
    sampled = min(train, number(options, "rows", 0)) * number(options, "samples", 1)
    return scored + _finals(options, dev, dev) + sampled


def prompt_search(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of a `prompt_search` stage with `train` train rows and `dev` choosing rows: on train
    rows, of the trials on dev rows, and of the finalists again. `options` are those of the stage."""
    minibatch, finalists = number(options, "minibatch", dev, 1), number(options, "finalists", 0)
    trials = halving_runs(dev, minibatch, finalists, number(options, "trials", 1))
    sampled = min(train, number(options, "bootstrap_rows", 0)) * number(options, "samples", 1)
    return dev + trials + _finals(options, dev, dev) + sampled


def gepa(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of a `gepa` stage with `train` train rows and `dev` choosing rows: of the search,
    and of the finalists on the dev rows that they lack. `options` are those of the stage."""
    scored = min(dev, number(options, "pareto_rows", dev))
    return number(options, "max_metric_calls", 0) + _finals(options, dev, scored)


def ensemble(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of an `ensemble` stage with `dev` choosing rows: of each program alone and of all in
    each ensemble.

    A judge's call counts as a run. `options` are those of the stage.
    """
    members, judged = number(options, "members", 3), options.get("judge") is not None
    return dev * (members + sum(size + judged for size in ensemble_sizes(members)))


def sft(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of an `sft` stage with `train` train rows and `dev` choosing rows: those that
    replies are taken from, and the scorings on dev rows; runs of teachers do not count. `options` are those of the
    stage."""
    return min(train, number(options, "rows", 0)) * number(options, "samples", 0) + _scorings(options, dev)


def grpo(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of a `grpo` stage with `train` train rows and `dev` choosing rows: rollouts, the
    probe, and the scorings on dev rows; runs of teachers do not count. `options` are those of the stage."""
    rollouts = number(options, "rollouts", 1)
    rows, auto = min(number(options, "probe", 0), train), options.get("temperature") == "auto"
    return examples(options) * rollouts + probe_runs(rows, rollouts, auto) + _scorings(options, dev)


def fast_slow(options: Options, train: int, dev: int) -> int:
    """Return the most program runs of a `fast_slow` stage with `train` train rows and `dev` choosing rows: of its
    training steps, and of the prompt rounds between them. `options` are those of the stage."""
    steps, every, updates = (number(options, key, 1, 1) for key in ("steps", "every", "updates"))
    candidates = number(options, "population", 0) + number(options, "trials", 0)
    a_round = candidates * min(number(options, "rows", 0), dev) + min(train, number(options, "bootstrap_rows", 0))
    return grpo(options, train, dev) + prompt_rounds(steps, every, updates) * a_round


# the parts of the counts


def final_runs(choosing: int, scored: int, finalists: int, repeats: int) -> int:
    """Return the number of runs that score `finalists` candidates, and the start beside them, on all `choosing` rows
    `repeats` times each.

    One run of each of them on each of `scored` rows was made before, and is not counted.
    """
    return (finalists + 1) * (choosing * repeats - scored)


def halving(rows: int, first: int, last: int, candidates: int) -> list[tuple[int, int]]:
    """Return the rungs of successive halving of `candidates`, each as a number of rows and the number of candidates scored
    on them.

    All candidates are scored on `first` rows (or `rows`, of fewer), the better half (rounded up) on twice as many, and
    so on up to all `rows`; at least `last` candidates, or all of fewer, are scored on all rows.
    """
    rungs = [(min(first, rows), candidates)]
    while rungs[-1][0] < rows:
        done, left = rungs[-1]
        rungs.append((min(2 * done, rows), min(candidates, max(last, -(-left // 2)))))
    return rungs


def halving_runs(rows: int, first: int, last: int, candidates: int) -> int:
    """Return the program runs in all rungs of `halving`; rows already scored for a candidate are not run again."""
    total = below = 0
    for upto, count in halving(rows, first, last, candidates):
        total += count * (upto - below)
        below = upto
    return total


def probe_runs(rows: int, rollouts: int, auto: bool) -> int:
    """Return the most runs of the probe before a training on `rows` rows: one greedy run a row, and `rollouts` sampled ones
    at each temperature tried (several if `auto`).
    """
    return rows * (1 + (len(TEMPERATURES) if auto else 1) * rollouts) if rows else 0


def examples(options: Options) -> int:
    """Return the most train rows that a `grpo` stage draws. `options` are those of the stage."""
    waves = number(options, "resample_waves", 1) if options.get("no_signal") == "resample" else 1
    steps, updates = (number(options, key, 1, 1) for key in ("steps", "updates"))
    return -(-steps // updates) * waves * number(options, "examples", 1)


def ensemble_sizes(members: int) -> range:
    """Return the sizes of the ensembles that are tried with so many members: 3, 5 and so on, so that a vote of two answers is
    decided.
    """
    return range(3, members + 1, 2)


def prompt_rounds(steps: int, every: int, updates: int) -> int:
    """Return the number of prompt searches in `steps` weight steps: one before the first, then after every `every`, but
    not after the last.

    The updates on one wave are not split, so `every` is rounded up to whole waves.
    """
    return -(-steps // (-(-every // updates) * updates))


def _finals(options: Options, choosing: int, scored: int) -> int:
    return final_runs(choosing, scored, number(options, "finalists", 0), number(options, "repeats", 1))


def _scorings(options: Options, dev: int) -> int:
    scorings = 1 + -(-number(options, "steps", 1) // number(options, "evaluate_every", 1, 1))
    return scorings * dev * number(options, "repeats", 1)


def number(options: Options, key: str, otherwise: int, least: int = 0) -> int:
    """Return an option that is a whole number of at least `least`; `otherwise` where it is absent or anything else."""
    value = options.get(key, otherwise)
    # True and False are ints to Python, and no number of anything.
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else otherwise
