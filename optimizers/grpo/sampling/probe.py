"""The probe before the first step, for a learning signal: greedy runs beside sampled ones on a few train rows.

Training reinforces what is sampled, so that nothing is learnt where no sample is better than the greedy reply. A
lower temperature samples nearer to the greedy reply: where 1.0 strays too far, 0.6 may find a slightly better reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from lmprog.optimizers.grpo.advantages import EQUAL
from lmprog.optimizers.grpo.config import Config
from lmprog.optimizers.grpo.math.comparisons import seen
from lmprog.optimizers.grpo.math.overlong import is_cut
from lmprog.optimizers.grpo.sampling.reward import Reward
from lmprog.optimizers.grpo.sampling.rollouts import Rollout, Wave, Width, collect, examples_at
from lmprog.optimizers.optimizer import Task
from lmprog.optimizers.run_counts import TEMPERATURES, probe_runs
from lmprog.seeds import derive

ENOUGH = 0.2
"""The share of rows with a sample above greedy at which a temperature will do."""
HELP = (
    "what may help: a prompt that gets more rows right first (prompt_search or bootstrap before this stage), sft on "
    "labelled rows, `teachers` that get them right, a metric or `reward` with marks for what is half right"
)

Temperature = float | Mapping[str, float]
"""A temperature for all modules, or temperatures by module."""
Runs = Callable[[Temperature, int], Awaitable[Wave]]
"""Runs the program on the rows of the probe at a temperature, so many times each."""


def most_runs(config: Config, train: int) -> int:
    """Return how many program runs the probe makes at most, for `train` train rows."""
    return probe_runs(min(config.probe, train), config.rollouts, config.temperature == "auto")


async def probe(
    task: Task,
    config: Config,
    scorer: Reward,
    params: Callable[[Callable[[str], float]], Mapping[str, Mapping[str, Any]]],
    format_failure: float,
) -> dict[str, Any] | None:
    """Measure before training whether a few train rows give a signal, and note it for the user; return the measurements of
    `measure`, or None where there are no train rows or the option `probe` is 0.

    It is done once, even if the run is resumed, and recorded in the journal. `params` returns the parameters of the trained
    modules, from a function that returns a module's temperature. A run that fails by itself has the reward `format_failure`.
    Raises ProviderError where outages ended all runs, and MetricFailed where the metric raised in all of them.
    """
    rows = len(task.train)
    if not min(rows, config.probe):
        return None
    seed = derive(task.seed, "probe")
    examples = examples_at(0, min(config.probe, rows), rows, seed)

    async def runs(temperature: Temperature, count: int) -> Wave:
        heated = params(config.model_copy(update={"temperature": temperature}).temperature_of)
        return await collect(
            task.program,
            task.train,
            examples,
            scorer,
            rollouts=count,
            params=heated,
            format_failure=format_failure,
            seed=seed,
        )

    found: dict[str, Any] = await task.journal.once(
        "probe", lambda: measure(runs, config, scorer.highest, scorer.width)
    )
    task.journal.record_step("probe", 0, **found)
    for text in said(found, taught=bool(config.teachers)):
        task.journal.note(text)
    return found


async def measure(runs: Runs, config: Config, top: float, width: Width) -> dict[str, Any]:
    """Compare greedy runs with runs sampled at each temperature; return the measurements as plain values: `rows` (with
    a greedy score), `rollouts`, `greedy` (the mean reward), `solved` (all greedy runs have the reward `top`), `tried`
    (a list with a dictionary for each temperature: `temperature`, `mean`, `best`, `with_signal`, `above_greedy`,
    `cut`), `temperature` (that taken) and `levels` (the distinct rewards seen).

    With `temperature: auto` the temperatures of TEMPERATURES (1.0, 0.8, 0.6, 0.4) are tried down to the first at which
    a sample is better than greedy on ENOUGH (0.2) of the rows, which is taken; where none is, the one with most such
    rows, of equal ones the highest. Else only the temperature of `config` is tried. `top` is the highest reward,
    `width` returns the width of the reward's range.
    """
    greedy = _by_row((await runs(0.0, 1)).rollouts)
    tried: list[dict[str, Any]] = []
    levels: dict[str, list[float]] = {}
    temperatures: Sequence[Temperature] = TEMPERATURES if config.temperature == "auto" else (config.temperature,)
    for temperature in temperatures:
        wave = await runs(temperature, config.rollouts)
        levels = seen(levels, wave.rollouts, width)
        tried.append({"temperature": temperature, **_summary(wave, greedy, width)})
        if tried[-1]["above_greedy"] >= ENOUGH:
            break
    # Of equals the first, which is the highest.
    chosen = max(tried, key=lambda at_temperature: at_temperature["above_greedy"])
    solved = bool(greedy) and all(reward >= top - EQUAL * width(None) for (reward,) in greedy.values())
    return {
        "rows": len(greedy),
        "rollouts": config.rollouts,
        "greedy": _mean([reward for (reward,) in greedy.values()]),
        "solved": solved,
        "tried": tried,
        "temperature": chosen["temperature"],
        "levels": levels,
    }


def _summary(wave: Wave, greedy: Mapping[int, Sequence[float]], width: Width) -> dict[str, float]:
    sampled = _by_row(wave.rollouts)
    with_signal, without = wave.by_signal(width)
    both = [example for example in sampled if example in greedy]
    above = [max(sampled[example]) - greedy[example][0] > EQUAL * width(None) for example in both]
    replies = [made for run in wave.rollouts for made in run.invocations if made.parent is None and made.token_ids]
    return {
        "mean": _mean([reward for rewards in sampled.values() for reward in rewards]),
        "best": _mean([max(rewards) for rewards in sampled.values()]),
        "with_signal": len(with_signal) / max(1, len(with_signal) + len(without)),
        "above_greedy": _mean(above),
        "cut": _mean([is_cut(made) for made in replies]),
    }


def said(report: Mapping[str, Any], taught: bool = False) -> list[str]:
    """Return the measurements of a probe as sentences, with advice where there is little to learn from.

    `taught` says that the stage has teachers, whose runs may give signal too.
    """
    best = next(each for each in report["tried"] if each["temperature"] == report["temperature"])
    temperature = report["temperature"]
    at = f"at temperature {temperature:g}" if isinstance(temperature, int | float) else "at the temperatures given"
    summary = (
        f"{report['rows']} train rows before the first step: {report['greedy']:.2f} greedy; {at} "
        f"{best['mean']:.2f} in the mean and {best['best']:.2f} by the best of {report['rollouts']}; "
        f"{best['with_signal']:.0%} of the rows have a signal, on {best['above_greedy']:.0%} a sample is better than greedy"
        + (f"; max_tokens cuts {best['cut']:.0%} of the replies" if best["cut"] else "")
    )
    if best["above_greedy"] >= ENOUGH:
        return [summary]
    if report["solved"]:
        return [summary, "these rows are solved already: there is nothing to learn from them; take harder ones"]
    wanting = "nothing" if not best["above_greedy"] else "little"
    if taught:
        return [
            summary,
            f"by itself the program finds {wanting} to learn from here: what it learns comes from the teachers",
        ]
    return [summary, f"there is {wanting} to learn from: hardly a run is better than what is said anyway; {HELP}"]


def _by_row(rollouts: Sequence[Rollout]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.example, []).append(rollout.reward)
    return found


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
