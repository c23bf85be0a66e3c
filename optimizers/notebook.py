"""The bar of an optimization in a notebook: its stage, how far that is, the best score, and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmprog.boundary.notebook import Bar, Place
from lmprog.scoring.statistics import Estimate
from lmprog.spending.amounts import spending
from lmprog.spending.budget import Spent

Event = Mapping[str, Any]


class OptimizationBar:
    """A listener of the journal, which shows one bar in a notebook for all stages; elsewhere it shows nothing."""

    def __init__(self) -> None:
        self._place = Place()
        self._bar = Bar("", 0, 0)
        self._program = self._spent = self._doing = ""
        self._best: Event | None = None
        """The best score of the stage so far, an estimate as plain values."""

    def __call__(self, event: Event) -> None:
        """Draw the bar anew where an event of the journal changes it."""
        follow = getattr(self, f"_on_{event['event']}", None)
        if follow is not None:
            follow(event)
            best = f"best {Estimate.from_json(self._best)}" if self._best is not None else ""
            self._bar.said = "; ".join(part for part in (self._doing, best, self._spent) if part)
            self._place.show(self._bar)

    def _begin(self, what: str, done: int = 0, total: int = 0) -> None:
        self._bar.what, self._bar.done, self._bar.total = f"{self._program}, {what}", done, total
        self._best, self._doing = None, ""

    def _on_run_started(self, event: Event) -> None:
        self._program = event["program"]
        self._begin("the optimization begins")

    def _on_stage_started(self, event: Event) -> None:
        self._begin(f"stage {event['number']} of {event['of']}: {event['name']}")

    def _on_stage_kept(self, event: Event) -> None:
        self._begin(f"stage {event['number']} of {event['of']}: {event['stage']}, finished before")

    def _on_spending(self, event: Event) -> None:
        self._spent = spending(Spent(**event["spent"]), event["limits"])

    def _on_trial(self, event: Event) -> None:
        self._bar.done, self._bar.total, self._best = event["number"], event["of"], event["best"]
        self._doing = "trials"

    def _on_step(self, event: Event) -> None:
        # Optimizers of other packages record what they like beside the number.
        of = event.get("of")
        self._bar.done, self._bar.total = event["step"], of if isinstance(of, int) else 0
        figures = [
            f"{name} {event[name]:.3f}" for name in ("reward", "loss") if isinstance(event.get(name), int | float)
        ]
        self._doing = ", ".join(["steps", *figures[:1]])

    def _on_dev(self, event: Event) -> None:
        if self._best is None or event["score"]["mean"] > self._best["mean"]:
            self._best = event["score"]

    def _on_round(self, event: Event) -> None:
        self._best = event["best"]

    def _on_job(self, event: Event) -> None:
        self._doing = f"the job {event['job']} of {event['lm']} is {event['status']}"

    def _on_confirming(self, event: Event) -> None:
        self._begin(f"scoring on {event['rows']} dev rows that confirm")

    def _on_test_started(self, event: Event) -> None:
        self._begin(f"scoring the program {event['program']} on {event['rows']} sealed test rows")

    def _on_run_ended(self, event: Event) -> None:
        self._begin(f"written to {event['overlay']}")
