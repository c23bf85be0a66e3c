"""Feedback of people on runs, kept beside the trace of the runs: a score, a comment, the outputs that were right.

`TRACE.feedback.jsonl` is only appended to. A later line of a run replaces the parts that it has, and null takes a part back.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmprog.boundary.wire import mapping
from lmprog.compiler.findings.finding import suggestion
from lmprog.compiler.types.lattice import MAX_DEPTH, Type, deeper, mismatch
from lmprog.compiler.types.plain_types import type_of_plain
from lmprog.compiler.yaml.whole_file import open_private
from lmprog.errors import UsageError
from lmprog.state.json_lines import PassedOver, cut_torn_line, read_objects, versioned_line
from lmprog.state.ownership import exclusive_writer
from lmprog.traces.run_record import KIND

PARTS = ("score", "comment", "correction")
MAX_COMMENT = 10_000
"""Characters of a comment."""
LOCK_TIMEOUT = 10.0
"""Seconds for which a writer waits while another one appends its lines."""


class WrongFeedback(UsageError):
    """The error for feedback that does not fit; `path` names the part at fault, such as `correction.label`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


def types_in(run: Mapping[str, Any]) -> dict[str, Type]:
    """Return the types of a run's outputs by name, from `run`, the record of the whole run in a trace; empty where it holds
    none."""
    return {name: type_of_plain(kind) for name, kind in mapping(run.get("types")).items()}


def checked(given: Mapping[str, Any], types: Mapping[str, Type]) -> dict[str, Any]:
    """Return the parts of feedback that are given (`score` from 0 to 1, `comment`, `correction`: one or more outputs by
    name), unchanged; a part that is null takes an earlier one back. `types` are those of the program's outputs.

    Raises WrongFeedback for a part that is unknown or does not fit, and where none is given.
    """
    strange = next((name for name in given if name not in PARTS), None)
    if strange is not None:
        raise WrongFeedback(str(strange), f"feedback has no such part; {suggestion(str(strange), PARTS, 'parts')}")
    if not given:
        raise WrongFeedback("feedback", "it is empty; say a score, a comment or a correction")
    score, comment, correction = (given.get(part) for part in PARTS)
    if score is not None and not _is_share(score):
        raise WrongFeedback("score", f"{_shown(score)} is no number from 0 (wrong) to 1 (right)")
    if comment is not None and not isinstance(comment, str):
        raise WrongFeedback("comment", f"{_shown(comment)} is no text")
    if comment is not None and not 0 < len(comment.strip()) <= len(comment) <= MAX_COMMENT:
        fix = "leave it out" if not comment.strip() else f"say it in at most {MAX_COMMENT:,} characters"
        raise WrongFeedback("comment", f"it has {len(comment):,} characters; {fix}")
    if correction is not None:
        _check_correction(correction, types)
    return {part: given[part] for part in PARTS if part in given}


def _check_correction(correction: Any, types: Mapping[str, Type]) -> None:
    if not isinstance(correction, Mapping) or not correction:
        raise WrongFeedback("correction", "it is no object of the program's outputs; write the outputs that were wrong")
    for name, value in correction.items():
        path = f"correction.{name}"
        if name not in types:
            raise WrongFeedback(path, f"the program has no such output; {suggestion(str(name), types, 'outputs')}")
        if deeper(value):
            raise WrongFeedback(path, f"it is nested deeper than {MAX_DEPTH}")
        if problem := mismatch(value, types[name]):
            raise WrongFeedback(path, problem)
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, TypeError):
            raise WrongFeedback(path, "it cannot be written as JSON") from None


def beside(trace: Path) -> Path:
    """Return the path of the file with the feedback on the runs of a trace, `TRACE.feedback.jsonl`; it need not exist. For a
    link to a trace it is beside the file that the link leads to."""
    # Of a link it is beside the file that the link leads to, by whatever name the trace is called.
    trace = trace.resolve()
    return trace.with_name(f"{trace.name}.feedback.jsonl")


def keep(trace: Path, given: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Append feedback on runs to the file beside the trace, all of it, or on a full disk none. `given` are pairs of a
    run's id and its feedback as `checked` returns it; the trace itself is not read.

    Waits while another process appends. Raises OSError where the file cannot be written, and WriterLocked after
    LOCK_TIMEOUT (10) seconds.
    """
    path, now = beside(trace), round(time.time(), 3)
    lines = b"".join(versioned_line({"run": run, "at": now, **parts}) for run, parts in given)
    with exclusive_writer(path, wait=LOCK_TIMEOUT):
        cut_torn_line(path)
        with open_private(path, "ab", buffering=0) as file:
            end = path.stat().st_size
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:
                file.truncate(end)
                raise


def read_feedback(trace: Path, passed_over: PassedOver | None = None) -> dict[str, dict[str, Any]]:
    """Return the feedback on the runs of a trace, by the ids of the runs in the order of their last feedback: a mapping
    of its parts (`score`, `comment`, `correction`), a later part in place of an earlier one. A part that was taken back
    (null) is left out, and so is a run without any part. Empty where there is none.

    Lines that cannot be read, or whose parts have another form, are left out and added to `passed_over` (None: they are
    dropped). Raises UsageError for a line of another version of the file.
    """
    path = beside(trace)
    found: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return found
    for line in read_objects(path, passed_over, _is_feedback):
        parts = {part: line[part] for part in PARTS if part in line}
        whole = {**found.pop(line["run"], {}), **parts}
        # In the order of the last feedback.
        found[line["run"]] = {part: value for part, value in whole.items() if value is not None}
    return {run: parts for run, parts in found.items() if parts}


def read_runs(trace: Path, passed_over: PassedOver | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of whole runs in a trace, as dictionaries, in their order; those of single calls are left out. Raises
    UsageError where there is no such file, or no run in it (then at the end).

    Unreadable lines are left out and added to `passed_over` (None: they are dropped).
    """
    if not trace.is_file():
        raise UsageError(f"there is no trace {trace}; `lmprog run`, `eval` and `serve` write one with --trace {trace}")
    found = calls = False
    for line in read_objects(trace, passed_over):
        calls = calls or line.get("kind") in ("lm", "tool")
        if is_run(line):
            found = True
            yield line
    if not found and calls:
        raise UsageError(
            f"{trace} was written by an earlier version of lmprog, which kept the calls of runs but not their inputs and "
            "outputs; run again with --trace and another file"
        )
    if not found:
        raise UsageError(f"{trace} has no run: name a file that --trace has written")


def is_run(line: Mapping[str, Any]) -> bool:
    """Return whether a line of a trace is the record of a whole run."""
    return (
        line.get("kind") == KIND
        and isinstance(line.get("id"), str)
        and isinstance(line.get("inputs"), Mapping)
        and isinstance(line.get("outputs", {}), Mapping)
    )


def find_run(trace: Path, id: str) -> dict[str, Any] | None:
    """Return the last record of the whole run with this id, as the dictionary of its line; None where the trace has none, or
    does not exist. Only the lines that hold the id are parsed."""
    import mmap

    from lmprog.state.json_lines import object_in

    wanted = id.encode()
    if not wanted or not trace.exists() or not trace.stat().st_size:
        return None
    with trace.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        end = len(whole)
        while (at := whole.rfind(wanted, 0, end)) >= 0:
            start = whole.rfind(b"\n", 0, at) + 1
            stop = whole.find(b"\n", at) + 1 or len(whole)
            line = object_in(whole[start:stop])
            if isinstance(line, dict) and is_run(line) and line["id"] == id:
                return line
            end = start
    return None


def _is_feedback(line: Mapping[str, Any]) -> bool:
    """Return whether a line of a file of feedback names a run, and has parts of the right form."""
    score, comment, correction = (line.get(part) for part in PARTS)
    return (
        isinstance(line.get("run"), str)
        and (score is None or _is_share(score))
        and isinstance(comment, str | None)
        and isinstance(correction, Mapping | None)
    )


def _is_share(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= 1


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
