"""`lmprog test`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmprog.cli.environment import with_environment
from lmprog.cli.options import ALLOW_WRITES, also, output_format, overriding, placed
from lmprog.compiler.yaml.whole_file import write_all

if TYPE_CHECKING:
    from lmprog.state.origin import Origin


@click.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path(path_type=Path))
@overriding
@click.option(
    "-k",
    "patterns",
    multiple=True,
    metavar="TEXT",
    help="Run only tests whose spec or name has TEXT in it; of several, any.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Keep every call of LMs and tools in this file.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path),
    help="Answer from this recording: no model is asked, no key is needed, and a call that it does not hold fails.",
)
@click.option(
    "--fake",
    is_flag=True,
    help="Answer with values of the declared types, and look only at whether each test runs: what it expects is not "
    "compared. Ask no model, call no tool that writes.",
)
@ALLOW_WRITES
@placed
@output_format("text", "json", "junit", "markdown")
@also("json", "junit", "markdown")
@with_environment
def command(
    specs: tuple[Path, ...],
    lms: dict[str, str],
    overrides: dict[str, Any],
    patterns: tuple[str, ...],
    record: Path | None,
    replay: Path | None,
    fake: bool,
    allow_writes: bool,
    on: str | None,
    workers: int | None,
    style: str,
    also: dict[str, Path],
) -> None:
    """Run the `tests:` of SPECS: examples with what must hold of their outputs, and scores that must be reached.

    \b
    lmprog test program.yaml
    lmprog test program.yaml --record tests.jsonl         # once, with a key
    lmprog test program.yaml --replay tests.jsonl         # in CI, without one
    lmprog test program.yaml --fake                       # without any model: whether each test runs
    """
    from lmprog.aio.loops import run_async
    from lmprog.reports import tests as report
    from lmprog.runners import opened
    from lmprog.runtime.program import load
    from lmprog.runtime.writes import refuse_writes
    from lmprog.scoring.testing import size_of
    from lmprog.traces.files import refuse_others

    if record is not None and replay is not None:
        raise click.UsageError("--record asks the models and --replay does not; name one of the two")
    if fake and (record is not None or replay is not None):
        raise click.UsageError("--fake makes its replies up; leave --record and --replay out")
    if replay is not None and on is not None:
        raise click.UsageError("--replay answers from the recording, here; leave --on out")
    if record is not None:
        refuse_others(record)
    chosen = []
    for spec in specs:
        program = load(spec, lms=lms, overrides=overrides)
        if not program.plan.tests:
            click.echo(f"{spec} has no tests", err=True)
        named = [(test, f"{spec}: {test.name}".lower()) for test in program.plan.tests]
        wanted = [test for test, name in named if not patterns or any(each.lower() in name for each in patterns)]
        chosen.append((spec, program, wanted))
    if not any(tests for _, _, tests in chosen):
        there = sum(len(program.plan.tests) for _, program, _ in chosen)
        said = " or ".join(map(repr, patterns))
        why = f"none of {there} tests has {said} in it" if there else "there is nothing to run; write `tests:`"
        raise click.UsageError(why)
    if replay is None and not fake:
        refuse_writes(((program.plan, size_of(program, tests)) for _, program, tests in chosen if tests), allow_writes)
    with opened(on, workers, specs[0].parent) as runner:
        placed = [(spec, program.with_runner(runner), tests) for spec, program, tests in chosen]
        found = run_async(lambda: _run(placed, replay, fake, style))
    if record is not None:
        _keep(record, found, _origin(chosen))
    if replay is not None and any(outcome.status != "passed" for outcome in found):
        _say_changes(replay, _origin(chosen))
    written = {"json": report.as_json, "junit": report.junit, "markdown": report.markdown}
    if style == "text":
        click.echo(report.summary(found))
    else:
        click.echo(written[style](found), nl=False)
    write_all({file: written[name](found) for name, file in also.items()})
    statuses = {outcome.status for outcome in found}
    sys.exit(3 if "error" in statuses else 1 if "failed" in statuses else 0)


def _origin(chosen: Sequence[tuple[Path, Any, Any]]) -> Origin:
    """Return the origin of a recording of these programs (spec, program, tests): their names and the digests of all that they
    are made from, by which a later replay can say what has changed.
    """
    from lmprog.state import identity
    from lmprog.state.origin import Origin

    source_digests = dict(identity.version())
    for spec, program, _ in chosen:
        source_digests |= identity.of_program(program.plan, f"{spec.name}: " if len(chosen) > 1 else "")
    return Origin(", ".join(program.plan.name for _, program, _ in chosen), str(chosen[0][0]), source_digests)


def _say_changes(replay: Path, now: Origin) -> None:
    """Say on standard error what differs between the programs as they were recorded in the file `replay` and as they are `now`;
    nothing where no origin is stored beside the recording, or they are equal.
    """
    from lmprog.state import identity
    from lmprog.state.origin import beside, read_origin

    kept = read_origin(beside(replay))
    changed = identity.changes(kept.made_from, now.made_from) if kept is not None else []
    if changed:
        click.echo(f"since {replay} was recorded: {identity.in_words(changed)}", err=True)


async def _run(chosen: Sequence[tuple[Path, Any, Any]], replay: Path | None, fake: bool, style: str) -> list[Any]:
    """Run the tests of programs (spec, program, tests) and return their outcomes; with `style` text, also print each as it
    arrives. With `fake` made-up replies answer, with `replay` the recording in that file (None: the LMs).
    """
    from lmprog.cli.row_progress import RowProgress
    from lmprog.reports.tests import line
    from lmprog.scoring.testing import outcomes, size_of

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = []
    for spec, program, tests in chosen:
        if not tests:
            continue
        asked = program.faked() if fake else program if replay is None else program.replaying(replay)
        with RowProgress(str(spec), size_of(program, tests)) as progress:
            async for outcome in outcomes(asked, spec, tests, progress.advance, compared=not fake):
                found.append(outcome)
                if style == "text":
                    progress.say(line(outcome, colour))
    return found


def _keep(path: Path, found: Sequence[Any], origin: Origin) -> None:
    """Write the records of all outcomes to the file `path`, whole, with `origin` beside it; where an outage ended a test write
    nothing and say so, since a replay would always fail.
    """
    from lmprog.state.json_lines import VERSION
    from lmprog.state.whole_results import WholeResults

    if any(outcome.status == "error" for outcome in found):
        click.echo(f"{path} was not written, since a provider failed", err=True)
        return
    with WholeResults(path, origin, private=True) as file:
        for outcome in found:
            for record in outcome.records:
                file.add({"version": VERSION, **record.as_json()})
        file.keep()
    click.echo(f"recorded in {path}", err=True)
