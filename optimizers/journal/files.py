"""The file of a journal: whatever was finished is in it, so that an interrupted run resumes from it."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from copy import copy
from itertools import count
from pathlib import Path
from typing import Any

from lmprog.compiler.yaml.whole_file import close_to_others, make_private, open_private
from lmprog.optimizers.journal.events import FILE, problem, read_journal, stage_number
from lmprog.spending.budget import Budget, Spent
from lmprog.state.json_lines import PassedOver, cut_torn_line, versioned_line
from lmprog.state.unchanged import Unchanged

Listener = Callable[[dict[str, Any]], None]


class Journal:
    """The events of an optimization, one JSON line each, in `folder/journal.jsonl`, and the listeners that show them.

    `events` are the valid ones: a line that cannot be read is left out, and its work is done again.
    """

    def __init__(self, folder: Path, listeners: tuple[Listener, ...] = (), unchanged: Unchanged | None = None) -> None:
        """Open the journal in `folder`, which is made if it does not exist; a line that a killed process has half written is
        cut off.

        `listeners` are called with every event that is recorded or shown. `unchanged` are the files that the run is made
        from, which are checked before anything is recorded (None: nothing is checked). Raises UsageError where the file is no
        journal of this version.
        """
        self.folder = folder
        self._unchanged = unchanged
        make_private(folder)
        path = folder / FILE
        self.passed_over = PassedOver()
        self.events: list[dict[str, Any]] = read_journal(path, self.passed_over) if path.exists() else []
        cut_torn_line(path)
        self._lines = count(path.read_bytes().count(b"\n") + 1 if path.exists() else 1)
        self._finished: dict[str, Any] = {}
        self._paid: dict[str, Any] = {}
        self._recollect()
        self._file = open_private(path, "ab")
        self._listeners = listeners
        self._folders: list[Path] = []
        self._said: set[tuple[str, str]] = set()
        self._one_at_a_time = threading.Lock()
        self._stage = self._part = ""
        self._budget = Budget({})

    def begin(self) -> None:
        """Show a note with the lines of the file that could not be read, if there are any."""
        if self.passed_over:
            self.tell("note", text=f"{self.folder / FILE}: {self.passed_over}; what they held is done again")

    def record(self, event: str, **values: Any) -> None:
        """Append an event of the kind `event` with its fields `values` to the file, which has it when this returns, and
        show it.

        Raises UsageError where the run's source files have changed, and TypeError where a field of the kind of event is
        missing or of a wrong type; further fields are kept.
        """
        if self._unchanged is not None:
            self._unchanged.require()
        made = {"event": event, **({"stage": self._stage} if self._stage else {}), **values}
        if wrong := problem(made):
            raise TypeError(f"the event {event!r} cannot be recorded: {wrong}")
        with self._one_at_a_time:
            # The number of the line keeps two equal events apart from one that was written twice.
            self._file.write(versioned_line({"line": next(self._lines), **made}))
            self._file.flush()
            os.fsync(self._file.fileno())
            self.events.append(made)
        self.tell(event, **values)

    def record_step(self, event: str, step: int, **values: Any) -> None:
        """Append an event of a training step and show it; where the stage has recorded an event of this kind and step before,
        only show it. Raises UsageError and TypeError as `record` does."""
        same = {"event": event, "step": step, "stage": self._stage}
        if any(same == {name: made.get(name, "") for name in same} for made in self.events):
            self.tell(event, step=step, **values)
        else:
            self.record(event, step=step, **values)

    def tell(self, event: str, **values: Any) -> None:
        """Show an event to the listeners (the progress display) without recording it. Raises TypeError where a field of
        the kind of event is missing or of a wrong type."""
        if wrong := problem({"event": event, **values}):
            raise TypeError(f"the event {event!r} cannot be shown: {wrong}")
        for listener in self._listeners:
            listener({"event": event, **values})

    def note(self, text: str) -> None:
        """Show the user a sentence, once in a stage. It is recorded once, and shown again by a resumed run at the same
        point. Raises UsageError as `record` does.
        """
        if (self._stage, text) in self._said:
            return
        self._said.add((self._stage, text))
        kept = any(event.get("text") == text and event.get("stage", "") == self._stage for event in self.events)
        self.tell("note", text=text) if kept else self.record("note", text=text)

    def restart(self, number: int, rescore: bool) -> None:
        """Make void the events of stage `number`, of later stages, and of the test; the amounts spent stay counted.

        With `rescore` the scores of earlier stages are void too, and only their results are kept. Raises UsageError
        where the run's source files have changed.
        """
        self.record("restarted", number=number, rescore=rescore)
        self.events[:] = read_journal(self.folder / FILE)
        self._recollect()

    def _recollect(self) -> None:
        finished = [event for event in self.events if event["event"] == "finished"]
        for kept, name in ((self._finished, "value"), (self._paid, "paid")):
            kept.clear()
            kept |= {event["key"]: event[name] for event in finished if name == "value" or event.get(name) is not None}

    def recall(self, key: str) -> Any:
        """Return the value that is recorded under `key` of this stage and part; None where there is none."""
        return self._finished.get(self._named(key))

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Return the value of `work` (plain values), recorded under `key`; work that has returned is not done again, in this
        process or in a resumed run, which take the recorded value.

        What the work spent is recorded with it, and charged to the stage's budget when a resumed run takes the value.
        What `work` raises is raised, and nothing is recorded; so is UsageError as by `record`. Two calls for one key
        must not run at the same time.
        """
        budget, named = self._budget, self._named(key)
        if named not in self._finished:
            before = budget.spent
            value = await work()
            paid = {"spent": budget.spent.since(before).as_json(), "largest": budget.largest.as_json()}
            self.keep(key, value, paid=paid)
        elif named in self._paid:
            budget.charge(**{part: Spent(**values) for part, values in self._paid.pop(named).items()})
        return self._finished[named]

    def keep(self, key: str, value: Any, **more: Any) -> None:
        """Record plain values under `key` of this stage and part, for `recall` in this run and in a resumed one, in
        place of earlier ones; `more` are further fields of the event Finished.

        Raises UsageError and TypeError as `record` does.
        """
        self._finished[self._named(key)] = value
        self.record("finished", key=self._named(key), value=value, **more)

    def within(self, stage: str, budget: Budget) -> Journal:
        """Return the journal of one stage, such as `2-grpo`: a view of this one whose keys and folder are the stage's own; the
        folder is made, for its owner alone.

        What work of the stage spends is measured by `budget`.
        """
        view = copy(self)
        view._budget = budget
        restarts = sum(
            event["event"] == "restarted" and event["number"] <= stage_number(stage) for event in self.events
        )
        # A restarted stage gets a new folder: overlays of before may name adapters in the old one.
        view.folder = self.folder / (f"{stage}.{restarts}" if restarts else stage)
        make_private(view.folder)
        self._folders.append(view.folder)
        view._stage = stage
        return view

    def part(self, name: str) -> Journal:
        """Return a view of this journal whose keys begin with `name`, for work that a stage does several times.

        `name` must be another for each time, and the same in a resumed run.
        """
        view = copy(self)
        view._part = f"{self._part}{name}/"
        return view

    def _named(self, key: str) -> str:
        return f"{self._stage}/{self._part}{key}" if self._stage else f"{self._part}{key}"

    def close(self) -> None:
        """Close the file, and set the stages' folders so that nobody but their owner may open them."""
        self._file.close()
        for folder in self._folders:
            close_to_others(folder)
