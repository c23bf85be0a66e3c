"""The check before an optimization resumes: the sources that it began from are compared with the current ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lmprog.compiler.plan import Optimize
from lmprog.errors import UsageError
from lmprog.optimizers.journal.events import FILE, read_journal
from lmprog.optimizers.staged.stages import TEST, optimize_config
from lmprog.runtime.program import Program
from lmprog.scoring.data import rows_of
from lmprog.state import identity
from lmprog.state.origin import RUN, Origin, read_origin
from lmprog.state.unchanged import Unchanged

STAGE = re.compile(r"optimize\.stages\[(\d+)\]")


def source_digests(program: Program) -> dict[str, str]:
    """Return digests, by key, of all that an optimization of the program is made from: program, rows, metric, stages.
    Raises UsageError for a split that the program lacks, and RowsError where its rows cannot be read."""
    plan, block = program.plan, optimize_config(program)
    splits = dict.fromkeys((block.train, block.validate, *((TEST,) if TEST in plan.data else ())))
    return {
        **identity.version(),
        **identity.of_program(plan),
        **identity.of_metric(plan, block.metric),
        **{f"data.{split}": identity.of_rows(rows_of(plan, split)) for split in splits},
        **identity.of_optimization(block),
    }


def watched(program: Program) -> Unchanged:
    """Return a watch, begun now, on the files that an optimization reads: program, metric, teachers and data.

    Its `require` raises UsageError where one of them has changed since.
    """
    plan, block = program.plan, optimize_config(program)
    rows = [plan.data[split].path for split in (block.train, block.validate, TEST) if split in plan.data]
    teachers = [path for teacher in block.teachers.values() for path in identity.files_of(teacher)]
    files = identity.files_of(plan, block.metric)
    return Unchanged([*files, *teachers, *(path for path in rows if path is not None)])


def claim(folder: Path, origin: Origin, block: Optimize, resume: bool, restart: str | None) -> tuple[int, bool] | None:
    """Check that a folder is free for a new run, or that the run in it may be resumed; write the origin of a new run
    there.

    Return the number of the stage that `restart` (a number, a name, or `test`, which is one after the last; None: no
    restart) means, and whether earlier stages must be scored again; None without `restart`. Raises UsageError where the
    folder holds a run and neither `resume` nor `restart` is given, where it holds none and one of them is, where
    `restart` means no stage or several, and where the run was begun with another seed, or from other sources than
    `origin` of stages that are not done again. `block` is the program's `optimize`, which names the stages.
    """
    marker = folder / RUN
    recorded = read_origin(marker)
    if recorded is None:
        if resume or restart is not None:
            raise UsageError(f"there is no run in {folder} to resume; leave --resume out to start one there")
        origin.write(marker, private=True)
        return None
    if not resume and restart is None:
        raise UsageError(f"{folder} holds a run already; add --resume to go on with it, or name another folder")
    if not recorded.made_from:
        raise UsageError(
            f"the run in {folder} was begun by an earlier version of lmprog, which did not keep what it is made from; "
            "start a new run in another folder"
        )
    if recorded.seed != origin.seed:
        raise UsageError(
            f"the run in {folder} was started with another seed ({recorded.seed}, now {origin.seed}); "
            "start a new run in another folder"
        )
    first = _number(restart, block) if restart is not None else None
    changed = _changed(recorded.made_from, origin.made_from, first or _begun(folder) + 1)
    if first is None and changed:
        differences = identity.in_words(
            identity.changes(_only(recorded.made_from, changed), _only(origin.made_from, changed))
        )
        raise UsageError(
            f"the run in {folder} was begun from something else: {differences}. Undo that, or begin again what depends on it "
            f"with --restart-stage {_depending(changed, block)}, or start a new run in another folder"
        )
    earlier = [key for key in changed if (stage := STAGE.match(key)) and first and int(stage[1]) + 1 < first]
    if earlier:
        raise UsageError(
            f"`{earlier[0]}` is changed, which is done before {restart}; say --restart-stage {_depending(earlier, block)}"
        )
    return (first, any(key != f"data.{TEST}" for key in changed)) if first is not None else None


def keep_source_digests(folder: Path, origin: Origin) -> None:
    """Write `origin`, with the digests of the current sources, in place of the run's origin; called when `claim` has allowed
    the run to begin or go on, also from changed sources of stages to come."""
    origin.write(folder / RUN, private=True)


def _changed(before: Mapping[str, str], now: Mapping[str, str], first: int) -> list[str]:
    """Return the keys that differ, without those of stages from number `first` on, which are not begun or begin again."""
    keys = [*now, *(key for key in before if key not in now)]
    return [
        key
        for key in keys
        if before.get(key) != now.get(key) and not ((stage := STAGE.match(key)) and int(stage[1]) + 1 >= first)
    ]


def _only(source_digests: Mapping[str, str], keys: list[str]) -> dict[str, str]:
    return {key: source_digests[key] for key in keys if key in source_digests}


def _begun(folder: Path) -> int:
    """Return the number of the last stage that the run has begun; 0 where it has begun none."""
    path = folder / FILE
    events = read_journal(path) if path.exists() else []
    return max((event["number"] for event in events if event["event"] == "stage_started"), default=0)


def _depending(changed: list[str], block: Optimize) -> str:
    """Return the first stage that depends on what has changed (keys of `source_digests`), as --restart-stage takes it: its
    number, or `test` where only test rows have changed. All stages depend on anything but the options of stages."""
    if all(key == f"data.{TEST}" for key in changed):
        return TEST
    stages = [STAGE.match(key) for key in changed]
    return str(min(int(stage[1]) + 1 for stage in stages if stage) if all(stages) else 1)


def _number(restart: str, block: Optimize) -> int:
    """Return the number of the stage that --restart-stage names, by number or name; one after the last for `test`. Raises
    UsageError where there is none, or several stages have the name."""
    names = [stage.optimizer for stage in block.stages]
    if restart == TEST:
        return len(names) + 1
    if restart.isdecimal() and 1 <= int(restart) <= len(names):
        return int(restart)
    if names.count(restart) == 1:
        return names.index(restart) + 1
    stages = ", ".join(f"{number} ({name})" for number, name in enumerate(names, 1))
    raise UsageError(f"--restart-stage {restart}: name one stage by its number, of {stages}, or {TEST}")
