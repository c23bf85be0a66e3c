"""The progress of an optimization on the terminal, a line for each result, and the table of results at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from lmprog.boundary import terminal
from lmprog.optimizers.staged.verdict import described
from lmprog.reports.credit import share_line
from lmprog.scoring.recovered import RecoveredRuns
from lmprog.scoring.statistics import Estimate
from lmprog.spending.amounts import spending
from lmprog.spending.budget import Spent

if TYPE_CHECKING:
    from lmprog.optimizers.journal.lineage import StageTree


def percent(estimate: Mapping[str, Any]) -> str:
    """Return an estimate of fractions, as the journal has it (`mean`, `ci95`, ...), in percent with its interval:
    `62.5% [52.3, 71.9]`."""
    return str(Estimate.from_json(estimate))


def points(difference: Mapping[str, Any]) -> str:
    """Return a difference of fractions (`mean` and `ci95`) in percentage points with its interval, as `+12.5 [+3.1, +21.9]`."""
    low, high = difference["ci95"]
    return f"{100 * difference['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


class OptimizeProgress:
    """A printer of the progress of one optimization on standard error, as plain lines with the time since its start; `listen`
    is called with each event of the journal. `run_dir` is the run's folder, None until the run has started.
    """

    def __init__(self) -> None:
        self.console = terminal.console(stderr=True, highlight=False)
        self.run_dir: str | None = None
        self.jobs: dict[str, str] = {}
        """The fine-tuning jobs that are at work at a provider, by LM id."""
        self._stages: list[str] = []
        self._started = time.monotonic()
        self._spending = ""

    def listen(self, event: Mapping[str, Any]) -> None:
        """Print the lines for an event of the journal (a dictionary with its name under `event`), by the method `_on_EVENT`;
        an event without one prints nothing.
        """
        show = getattr(self, f"_on_{event['event']}", None)
        if show is not None:
            elapsed = int(time.monotonic() - self._started)
            for line in show(event):
                self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim] {line}", soft_wrap=True)

    def _on_run_started(self, event: Mapping[str, Any]) -> list[str]:
        self.run_dir = event["run_dir"]
        return [
            f"optimizing {event['program']} (seed {event['seed']}); the run is kept in {escape(self.run_dir or '')}"
        ]

    def _on_stage_started(self, event: Mapping[str, Any]) -> list[str]:
        self._stages.append(event["name"])
        return [f"[bold]stage {event['number']} of {event['of']}: {event['name']}[/bold]"]

    def _on_stage_kept(self, event: Mapping[str, Any]) -> list[str]:
        self._stages.append(event["stage"])
        return [f"stage {event['number']} of {event['of']}: {event['stage']} was finished before; kept"]

    def _on_note(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  {escape(event['text'])}"]

    def _on_job(self, event: Mapping[str, Any]) -> list[str]:
        if event["ended"]:
            self.jobs.pop(event["lm"], None)
        else:
            self.jobs[event["lm"]] = event["job"]
        return [escape(f"  the job {event['job']} of {event['lm']} is {event['status']}")]

    def _on_spending(self, event: Mapping[str, Any]) -> list[str]:
        self._spending = spending(Spent(**event["spent"]), event["limits"])
        return []

    def _on_trial(self, event: Mapping[str, Any]) -> list[str]:
        what = "as it is" if event["number"] == 0 else f"trial {event['number']}/{event['of']}"
        demos = ", ".join(f"{count} demos" for count in event["demos"].values())
        scores = f"{escape(percent(event['score']))}  best {escape(percent(event['best']))}"
        return ["  ".join(part for part in (f"  {what:<12} {scores}", demos, self._spending) if part)]

    def _on_round(self, event: Mapping[str, Any]) -> list[str]:
        said = f"best {escape(percent(event['best']))}  {event['tried']} tried, {len(event['members'])} kept"
        return [f"  prompts at step {event['step']}: {said}  {self._spending}"]

    def _on_step(self, event: Mapping[str, Any]) -> list[str]:
        # Optimizers of other packages record what they like beside the number.
        found = {name: value for name, value in event.items() if isinstance(value, int | float)}
        parts = [f"  step {event['step']}" + (f"/{found['of']}" if "of" in found else "")]
        if "reward" in found:
            parts.append(f"reward {found['reward']:.2f}")
            if found.keys() >= {"without_signal", "examples"}:
                parts.append(f"without signal {found['without_signal']}/{found['examples']} examples")
        elif "loss" in found:
            parts.append(f"loss {found['loss']:.3f}")
            if "rows" in found:  # of a stage that learns replies
                parts.append(f"{found['rows']} replies")
        if "seconds" in found:
            parts.append(f"{found['seconds']:.1f} s")
        return ["  ".join(parts)]

    def _on_dev(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  [bold]dev at step {event['step']}: {escape(percent(event['score']))}[/bold]  {self._spending}"]

    def _on_compared(self, event: Mapping[str, Any]) -> list[str]:
        difference = escape(points(event["difference"]))
        return [f"  {escape(event['what'])}, paired: {difference} points: {escape(event['verdict'])}"]

    def _on_confirming(self, event: Mapping[str, Any]) -> list[str]:
        return [f"scoring on {event['rows']} dev rows that confirm"]

    def _on_confirmed(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  {escape(described(event, self._stages))}"]

    def _on_credit(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  credit, of the variance of {event['rows']} dev rows: {escape(share_line(event['modules']))}"]

    def _on_refused(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  a candidate was refused: {escape(event['findings'].splitlines()[0])}"]

    def _on_stage_ended(self, event: Mapping[str, Any]) -> list[str]:
        gain = f"{escape(points(event['gain']))} points" if event["changed"] else "nothing changed"
        return [f"  {event['name']} ends at {escape(percent(event['validate']))} on the rows that choose: {gain}"]

    def _on_test_started(self, event: Mapping[str, Any]) -> list[str]:
        return [f"scoring the program {event['program']} on {event['rows']} sealed test rows"]


def print_candidates(trees: Sequence[StageTree], diff: bool = False) -> None:
    """Print the candidates of each stage (`trees`, in the order of the stages) on standard output as trees; with `diff` also
    the change of each one's texts from those of its first parent.
    """
    from lmprog.reports.candidates import shown

    # In a pipe no line is broken, so that what is searched for is found.
    console = terminal.console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 1_000_000)
    for tree in shown(trees, diff):
        console.print(tree)


def table(report: Mapping[str, Any]) -> None:
    """Print the report of a finished optimization (a dictionary, as in report.json) on standard output: a table of the scores
    before and after each stage with their cost, the tests of the choice, the gain on test rows where there are any, and the
    path of the overlay.
    """
    test = report["test"]
    shown = Table(
        title=f"{report['program']}: {test['metric'] if test else 'dev'}, mean and 95% interval", title_justify="left"
    )
    chosen_by = f"{report['accepted']['choose']} dev rows that choose"
    for heading in ("", chosen_by, *(("test", "gain on test, paired") if test else ()), "LM calls", "minutes"):
        shown.add_column(heading, no_wrap=True)
    shown.add_row("before", percent(report["before"]), *((percent(test["before"]), "") if test else ()), "", "")
    kept = report["accepted"]["kept"]
    for number, stage in enumerate(report["stages"], 1):
        tested = (percent(stage["test"]), points(stage["difference"])) if test else ()
        shown.add_row(
            f"+ {stage['stage']}{' <- kept' if number == kept else ''}",
            percent(stage["validate"]),
            *tested,
            f"{stage['lm_calls']:,}",
            f"{stage['seconds'] / 60:.1f}",
        )
    # Wide enough for the table whatever the output is: a pipe has no width of its own.
    console = terminal.console(highlight=False, markup=False)
    terminal.console(highlight=False, markup=False, width=max(console.width, 120)).print(shown)
    accepted, stages = report["accepted"], [stage["stage"] for stage in report["stages"]]
    for tested in accepted["tests"]:
        console.print(f"tested on dev: {described(tested, stages)}", soft_wrap=True)
    console.print(accepted["verdict"], soft_wrap=True)
    if report["best_estimate"]:
        console.print(f"the changes of all stages, not confirmed: {report['best_estimate']}", soft_wrap=True)
    if test:
        p = test["difference"]["p"]
        console.print(
            f"gain on {test['n']} test rows, paired: {points(test['difference'])} points, p = {p:.2g}", soft_wrap=True
        )
        if test["few_rows"]:
            console.print(f"  {test['few_rows']}", soft_wrap=True)
        for name in ("before", "after"):
            failed = ", ".join(f"{count} {kind}" for kind, count in test["failures"][name].items())
            if failed:
                console.print(f"  {name}, failed and scored lowest: {failed}", soft_wrap=True)
            for each in (RecoveredRuns(**entry) for entry in test["recovered"][name]):
                console.print(f"  {name}, {each}", soft_wrap=True)
            if test["outages"][name]:
                console.print(
                    f"  {name}, left out since an outage ended them: {test['outages'][name]} rows", soft_wrap=True
                )
        if test["doubt"]:
            console.print(f"  {test['doubt']}", soft_wrap=True)
    console.print(f"written: {report['overlay']}", soft_wrap=True)
