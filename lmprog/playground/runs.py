"""Runs that were asked for on the page: one at a time, in a thread of its own; the last two are kept and compared."""

from __future__ import annotations

import asyncio
import difflib
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lmprog.aio.loops import run_async
from lmprog.compiler.bounds import judges
from lmprog.errors import Handled, LmprogError
from lmprog.optimizers.redaction import ShownRows
from lmprog.reports.calls import LENGTH, ShownCall, as_text, cut, shown_calls
from lmprog.runtime.events import CallEnded, TextPiece
from lmprog.runtime.options import RunOptions
from lmprog.runtime.program import Program
from lmprog.runtime.result import Result
from lmprog.scoring.metrics import Scorer
from lmprog.traces.usage import usage_of

BETWEEN = 0.15
"""The least seconds between two changes of the page for a reply that is being written."""


@dataclass(frozen=True)
class KeptRun:
    """A run on the page as it stands at a moment, in progress or ended: its number (from 1), whether its LMs are
    `fake`, the row or inputs that it is `of`, the time of day at which it `began` (both as text), its `state`
    (`at work`, `ended`, `failed` or `stopped`), and its error (None: none).

    `steps` has a text for each call that has ended, `replies` the texts being written by path, `outputs` and `scores`
    are texts by name, `calls` its LM and tool calls when it has ended (empty before, and where it was stopped or
    raised), and `facts` a text of calls, tokens, cost and time. With `hidden`, texts that private values may reach are
    left out.
    """

    number: int
    fake: bool
    of: str
    """The row, or the inputs, that it runs on."""
    began: str
    state: Literal["at work", "ended", "failed", "stopped"] = "at work"
    steps: tuple[str, ...] = ()
    """The calls that have ended so far."""
    replies: Mapping[str, str] = field(default_factory=dict)
    """The replies that are being written, by the path of their step."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    """The scores of a run of the real LMs on a row as it is, by metric; not of those that ask a judge."""
    error: str | None = None
    calls: Sequence[ShownCall] = ()
    facts: str = ""
    hidden: bool = False


@dataclass(frozen=True)
class RunOf:
    """The inputs of a run: as values by name, with the number of the row (0 without rows), from which seeds are
    derived, and in `words` for the page. `columns` are all columns of the data row, for metrics (None: the inputs are
    no row of the data, so that the run is not scored)."""

    inputs: Mapping[str, Any]
    row: int
    words: str
    columns: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Compared:
    """A score, an output or a call of two runs, by its name, with the lines of a unified diff of its text; no lines where it
    is the same."""

    name: str
    lines: Sequence[str]


class Busy(Handled):
    """The error for a run that cannot start because another is in progress."""


class Runs:
    """The runs of one page, of which one at a time is in progress; `tell` is called, from any thread, at each change of the
    runs that the page shows."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._kept: deque[KeptRun] = deque(maxlen=2)
        self._count = 0
        self._stop: Callable[[], None] | None = None
        self._stopping = False
        self._told = 0.0
        self.current: KeptRun | None = None
        """The run in progress; None where there is none."""

    @property
    def last(self) -> list[KeptRun]:
        """The last runs that have ended, failed or been stopped, two at most, the newest first."""
        return list(reversed(self._kept))

    def start(self, program: Program, asked: RunOf, fake: bool, hide: bool) -> int:
        """Start a run of `program` on the inputs `asked` in a thread, and return its number. Raises Busy while another
        is in progress.

        With `fake` the LMs are fakes, and so are tools that write; else both are real. A failure of the run is kept
        with it (`last`). With `hide`, everything that may hold private values of the program is left out of the page.
        """
        with self._lock:
            if self.current is not None:
                raise Busy
            self._count += 1
            began = time.strftime("%H:%M:%S")
            self._stopping = False
            self.current = KeptRun(self._count, fake, asked.words, began, hidden=hide)
        program = program.faked() if fake else program
        threading.Thread(
            target=self._work, args=(program, asked, fake, hide), daemon=True, name="lmprog-dev-run"
        ).start()
        self._tell()
        return self._count

    def stop(self) -> None:
        """Cancel the run in progress, if any, without waiting for its end."""
        with self._lock:
            self._stopping = True  # for a run that has not begun yet
            if self._stop is not None:
                self._stop()  # under the lock, before the run's thread can end, and its loop with it

    def _work(self, program: Program, asked: RunOf, fake: bool, hide: bool) -> None:
        """Make the run in progress, and keep it when it has ended, was stopped or has failed; called in its thread."""
        assert self.current is not None
        started = time.perf_counter()
        try:
            result, scores = run_async(lambda: self._run(program, asked, fake, hide))
            ended = replace(_ended(self.current, program, result, hide), scores=scores)
        except asyncio.CancelledError:
            ended = replace(self.current, state="stopped")
        except LmprogError as error:
            ended = replace(self.current, state="failed", error=str(error))
        except Exception as error:
            # Code of the program's own, as of a tool, may raise anything.
            traceback.print_exc()
            ended = replace(self.current, state="failed", error=_of_defect(error, hide))
        seconds = f"{time.perf_counter() - started:.1f} s"
        with self._lock:
            self._kept.append(replace(ended, facts=", ".join(part for part in (ended.facts, seconds) if part)))
            self.current = self._stop = None
        self._tell()

    async def _run(self, program: Program, asked: RunOf, fake: bool, hide: bool) -> tuple[Result, dict[str, str]]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with self._lock:
            self._stop = stop
            if self._stopping:
                stop()
        options = RunOptions(on_record=self._note, on_text=None if hide else self._write)
        result = await program.run(asked.inputs, example=asked.row, options=options)
        scored = asked.columns is not None and not fake and result.outputs is not None
        return result, await _scores(program, asked, result, hide) if scored else {}

    def _note(self, ended: CallEnded) -> None:
        """Add a call that has ended to the run in progress, in place of its reply that was being written."""
        how = "failed" if ended.error is not None else f"{ended.seconds:.1f} s"
        what = f"tool {ended.tool}" if ended.tool is not None else str(ended.module)
        with self._lock:
            if self.current is not None:
                steps = (*self.current.steps, f"{ended.path} ({what}): {how}")
                others = {path: text for path, text in self.current.replies.items() if path != ended.path}
                self.current = replace(self.current, steps=steps, replies=others)
        self._tell()

    def _write(self, piece: TextPiece) -> None:
        """Add a piece to the reply that is being written (None: begin the reply again); the page changes at most once in
        BETWEEN (0.15) seconds."""
        with self._lock:
            if self.current is None:
                return
            text = "" if piece.text is None else self.current.replies.get(piece.path, "") + piece.text
            self.current = replace(self.current, replies={**self.current.replies, piece.path: text[-LENGTH:]})
            now = time.monotonic()
            if now - self._told < BETWEEN:
                return
            self._told = now
        self._tell()


async def _scores(program: Program, asked: RunOf, result: Result, hide: bool) -> dict[str, str]:
    """Return the scores of a run by metric as texts, with feedback and the reason of a failure unless these may be private
    (`hide`). Metrics that ask a judge or compare runs are left out."""
    found = {}
    for id in program.plan.metrics:
        scorer = Scorer(program, id)
        if judges(program.plan, id) or scorer.compares:
            continue
        try:
            score = await scorer.score(asked.inputs, asked.columns or {}, result, example=asked.row)
        except LmprogError as error:
            found[id] = "failed" if hide else f"failed: {error}"
        else:
            words = f", {score.feedback}" if score.feedback and not hide else ""
            found[id] = f"{score.value:g}{words}"
    return found


def _ended(run: KeptRun, program: Program, result: Result, hide: bool) -> KeptRun:
    """Return a run that has ended with its result as the page shows it; with `hide` without the texts of calls and errors
    and without outputs that private values reach."""
    shown = ShownRows(program.plan)
    outputs = {
        name: cut(as_text(value)) for name, value in (result.outputs or {}).items() if not hide or name in shown.outputs
    }
    calls = shown_calls(result.records)
    error = None
    if result.error is not None:
        error = f"{result.error.path}: {result.error.kind}" if hide else str(result.error)
    if hide:
        calls = [replace(call, parts={}, error=None if call.error is None else "failed") for call in calls]
    usage = usage_of([result.records])
    facts = [f"{usage.lm_calls} LM calls", f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens"]
    facts += [f"${usage.usd:.4f}"] if usage.usd else []
    state: Literal["ended", "failed"] = "ended" if result.error is None else "failed"
    return replace(run, state=state, outputs=outputs, error=error, calls=calls, facts=", ".join(facts))


def _of_defect(error: Exception, hide: bool) -> str:
    return type(error).__name__ if hide else f"{type(error).__name__}: {error}"


def compared(before: KeptRun, after: KeptRun) -> list[Compared]:
    """Return the scores, outputs and calls of two runs, in this order, each with the lines in which its text differs;
    what only one run has is compared with an empty text. Calls are compared by their path, the second at a path with
    the second, and so on."""
    found = []
    for name in dict.fromkeys([*before.scores, *after.scores]):
        found.append(_compared(f"score {name}", before.scores.get(name, ""), after.scores.get(name, "")))
    for name in dict.fromkeys([*before.outputs, *after.outputs]):
        found.append(_compared(f"output {name}", before.outputs.get(name, ""), after.outputs.get(name, "")))
    old, new = _by_place(before.calls), _by_place(after.calls)
    for place in dict.fromkeys([*old, *new]):
        found.append(_compared(place, old.get(place, ""), new.get(place, "")))
    return found


def _compared(name: str, before: str, after: str) -> Compared:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=2)
    return Compared(name, list(lines)[2:])


def _by_place(calls: Sequence[ShownCall]) -> dict[str, str]:
    """Return the texts of calls by their path; a second call at a path and those after it have `, call N` behind it."""
    found: dict[str, str] = {}
    for call in calls:
        place, number = call.path, 1
        while place in found:
            number += 1
            place = f"{call.path}, call {number}"
        found[place] = "\n".join(f"{heading}:\n{text}" for heading, text in call.parts.items())
    return found
