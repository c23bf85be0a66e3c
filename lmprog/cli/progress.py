"""What a person sees of an optimization: a line for each thing that was learnt, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def percent(estimate: Mapping[str, Any]) -> str:
    """`62.5% [52.3, 71.9]`."""
    low, high = estimate["ci95"]
    return f"{100 * estimate['mean']:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def points(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    return f"{100 * difference['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


class OptimizeProgress:
    """Listens to the journal and prints to standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.run_dir: str | None = None
        self._started = time.monotonic()

    def listen(self, event: Mapping[str, Any]) -> None:
        """Print what an event means to the user, if anything."""
        show = getattr(self, f"_{event['event']}", None)
        if show is not None:
            elapsed = int(time.monotonic() - self._started)
            for line in show(event):
                self.console.print(f"[dim]{elapsed // 60:3d}:{elapsed % 60:02d}[/dim] {line}", soft_wrap=True)

    def _run_started(self, event: Mapping[str, Any]) -> list[str]:
        self.run_dir = event["run_dir"]
        return [f"optimizing {event['program']} (seed {event['seed']}); the run is kept in {event['run_dir']}"]

    def _stage_started(self, event: Mapping[str, Any]) -> list[str]:
        return [f"[bold]stage {event['number']} of {event['of']}: {event['name']}[/bold]"]

    def _stage_kept(self, event: Mapping[str, Any]) -> list[str]:
        return [f"stage {event['number']} of {event['of']}: {event['stage']} was finished before; kept"]

    def _note(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  {event['text']}".replace("[", r"\[")]

    def _trial(self, event: Mapping[str, Any]) -> list[str]:
        what = "as it is" if event["number"] == 0 else f"trial {event['number']}/{event['of']}"
        demos = ", ".join(f"{count} demos" for count in event["demos"].values())
        return [f"  {what:<12} {_escaped(percent(event['score']))}  best {_escaped(percent(event['best']))}  {demos}"]

    def _step(self, event: Mapping[str, Any]) -> list[str]:
        return [
            f"  step {event['step']}/{event['of']}  reward {event['reward']:.2f}  "
            f"without signal {event['without_signal']}/{event['examples']} examples  {event['seconds']:.1f} s"
        ]

    def _dev(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  [bold]dev at step {event['step']}: {_escaped(percent(event['score']))}[/bold]"]

    def _compared(self, event: Mapping[str, Any]) -> list[str]:
        difference = _escaped(points(event["difference"]))
        return [f"  {event['what']}, paired: {difference} points: {event['verdict']}"]

    def _refused(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  a candidate was refused: {_escaped(event['findings'].splitlines()[0])}"]

    def _stage_ended(self, event: Mapping[str, Any]) -> list[str]:
        return [f"  {event['name']} ends at {_escaped(percent(event['validate']))} on dev"]

    def _test_started(self, event: Mapping[str, Any]) -> list[str]:
        return [f"scoring the program {event['program']} on {event['rows']} sealed test rows"]


def table(report: Mapping[str, Any]) -> None:
    """The end of a run on standard output: scores before and after each stage, and what they cost."""
    test = report["test"]
    shown = Table(
        title=f"{report['program']}: {test['metric'] if test else 'dev'}, mean and 95% interval", title_justify="left"
    )
    for heading in ("", "dev", *(("test", "gain on test, paired") if test else ()), "LM calls", "minutes"):
        shown.add_column(heading, no_wrap=True)
    if test:
        shown.add_row("before", "", percent(test["before"]), "", "", "")
    for stage in report["stages"]:
        tested = (percent(stage["test"]), points(stage["difference"])) if test else ()
        shown.add_row(
            f"+ {stage['stage']}",
            percent(stage["validate"]),
            *tested,
            f"{stage['lm_calls']:,}",
            f"{stage['seconds'] / 60:.1f}",
        )
    # Wide enough for the table whatever the output is: a pipe has no width of its own.
    console = Console(highlight=False, markup=False)
    Console(highlight=False, markup=False, width=max(console.width, 120)).print(shown)
    if test:
        p = test["difference"]["p"]
        console.print(
            f"gain on {test['n']} test rows, paired: {points(test['difference'])} points, p = {p:.2g}", soft_wrap=True
        )
    console.print(f"written: {report['overlay']}", soft_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
