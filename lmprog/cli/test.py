"""`lmprog test`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lmprog.cli.options import output_format, overriding


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@overriding
@click.option("-k", "pattern", metavar="TEXT", help="Run only tests whose spec or name has TEXT in it.")
@click.option("--record", type=click.Path(path_type=Path), help="Keep every call of LMs and tools in this file.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    help="Answer from this recording: no model is asked, no key is needed, and a call that it does not hold fails.",
)
@output_format("text", "json", "junit")
def command(
    specs: tuple[Path, ...],
    lms: dict[str, str],
    overrides: dict[str, Any],
    pattern: str | None,
    record: Path | None,
    replay: Path | None,
    style: str,
) -> None:
    """Run the `tests:` of SPECS: examples with the outputs expected of them, and scores that must be reached.

    \b
    lmprog test program.yaml
    lmprog test program.yaml --record tests.jsonl         # once, with a key
    lmprog test program.yaml --replay tests.jsonl         # in CI, without one
    """
    from lmprog.loops import run_async
    from lmprog.program import load
    from lmprog.reports import tests as report

    if record is not None and replay is not None:
        raise click.UsageError("--record asks the models and --replay does not; name one of the two")
    chosen = []
    for spec in specs:
        program = load(spec, lms=lms, overrides=overrides)
        if not program.plan.tests:
            click.echo(f"{spec} has no tests", err=True)
        wanted = (pattern or "").lower()
        chosen.append(
            (spec, program, [test for test in program.plan.tests if wanted in f"{spec}: {test.name}".lower()])
        )
    if not any(tests for _, _, tests in chosen):
        there = sum(len(program.plan.tests) for _, program, _ in chosen)
        why = f"none of {there} tests has {pattern!r} in it" if there else "there is nothing to run; write `tests:`"
        raise click.UsageError(why)
    found = run_async(lambda: _run(chosen, replay, style))
    if record is not None:
        _keep(record, found)
    if style == "text":
        click.echo(report.summary(found))
    else:
        click.echo((report.as_json if style == "json" else report.junit)(found), nl=False)
    statuses = {outcome.status for outcome in found}
    sys.exit(3 if "error" in statuses else 1 if "failed" in statuses else 0)


async def _run(chosen: Sequence[tuple[Path, Any, Any]], replay: Path | None, style: str) -> list[Any]:
    """The outcomes, told as they come where a person reads them."""
    from lmprog.cli.row_progress import RowProgress
    from lmprog.lms.replay import replaying
    from lmprog.reports.tests import line
    from lmprog.testing import outcomes, size_of

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = []
    for spec, program, tests in chosen:
        if not tests:
            continue
        asked = program if replay is None else replaying(program, replay)
        with RowProgress(str(spec), size_of(program, tests)) as progress:
            async for outcome in outcomes(asked, spec, tests, progress.advance):
                found.append(outcome)
                if style == "text":
                    progress.say(line(outcome, colour))
    return found


def _keep(path: Path, found: Sequence[Any]) -> None:
    """Write the recording whole, but not where an outage ended a run: a replay would fail for ever."""
    from lmprog.compiler.whole_file import open_private
    from lmprog.trace import as_line

    if any(outcome.status == "error" for outcome in found):
        click.echo(f"{path} was not written, since a provider failed", err=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with open_private(beside, "wb") as file:
        file.writelines(as_line(record.as_json()) for outcome in found for record in outcome.records)
    beside.replace(path)
    click.echo(f"recorded in {path}", err=True)
