"""The facts that an optimizer declares of itself, for checks and costs: from a file for built-in ones, else from its class.

The file is made from the classes (`python -m lmprog.optimizers.optimizer`), so that a check imports none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from lmprog.compiler.bounds import calls
from lmprog.compiler.draft import Draft
from lmprog.compiler.optimizing.language import TUNABLE
from lmprog.compiler.plan import Plan

GROUP = "lmprog.optimizers"
"""The group of entry points by which packages offer optimizers."""
FILE = Path(__file__).with_name("built_in.json")
"""The facts of the built-in optimizers, which `python -m lmprog.optimizers.optimizer` writes."""
WEIGHTS = "weights"
WORDS = tuple(part for part in TUNABLE if part != WEIGHTS)
"""The parts of a module that may be tuned, without its weights."""
Runs = Callable[[Mapping[str, Any], int, int], int]
Calls = Callable[[Plan, Mapping[str, Any], int, int], int]


@dataclass(frozen=True, eq=False)
class Facts:
    """The facts that an optimizer declares about itself, by which stages are checked and their cost is bounded; from
    `built_in.json` or from its class.

    `tunes` are the parts of modules that it may change (None: any), `needs_proposer` says that it wants an LM that
    proposes, `takes_teachers` that it takes teacher programs, `compares_runs` that it must see several runs of a row,
    `runs` counts its program runs and `lm_calls` its LM calls (None: no count is declared). The class
    `lmprog.optimizers.optimizer.Optimizer` explains each field.
    """

    options: Any = None
    """The pydantic class of its options (`Config`), or the JSON schema of that class; None where they are not known."""
    tunes: frozenset[str] | None = None
    """The parts of modules that it changes; None where it does not declare them."""
    needs_proposer: bool = False
    takes_teachers: bool = False
    compares_runs: bool = False
    finetunes: frozenset[str] = frozenset()
    """The options that a job of a provider reads; empty if it trains in this process alone."""
    runs: Runs | str | None = None
    """A function from options, train rows and dev rows to the most runs, or its place as `module:function`."""
    lm_calls: Calls | str | None = None
    """A function from plan, options, train rows and dev rows to the most LM calls, or its place as `module:function`;
    None: the calls of its runs."""

    @property
    def trains(self) -> bool:
        """True if the optimizer declares that it changes weights; False also where it does not declare what it changes."""
        return WEIGHTS in (self.tunes or ())

    @property
    def taught(self) -> str:
        """The part of a module that is learnt from teachers' runs: `weights` of an optimizer that trains, else
        `demos`."""
        return WEIGHTS if self.trains else "demos"

    def may_write(self, *parts: str) -> bool:
        """Return whether the optimizer may change one of `parts` of a module; True if it does not declare what it changes."""
        return self.tunes is None or not self.tunes.isdisjoint(parts)

    def most_runs(self, options: Mapping[str, Any], train: int, dev: int) -> int:
        """Return the most program runs of a stage with these options on `train` train rows and `dev` dev rows.

        Where the optimizer declares no count, or it fails for options that are wrong, they are twice the dev rows: those
        that score the start and one change.
        """
        runs = _function(self.runs)
        try:
            return 2 * dev if runs is None else runs(options, train, dev)  # type: ignore[operator]
        except Exception:
            # An option of a wrong type or value, which has a finding of its own.
            return 2 * dev

    def most_calls(self, plan: Plan, options: Mapping[str, Any], train: int, dev: int) -> int:
        """Return the most LM calls of a stage with these options on `train` train rows and `dev` dev rows of the
        program `plan`; where the optimizer declares no count, or it fails for options that are wrong, those of
        `most_runs` runs and of the judges that score them."""
        of_runs = self.most_runs(options, train, dev) * calls(plan)
        counted = _function(self.lm_calls)
        try:
            return of_runs if counted is None else counted(plan, options, train, dev)  # type: ignore[operator]
        except Exception:
            return of_runs


def _function(declared: Any) -> Any:
    """Return the function that a fact holds, or that it names as `module:function`, which is imported; None for None."""
    if not isinstance(declared, str):
        return declared
    module, _, name = declared.partition(":")
    return getattr(import_module(module), name)


UNDECLARED = Facts()
"""The facts of an optimizer of which nothing is known: it may change any part of a module."""


def facts_of(draft: Draft, name: str) -> Facts:
    """Return the facts that the optimizer named `name` declares, such as the parts of modules that it changes.

    UNDECLARED is returned for an optimizer that is not installed, and for one of another package where stage options are
    not checked (`draft.options.stage_configs` is None: the program is compiled to run), since the search for it is slow.
    """
    found = built_in().get(name)
    if found is None and draft.options.stage_configs is not None:
        found = _installed(name)
    return found or UNDECLARED


def teaching_facts(name: str) -> Facts:
    """Return the facts that the optimizer `name` declares, built in or of another package, which is searched for in every
    compilation; UNDECLARED where there is none.
    """
    return built_in().get(name) or _installed(name) or UNDECLARED


@cache
def built_in() -> dict[str, Facts]:
    """Return the facts that each built-in optimizer declares, by its name, from `built_in.json`; none is imported. The
    dictionary is the same in each call, and must not be changed."""
    found = json.loads(FILE.read_text())
    return {
        name: Facts(**{**kept, **{part: frozenset(kept[part]) for part in ("tunes", "finetunes")}})
        for name, kept in found.items()
    }


def declared(optimizer: Any) -> Facts:
    """Return the facts that an optimizer's class declares as attributes, with defaults for those that it leaves out."""
    tunes = getattr(optimizer, "tunes", None)
    return Facts(
        optimizer.Config,
        None if tunes is None else frozenset([tunes] if isinstance(tunes, str) else tunes),
        needs_proposer=bool(getattr(optimizer, "needs_proposer", False)),
        takes_teachers=bool(getattr(optimizer, "takes_teachers", False)),
        compares_runs=bool(getattr(optimizer, "compares_runs", False)),
        finetunes=frozenset(getattr(optimizer, "finetunes", ())),
        runs=getattr(optimizer, "runs", None),
        lm_calls=getattr(optimizer, "lm_calls", None),
    )


@cache
def _installed(name: str) -> Facts | None:
    """Return the facts of the optimizer of another package; None where none of this name is installed, or
    it cannot be imported or has no `Config`."""
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=name):
        try:
            return declared(point.load())
        except (Exception, SystemExit):
            return None  # the look-up of its options says why it cannot be used
    return None
