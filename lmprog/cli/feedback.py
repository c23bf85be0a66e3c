"""`lmprog feedback`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import as_value, pairs, typed

PART = "correction."
"""The beginning of the name of a column of `--from` that has corrections; the name of an output follows."""


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.argument("run", required=False)
@click.option("--score", type=float, metavar="X", help="From 0 (wrong) to 1 (right).")
@click.option("--comment", metavar="TEXT", help="What was good or bad about the answer.")
@click.option(
    "--correction", multiple=True, metavar="NAME=VALUE", help="An output as it should have been; again for others."
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help=f"Feedback on many runs (jsonl, csv or parquet): columns run, score, comment, {PART}NAME.",
)
def command(
    trace: Path,
    run: str | None,
    score: float | None,
    comment: str | None,
    correction: tuple[str, ...],
    source: Path | None,
) -> None:
    """Say how good a run in TRACE was; it is stored beside the trace, in TRACE.feedback.jsonl.

    RUN is the id of a run as `lmprog trace` shows it, its first characters, or the number of a row that was run once. Later
    feedback replaces the parts that it has.

    \b
    lmprog feedback trace.jsonl 3 --score 1
    lmprog feedback trace.jsonl 5f0c --correction label=refund --comment "asks for the money back"
    lmprog feedback trace.jsonl --from checked.csv
    lmprog rows trace.jsonl --with-feedback -o rows.jsonl
    """
    from lmprog.traces.feedback import beside, keep, read_runs

    given = {"score": score, "comment": comment}
    said = {name: value for name, value in given.items() if value is not None}
    if source is not None and (run is not None or said or correction):
        raise click.UsageError("--from has the runs and what is said of them; give it alone")
    if source is None and run is None:
        raise click.UsageError(f"say which run; `lmprog trace {trace}` shows their ids")
    runs = {line["id"]: line for line in read_runs(trace)}
    if source is not None:
        found = list(_of_file(source, runs, trace))
    else:
        assert run is not None
        line = named(run, runs, trace)
        texts = pairs("--correction", correction)
        fixed = {"correction": {name: _typed(line, name, text) for name, text in texts.items()}} if texts else {}
        found = [(line["id"], _checked(f"{trace}, run {line['id']}", {**said, **fixed}, line))]
    keep(trace, found)
    what = f"run {found[0][0]}" if len(found) == 1 else f"{len(found)} runs"
    click.echo(f"feedback on {what} in {beside(trace)}", err=True)


def named(run: str, runs: Mapping[str, Mapping[str, Any]], trace: Path) -> Mapping[str, Any]:
    """Return the run among `runs` (lines of a trace by id) that `run` names: an id, else the number of a row, else the
    beginning of an id; the first of these that fits any run decides.

    Raises UsageError unless exactly one run fits it; `trace` is the file of the runs, for the message.
    """
    from lmprog.errors import UsageError

    if run in runs:
        return runs[run]
    matching = [line for line in runs.values() if str(line["example"]) == run]
    matching = matching or [line for line in runs.values() if run and line["id"].startswith(run)]
    if not matching:
        raise UsageError(f"{trace} has no run {run!r}; `lmprog trace {trace}` shows their ids")
    if len(matching) > 1:
        ids = ", ".join(line["id"] for line in matching[:5]) + (", ..." if len(matching) > 5 else "")
        raise UsageError(f"{len(matching)} runs of {trace} are named {run!r}: {ids}; say the id of one")
    return matching[0]


def _of_file(source: Path, runs: Mapping[str, Any], trace: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id of a run of `trace` and the checked feedback on it (score, comment, correction) for each row of the file
    `source`; empty cells are left out. `runs` are the lines of the trace by id. Raises UsageError, with the number of the row
    from 0, for one that names no run or does not fit, and for a file without rows.
    """
    from lmprog.compiler.rows.files import read_file
    from lmprog.errors import UsageError

    # In a csv file digits are no number where the output is a text.
    texts = {f"{PART}{name}" for line in runs.values() for name in line.get("types", {}) if _is_text(line, name)}
    rows = list(read_file(source, {"run", "comment", *texts}))
    if not rows:
        raise UsageError(f"{source} has no rows")
    for number, row in enumerate(rows):
        # An empty cell of a table has no part of the feedback.
        row = {name: value for name, value in row.items() if value is not None and value != ""}
        place = f"{source}, row {number}"
        if "run" not in row:
            raise UsageError(f"{place}: the column `run` is empty; it has the id of a run")
        line = named(str(row.pop("run")), runs, trace)
        if isinstance(row.get("score"), str):  # as a csv file has it where other rows have no score
            row["score"] = as_value(row["score"])
        parts = {name.removeprefix(PART): row.pop(name) for name in [*row] if name.startswith(PART)}
        if parts:
            whole = row.get("correction")
            if whole is not None and not isinstance(whole, dict):
                raise UsageError(f"{place}: give `correction`, or the columns {PART}NAME, but not both")
            row["correction"] = {**(whole or {}), **parts}
        yield line["id"], _checked(place, row, line)


def _checked(place: str, given: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feedback `given` on the run of a trace's line, checked against the types of its outputs. Raises UsageError,
    with `place`, where it does not fit.
    """
    from lmprog.errors import UsageError
    from lmprog.traces.feedback import WrongFeedback, checked, types_in

    try:
        return checked(given, types_in(line))
    except WrongFeedback as error:
        raise UsageError(f"{place}: {error}") from None


def _typed(line: Mapping[str, Any], name: str, text: str) -> Any:
    """Return the value of an output `name` for its text on the command line, as `typed` reads it; without a known type the
    text is read as YAML. Raises click.BadParameter where it is no YAML.
    """
    from lmprog.traces.feedback import types_in

    kind = types_in(line).get(name)
    return as_value(text) if kind is None else typed(kind, text)


def _is_text(line: Mapping[str, Any], name: str) -> bool:
    """Return whether an output of the run of a trace's line is a string or enum, perhaps an absent one."""
    from lmprog.compiler.types.lattice import STR, Enum, without_none
    from lmprog.compiler.types.plain_types import type_of_plain

    kind = without_none(type_of_plain(line.get("types", {}).get(name)))
    return kind == STR or isinstance(kind, Enum)
